"""Writing the audit log: JSON lines in one hash chain, in files that are rotated.

A lock guarantees a single writer. Records that cannot be written, such as on a full disk, are written later.
"""

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from msgspec import Struct

from retinue.access.contract import Checkpoint
from retinue.audit.hash_chain import BrokenChain, ChainHead, line_of, stated_head, torn_digest
from retinue.audit.log_files import file_name, files_of, first_in, follow, lines_of
from retinue.audit.record import encode_record, log_record
from retinue.durable import sync
from retinue.errors import StoreError
from retinue.locks import open_locked
from retinue.safe_files import folder_exposure

FOLDER_MODE = 0o700
FILE_MODE = 0o600


class RotationPolicy(Struct, frozen=True):
    """The size and age at which a new file is begun."""

    file_bytes: int
    file_seconds: int


class AuditLog:
    """The log, open for its single writer."""

    def __init__(self, folder: Path, checkpoint: Checkpoint, rotation: RotationPolicy, now: Callable[[], int]) -> None:
        self._folder = folder
        self._secret = checkpoint.secret
        self._rotation = rotation
        self._now = now
        self._lock = lock_folder(folder)
        self._file = -1
        self._file_size = 0
        self._file_begun_at = 0
        self._unwritten = b""
        self.bytes_written = 0  # since this object was made
        self.fault, self._written, torn = _end_of(folder, checkpoint)
        self._head = self._written
        self.has_resumed = bool(torn)
        if torn:
            self._append(encode_record(log_record(code="resumed", time=now(), torn=torn)))

    @property
    def written(self) -> ChainHead:
        """The chain head at the end of the files."""
        return self._written

    @property
    def has_unwritten(self) -> bool:
        """Whether records are buffered that could not be written."""
        return bool(self._unwritten)

    @property
    def count(self) -> int:
        """The number of records, including buffered ones."""
        return self._head.count

    def write(self, records: Iterable[bytes]) -> None:
        """Write records, as JSON objects. Raises `OSError`; the rest is buffered for `flush`."""
        lines = []
        for record in records:
            line, self._head = line_of(record, self._head, self._secret)
            lines.append(line)
        self._unwritten += b"".join(lines)
        self.flush()

    def add_lost(self, lost: int, since: int) -> None:
        """Buffer a record of lost records."""
        self._append(encode_record(log_record(code="lost", time=self._now(), since=since)), lost=lost)

    def add_summed(self, record: bytes, count: int) -> None:
        """Buffer a record that stands for a number of refusals."""
        self._append(record, summed=count)

    def flush(self) -> None:
        """Write the buffered records. Raises `OSError`."""
        while self._unwritten:
            if self._is_full():
                self._begin_file()
            count = os.write(self._file, self._unwritten)
            self._file_size += count
            self.bytes_written += count
            self._unwritten = self._unwritten[count:]
        self._written = self._head

    def sync(self) -> None:
        """Make the written records durable. Thread-safe."""
        try:
            copy = os.dup(self._file)
        except OSError:
            return  # a closed file was synced when it was closed
        try:
            os.fsync(copy)
        finally:
            os.close(copy)

    def leave_removed_file(self) -> bool:
        """Leave the current file if it was removed; return whether it was."""
        if self._file < 0 or os.fstat(self._file).st_nlink:
            return False
        if not self._unwritten:
            self._close_file()
        return True

    def close(self) -> None:
        """Release file and lock, even on `OSError`. A second call does nothing."""
        try:
            self._close_file()
        finally:
            if self._lock >= 0:
                os.close(self._lock)
            self._lock = -1

    def _append(self, record: bytes, *, lost: int = 0, summed: int = 0) -> None:
        line, self._head = line_of(record, self._head, self._secret, lost=lost, summed=summed)
        self._unwritten += line

    def _is_full(self) -> bool:
        # A line is never divided between files, so a file ends only where everything before is written.
        return self._file < 0 or (
            self._file_size > 0
            and self._unwritten.startswith(b'{"n":')
            and (
                self._file_size >= self._rotation.file_bytes
                or self._now() - self._file_begun_at >= self._rotation.file_seconds
            )
        )

    def _begin_file(self) -> None:
        self._close_file()
        first = _number_of(self._unwritten)
        for attempt in range(1000):
            with contextlib.suppress(FileExistsError):
                flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND
                self._file = os.open(self._folder / file_name(first, attempt), flags, FILE_MODE)
                break
        else:
            raise OSError(f"too many files begin with record {first}")
        self._file_size = 0
        self._file_begun_at = self._now()
        sync(self._folder)  # the file's name must survive a power loss, too

    def _close_file(self) -> None:
        if self._file >= 0:
            file, self._file = self._file, -1
            try:
                os.fsync(file)
            finally:
                os.close(file)


def lock_folder(folder: Path) -> int:
    """Create the folder if needed and lock it; return the descriptor. Raises `StoreError`."""
    try:
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        sync(folder.parent)
        if exposed := folder_exposure(folder):
            raise StoreError(f"{exposed}, since the audit log is there")
        return open_locked(folder, "another server writes this audit log; one server serves a store")
    except OSError as error:
        raise StoreError(f"{folder}: the audit log cannot be kept here: {error.strerror}") from error


def _end_of(folder: Path, checkpoint: Checkpoint) -> tuple[str, ChainHead, str]:
    head = start = ChainHead(checkpoint.count, checkpoint.hash)
    paths = files_of(folder)
    begun = [path for path in paths if first_in(path) <= checkpoint.count]
    later = [line for line in lines_of(begun[-1:]) if not _is_up_to(line.content, checkpoint.count)]
    lines = [*later, *lines_of(paths[len(begun) :])]
    for step in follow(iter(lines), head, checkpoint.secret):
        if step.problem:
            return f"{step.line.place}: {step.problem}", start, ""
        if step.is_torn:
            return "", head, torn_digest(step.line.content, checkpoint.secret)
        head = step.head
    return "", head, ""


def _is_up_to(content: bytes, count: int) -> bool:
    try:
        return stated_head(content).count <= count
    except BrokenChain:
        return False


def _number_of(line: bytes) -> int:
    number, _, _ = line.removeprefix(b'{"n":').partition(b",")
    return int(number)
