"""Reading the audit log: its files, lines and hash chain. Writes nothing."""

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from retinue.access.contract import Checkpoint
from retinue.audit.hash_chain import BrokenChain, ChainHead, next_head, stated_head, torn_digest
from retinue.audit.record import AuditRecord, RemovedRecords, decode_record
from retinue.audit.record_counters import RecordsMade, read_made
from retinue.errors import StoreError

_NAME = re.compile(r"[0-9]{15}\.[0-9]{3}\.jsonl")
_TORN = b'"torn":"'


class AuditLine(Struct, frozen=True, gc=False):
    """A line of the log, without its newline. `is_whole`: a newline ended it."""

    path: Path
    number: int
    content: bytes
    is_whole: bool

    @property
    def place(self) -> str:
        """The file and line number, for messages."""
        return f"{self.path.name}, line {self.number}"

    @property
    def record(self) -> AuditRecord:
        """The record in the line. Raises `BrokenChain`."""
        try:
            return decode_record(self.content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BrokenChain(str(error)) from error


class ChainStep(Struct, frozen=True):
    """A line and the chain head after it. `is_torn`: a crash left only its beginning."""

    line: AuditLine
    head: ChainHead
    problem: str = ""
    is_torn: bool = False

    @property
    def is_sound(self) -> bool:
        """Whether the line continues the chain."""
        return not self.problem and not self.is_torn


class ExpiredFile(Struct, frozen=True):
    """A file to be removed. `content` is None without records."""

    path: Path
    content: RemovedRecords | None

    @property
    def last(self) -> ChainHead | None:
        """The chain head at the end of the file."""
        return None if self.content is None else ChainHead(self.content.last, bytes.fromhex(self.content.hash))


def files_of(folder: Path) -> list[Path]:
    """Return the files of the log, oldest first. Raises `StoreError`."""
    return [path for path in content_of(folder) if is_log_file(path)]


def content_of(folder: Path) -> list[Path]:
    """Return all names in the log's folder. Raises `StoreError`."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"{folder}: the audit log cannot be read: {error.strerror}") from error


def is_log_file(path: Path) -> bool:
    """Return whether a path is a file of the log."""
    return _NAME.fullmatch(path.name) is not None and path.is_file()


def file_name(first: int, attempt: int) -> str:
    """Return a file's name. `attempt` grows after a crash left one without records."""
    return f"{first:015d}.{attempt:03d}.jsonl"


def first_in(path: Path) -> int:
    """Return the number of a file's first record, by its name."""
    return int(path.name[:15])


def retained_files(folder: Path, checkpoint: Checkpoint) -> list[Path]:
    """Return the files after the checkpoint's beginning."""
    return [path for path in files_of(folder) if first_in(path) > checkpoint.before_count]


def without_oldest(checkpoint: Checkpoint, last: ChainHead) -> Checkpoint:
    """Return the checkpoint without a file that ends with `last`."""
    return structs.replace(checkpoint, before_count=last.count, before_hash=last.hash)


def lines_of(paths: list[Path]) -> Iterator[AuditLine]:
    """Yield all lines of some files. Raises `StoreError`."""
    for path in paths:
        try:
            with path.open("rb") as file:
                for number, content in enumerate(file, start=1):
                    yield AuditLine(path, number, content.removesuffix(b"\n"), content.endswith(b"\n"))
        except OSError as error:
            raise StoreError(f"{path}: the audit log cannot be read: {error.strerror}") from error


def follow(lines: Iterator[AuditLine], before: ChainHead, secret: bytes) -> Iterator[ChainStep]:
    """Yield the steps of the chain. After a problem, continue from the stated head."""
    head = before
    torn: AuditLine | None = None
    is_first = True  # a torn line before the first one may have been removed with its file
    for line in lines:
        if not line.is_whole:
            torn = line
            continue
        try:
            if torn is not None or not is_first:
                _require_vouched(torn, line, secret)
            torn, is_first = None, False
            head = next_head(line.content, head, secret)
            yield ChainStep(line, head)
        except BrokenChain as broken:
            torn, is_first = None, False
            head = _stated_or(line.content, head)
            yield ChainStep(line, head, problem=str(broken))
    if torn is not None:
        yield ChainStep(torn, head, is_torn=True)


def follow_retained(folder: Path, checkpoint: Checkpoint) -> Iterator[ChainStep]:
    """Follow the chain through all retained files."""
    before = ChainHead(checkpoint.before_count, checkpoint.before_hash)
    return follow(lines_of(retained_files(folder, checkpoint)), before, checkpoint.secret)


def records_of(folder: Path, checkpoint: Checkpoint) -> Iterator[AuditRecord]:
    """Yield all sound records of requests and of losses, oldest first."""
    for step in follow_retained(folder, checkpoint):
        if step.is_sound:
            record = step.line.record
            if record.is_request or record.lost:
                yield record


def missing_at_end(folder: Path, checkpoint: Checkpoint) -> RecordsMade | None:
    """Return the records missing at the end; None if none or unknown."""
    made = read_made(folder)
    if made is None:
        return None
    last = checkpoint.count
    for line in lines_of(retained_files(folder, checkpoint)[-1:]):
        last = max(last, _stated_or(line.content, ChainHead(last, b"")).count)
    missing = made.count - last - (made.summing if checkpoint.is_open else 0)
    return RecordsMade(missing, made.since) if missing > 0 else None


def describe_loss(lost: int, since: int, until: int) -> str:
    """Return a phrase such as `3 records between … and …`. Times are Unix seconds."""
    return f"{lost} records between {utc(since)} and {utc(until)}"


def utc(second: int) -> str:
    """Return a Unix second as ISO 8601."""
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _require_vouched(torn: AuditLine | None, after: AuditLine, secret: bytes) -> None:
    vouched = ""
    if _TORN in after.content:
        with contextlib.suppress(BrokenChain):
            vouched = after.record.torn
    if torn is None and vouched:
        raise BrokenChain("an unfinished line before it is missing")
    if torn is not None and vouched != torn_digest(torn.content, secret):
        raise BrokenChain(f"the line before it, {torn.path.name} line {torn.number}, is unfinished or was changed")


def _stated_or(content: bytes, otherwise: ChainHead) -> ChainHead:
    try:
        return stated_head(content)
    except BrokenChain:
        return otherwise
