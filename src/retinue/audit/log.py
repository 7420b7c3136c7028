"""Writing the audit log: JSON lines in a folder, each bound to all before it (`chain.py`), in files that are rotated.

One process writes, which the kernel's lock on the folder guarantees. What cannot be written now, such as on a full
disk, is kept and written first later; nothing is skipped. The checkpoint in the store is moved by whoever owns this.
"""

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from retinue.audit.hash_chain import BrokenChain, ChainHead, head_in, line_of, torn_digest
from retinue.audit.record import AuditRecord
from retinue.audit.refusals import RefusalSummary
from retinue.audit.verify import files_of, first_in, follow, lines_of, name_of
from retinue.durable import sync
from retinue.errors import StoreError
from retinue.locks import open_locked
from retinue.permissions import folder_exposure
from retinue.store.contract import Checkpoint

FOLDER_MODE = 0o700
FILE_MODE = 0o600

_encode = msgspec.json.Encoder().encode


class RotationPolicy(Struct, frozen=True):
    """When a new file is begun."""

    file_bytes: int
    file_seconds: int


class AuditLog:
    """The log as its one writer sees it."""

    def __init__(self, folder: Path, checkpoint: Checkpoint, keeping: RotationPolicy, now: Callable[[], int]) -> None:
        self._folder = folder
        self._secret = checkpoint.secret
        self._keeping = keeping
        self._now = now
        self._lock = lock_of(folder)
        self._file = -1
        self._file_size = 0
        self._file_begun = 0
        self._unwritten = b""
        self.bytes_written = 0  # by this writer, since it began
        self.fault, self._written, torn = _end_of(folder, checkpoint)
        self._link = self._written
        self.has_resumed = bool(torn)
        if torn:
            self._append(_encode(AuditRecord(now(), "", "keeper", 0, "resumed", 0, "", torn=torn)))

    @property
    def written(self) -> ChainHead:
        """The last record that is in the log as a whole."""
        return self._written

    @property
    def has_unwritten(self) -> bool:
        """Whether something could not be written up to now."""
        return bool(self._unwritten)

    @property
    def count(self) -> int:
        """How many records there are, with those that could not be written up to now."""
        return self._link.count

    def write(self, records: Iterable[bytes]) -> None:
        """Write records, as JSON objects. Raises `OSError`; what is not written is kept for `flush`."""
        lines = []
        for record in records:
            line, self._link = line_of(record, self._link, self._secret)
            lines.append(line)
        self._unwritten += b"".join(lines)
        self.flush()

    def add_lost(self, lost: int, since: int) -> None:
        """Say with the next `write` or `flush` that so many records are lost, made between a second and now."""
        self._append(_encode(AuditRecord(self._now(), "", "keeper", 0, "lost", 0, "", since=since)), lost=lost)

    def add_summed(self, summary: RefusalSummary) -> None:
        """Take a record that stands for several, for the next `write` or `flush`."""
        self._append(summary.record, summed=summary.count)

    def flush(self) -> None:
        """Write what could not be written before. Raises `OSError`."""
        while self._unwritten:
            if self._is_full():
                self._begin_file()
            count = os.write(self._file, self._unwritten)
            self._file_size += count
            self.bytes_written += count
            self._unwritten = self._unwritten[count:]
        self._written = self._link

    def sync(self) -> None:
        """Make what is written survive a power loss; may be called from another thread."""
        try:
            copy = os.dup(self._file)
        except OSError:
            return  # a file that is closed was synced then
        try:
            os.fsync(copy)
        finally:
            os.close(copy)

    def leave_removed_file(self) -> bool:
        """Go on in a new file where somebody has removed the one at hand; whether that was so."""
        if self._file < 0 or os.fstat(self._file).st_nlink:
            return False
        if not self._unwritten:
            self._close_file()
        return True

    def close(self) -> None:
        """Give files and folder back, in any case. Raises `OSError`. A second call does nothing."""
        try:
            self._close_file()
        finally:
            if self._lock >= 0:
                os.close(self._lock)
            self._lock = -1

    def _append(self, record: bytes, *, lost: int = 0, summed: int = 0) -> None:
        line, self._link = line_of(record, self._link, self._secret, lost=lost, summed=summed)
        self._unwritten += line

    def _is_full(self) -> bool:
        # A line is never divided between files, so a file ends only where everything before is written.
        return self._file < 0 or (
            self._file_size > 0
            and self._is_at_line_end
            and (
                self._file_size >= self._keeping.file_bytes
                or self._now() - self._file_begun >= self._keeping.file_seconds
            )
        )

    @property
    def _is_at_line_end(self) -> bool:
        return self._unwritten.startswith(b'{"n":')

    def _begin_file(self) -> None:
        self._close_file()
        first = _number_of(self._unwritten)
        for attempt in range(1000):
            with contextlib.suppress(FileExistsError):
                flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND
                self._file = os.open(self._folder / name_of(first, attempt), flags, FILE_MODE)
                break
        else:
            raise OSError(f"too many files begin with record {first}")
        self._file_size = 0
        self._file_begun = self._now()
        sync(self._folder)  # it knows the file, also after a power loss

    def _close_file(self) -> None:
        if self._file >= 0:
            file, self._file = self._file, -1
            try:
                os.fsync(file)
            finally:
                os.close(file)


def lock_of(folder: Path) -> int:
    """Make the folder if needed, and lock it for one writer. Raises `StoreError`."""
    try:
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        sync(folder.parent)
        if exposed := folder_exposure(folder):
            raise StoreError(f"{exposed}, since the audit log is there")
        return open_locked(folder, "another server writes this audit log; one server serves a store")
    except OSError as error:
        raise StoreError(f"{folder}: the audit log cannot be kept here: {error.strerror}") from error


def without_oldest(checkpoint: Checkpoint, last: ChainHead) -> Checkpoint:
    """The checkpoint when the oldest file, with this last record, is kept no more."""
    return structs.replace(checkpoint, before_count=last.count, before_hash=last.hash)


def _end_of(folder: Path, checkpoint: Checkpoint) -> tuple[str, ChainHead, str]:
    """What is wrong with the log's end, the link to go on from, and the digest of a torn last line."""
    link = ChainHead(checkpoint.count, checkpoint.hash)
    paths = files_of(folder)
    begun = [path for path in paths if first_in(path) <= checkpoint.count]
    later = [line for line in lines_of(begun[-1:]) if not _is_up_to(line.content, checkpoint.count)]
    lines = [*later, *lines_of(paths[len(begun) :])]
    for step in follow(iter(lines), link, checkpoint.secret):
        if step.problem:
            return (
                f"{step.line.path.name}, line {step.line.number}: {step.problem}",
                ChainHead(checkpoint.count, checkpoint.hash),
                "",
            )
        if step.is_torn:
            return "", link, torn_digest(step.line.content, checkpoint.secret)
        link = step.link
    return "", link, ""


def _is_up_to(content: bytes, count: int) -> bool:
    try:
        return head_in(content).count <= count
    except BrokenChain:
        return False


def _number_of(line: bytes) -> int:
    number, _, _ = line.removeprefix(b'{"n":').partition(b",")
    return int(number)
