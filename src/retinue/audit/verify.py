"""Reading the audit log back: is it what was written, what became of a request, who used how much.

The files of the log are read in their order and compared with its checkpoint in the store. Writes nothing.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from retinue.audit import trusted_time
from retinue.audit.hash_chain import BrokenChain, ChainHead, head_in, next_head, torn_digest
from retinue.audit.record import AuditRecord
from retinue.audit.record_counters import COUNTERS_NAME, RecordsMade, read_made
from retinue.audit.signed_heads import Compared, SignedHead
from retinue.durable import finished_name
from retinue.errors import StoreError
from retinue.store.contract import Checkpoint

MOST_PROBLEMS = 20

_NAME = re.compile(r"[0-9]{15}\.[0-9]{3}\.jsonl")
_TORN = b'"torn":"'
_LOST = b'"lost":'
_REMOVED = b'"removed":{'
_SUMMED = b'"summed":'
_decode = msgspec.json.Decoder(AuditRecord).decode


class Line(Struct, frozen=True, gc=False):
    """A line of the log: where it stands, what it holds without its newline, and whether it has one."""

    path: Path
    number: int
    content: bytes
    is_whole: bool


class Step(Struct, frozen=True):
    """A line that was followed: its link, or what is wrong with it. `is_torn`: a crash has left only its beginning."""

    line: Line
    link: ChainHead
    problem: str = ""
    is_torn: bool = False


class VerifyReport(Struct):
    """The result of verification: how many records, what is wrong, what is worth knowing though nothing is wrong, and
    what is known to be lost.
    """

    records: int
    problems: list[str]
    notes: list[str]
    losses: list[str] = []
    lost: int = 0  # records that were made and are not in the log
    missing: int = 0  # those of them of which the log itself does not say so
    summed: int = 0  # refusals that have no record of their own


def files_of(folder: Path) -> list[Path]:
    """The files of the log, oldest first."""
    return [path for path in _content_of(folder) if _is_of_log(path)]


def name_of(first: int, attempt: int) -> str:
    """A file is named after its first record; where a crash has left one without any, by its attempt."""
    return f"{first:015d}.{attempt:03d}.jsonl"


def first_in(path: Path) -> int:
    """The number of the first record in a file of the log, by its name."""
    return int(path.name[:15])


def _content_of(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"{folder}: the audit log cannot be read: {error.strerror}") from error


def _is_of_log(path: Path) -> bool:
    return _NAME.fullmatch(path.name) is not None and path.is_file()


def lines_of(paths: list[Path]) -> Iterator[Line]:
    """All lines of some files of the log. Raises `StoreError`."""
    for path in paths:
        try:
            with path.open("rb") as file:
                for number, content in enumerate(file, start=1):
                    yield Line(path, number, content.removesuffix(b"\n"), content.endswith(b"\n"))
        except OSError as error:
            raise StoreError(f"{path}: the audit log cannot be read: {error.strerror}") from error


def records_of(folder: Path, checkpoint: Checkpoint) -> Iterator[AuditRecord]:
    """All requests in the log and what is lost of them, oldest first. `verify` names what is not as it was written."""
    before = ChainHead(checkpoint.before_count, checkpoint.before_hash)
    for step in follow(lines_of(_kept(folder, checkpoint)), before, checkpoint.secret):
        if not step.problem and not step.is_torn:
            record = _decode(step.line.content)
            if record.is_request or record.lost:
                yield record


def missing_at_end(folder: Path, checkpoint: Checkpoint) -> RecordsMade | None:
    """Return how many records were made beyond the end of the log, and since when; None if none or unknown."""
    made = read_made(folder)
    last = checkpoint.count
    for line in lines_of(_kept(folder, checkpoint)[-1:]):
        last = max(last, _said(line.content, ChainHead(last, b"")).count)
    if made is None:
        return None
    missing = made.count - last - (made.summing if checkpoint.is_open else 0)
    return RecordsMade(missing, made.since) if missing > 0 else None


def _kept(folder: Path, checkpoint: Checkpoint) -> list[Path]:
    return [path for path in files_of(folder) if first_in(path) > checkpoint.before_count]


def follow(lines: Iterator[Line], before: ChainHead, secret: bytes) -> Iterator[Step]:
    """Follow the chain along lines. After a problem it goes on with what the line itself says of its place."""
    link = before
    torn: Line | None = None
    is_first = True  # what the first one vouches for may have gone with its file
    for line in lines:
        if not line.is_whole:
            torn = line
            continue
        try:
            if torn is not None or not is_first:
                _require_vouched(torn, line, secret)
            torn, is_first = None, False
            link = next_head(line.content, link, secret)
            yield Step(line, link)
        except BrokenChain as broken:
            torn, is_first = None, False
            link = _said(line.content, link)
            yield Step(line, link, problem=str(broken))
    if torn is not None:
        yield Step(torn, link, is_torn=True)


def verify(folder: Path, checkpoint: Checkpoint, heads: Sequence[SignedHead] = ()) -> VerifyReport:
    """Compare the log with its checkpoint, and with heads that others kept.

    A change, removal, swap or addition anywhere is a problem.
    """
    findings, compared = VerifyReport(0, [], []), Compared(heads, checkpoint)
    made = read_made(folder)  # before the log is read, which may grow meanwhile
    findings.problems += _strangers(folder, checkpoint)
    last = ChainHead(checkpoint.before_count, checkpoint.before_hash)
    matches_checkpoint = checkpoint.count == checkpoint.before_count
    for step in follow(lines_of(_kept(folder, checkpoint)), last, checkpoint.secret):
        last = step.link
        _note(findings, step, checkpoint)
        compared.add(step.link, _removed_in(step))
        matches_checkpoint = matches_checkpoint or step.link == ChainHead(checkpoint.count, checkpoint.hash)
    _compare_end(findings, last, checkpoint, matches_checkpoint=matches_checkpoint)
    _compare_made(findings, last, checkpoint, made)
    findings.problems += compared.problems(last)
    findings.notes += compared.notes()
    if findings.summed:
        findings.notes.append(f"{findings.summed} refusals are summed up; the log has no record of each")
    if len(findings.problems) > MOST_PROBLEMS:
        findings.problems[MOST_PROBLEMS:] = [f"and {len(findings.problems) - MOST_PROBLEMS} more"]
    return findings


def _strangers(folder: Path, checkpoint: Checkpoint) -> Iterator[str]:
    """What does not belong there. A file that was just being removed when the server was killed does."""
    for path in _content_of(folder):
        if path.name == COUNTERS_NAME or finished_name(path.name) in trusted_time.FILE_NAMES:
            continue
        if not _is_of_log(path):
            yield f"{path.name}: is no file of the log"
        elif first_in(path) <= checkpoint.before_count and not _ends_with(path, checkpoint):
            yield f"{path.name}: is older than the oldest file that is kept"


def _ends_with(path: Path, checkpoint: Checkpoint) -> bool:
    last: ChainHead | None = None
    with contextlib.suppress(BrokenChain):
        for line in lines_of([path]):
            last = head_in(line.content) if line.is_whole else last
    return last == ChainHead(checkpoint.before_count, checkpoint.before_hash)


def _note(findings: VerifyReport, step: Step, checkpoint: Checkpoint) -> None:
    place = f"{step.line.path.name}, line {step.line.number}"
    if step.problem:
        findings.problems.append(f"{place}: {step.problem}")
    elif step.is_torn and checkpoint.is_open:
        findings.notes.append(f"{place}: the last line is unfinished; the server was killed or its disk was full")
    elif step.is_torn:
        findings.problems.append(f"{place}: the last line is unfinished, though the server was stopped in order")
    else:
        findings.records += 1
        _note_lost(findings, step)
        if _SUMMED in step.line.content:
            findings.summed += _decode(step.line.content).summed


def _removed_in(step: Step) -> AuditRecord | None:
    if step.problem or step.is_torn or _REMOVED not in step.line.content:
        return None
    return _decode(step.line.content)


def _note_lost(findings: VerifyReport, step: Step) -> None:
    if _LOST not in step.line.content:
        return
    record = _decode(step.line.content)
    if record.lost:
        findings.records -= 1
        findings.lost += record.lost
        findings.losses.append(lost_between(record.lost, record.since, record.time))


def lost_between(lost: int, since: int, until: int) -> str:
    """Say that records are lost."""
    return f"{lost} records between {_utc(since)} and {_utc(until)}"


def _utc(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _compare_end(findings: VerifyReport, last: ChainHead, checkpoint: Checkpoint, *, matches_checkpoint: bool) -> None:
    if last.count < checkpoint.count:
        findings.problems.append(
            f"the end is missing: the last record is {last.count}, the store knows {checkpoint.count}"
        )
    elif not matches_checkpoint:
        findings.problems.append(f"record {checkpoint.count} is not the one that the store knows of")
    beyond = last.count - checkpoint.count
    if beyond > 0 and checkpoint.is_open:
        findings.notes.append(f"{beyond} records since the store was told last: the server runs, or was killed")
    elif beyond > 0:
        findings.problems.append(f"{beyond} records follow the last that the store knows of")


def _compare_made(findings: VerifyReport, last: ChainHead, checkpoint: Checkpoint, made: RecordsMade | None) -> None:
    if made is None:
        if checkpoint.is_open and checkpoint.count:
            findings.notes.append(
                "records may be missing at the end: the file that counts what was made is gone or damaged"
            )
        return
    findings.missing = max(0, made.count - max(last.count, checkpoint.count))
    if checkpoint.is_open and made.summing:
        summing = min(made.summing, findings.missing)
        findings.missing -= summing
        findings.notes.append(f"{summing} refusals are being summed up; they are lost if the server was killed")
    findings.lost += findings.missing
    if findings.missing:
        findings.losses.append(
            f"{findings.missing} records at least since {_utc(made.since)}: the next start of the server writes that"
            " into the log; or it runs and could not write them yet"
        )


def _require_vouched(torn: Line | None, after: Line, secret: bytes) -> None:
    """A line is unfinished exactly where the one after it says so, and it is the one that is meant."""
    vouched = ""
    if _TORN in after.content:
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            vouched = _decode(after.content).torn
    if torn is None and vouched:
        raise BrokenChain("an unfinished line before it is missing")
    if torn is not None and vouched != torn_digest(torn.content, secret):
        raise BrokenChain(f"the line before it, {torn.path.name} line {torn.number}, is unfinished or was changed")


def _said(content: bytes, before: ChainHead) -> ChainHead:
    try:
        return head_in(content)
    except BrokenChain:
        return before
