"""The rejects file: every row that was not loaded, with file, line number, reason and the row itself, as JSON lines."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from retinue.durable import sync
from retinue.errors import StoreError
from retinue.printable import printable_lines


class Reject(Struct, frozen=True):
    """A row that was not loaded."""

    file: str
    line: int
    reason: str
    text: str


class Group(Struct):
    """The rejects of a file with the same fault: how many they are, and the first one."""

    first: Reject
    count: int = 0


class RejectsFile:
    """Replaces the rejects of earlier imports when it is closed, if there are any; several imports may run at once.

    Only its owner may read it: it holds names, and erasure must be able to find it beside the store.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.groups: dict[tuple[str, str], Group] = {}
        self._unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
        self._file: IO[bytes] | None = None

    def add(self, reject: Reject, kind: str) -> None:
        """Keep one row. `kind` is its reason without values."""
        with self._translated():
            if self._file is None:
                self._file = os.fdopen(os.open(self._unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")
            self._file.write(printable_lines(msgspec.json.encode(reject).decode()).encode() + b"\n")
        self.count += 1
        self.groups.setdefault((reject.file, kind), Group(reject)).count += 1

    def flush(self) -> None:
        """Hand everything to the operating system, so that a killed import keeps it."""
        if self._file is not None:
            with self._translated():
                self._file.flush()

    def close(self) -> None:
        """Finish the file. A second call does nothing."""
        if (file := self._file) is not None:
            self._file = None
            with self._translated(), self._removed_on_error():
                with file:
                    file.flush()
                    os.fsync(file.fileno())
                with suppress(FileNotFoundError):  # an erasure has removed it, names and all
                    self._unfinished.rename(self.path)
                    sync(self.path.parent)

    @contextmanager
    def _removed_on_error(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            with suppress(OSError):
                self._unfinished.unlink(missing_ok=True)
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"{self.path}: rejected rows cannot be written: {error.strerror}") from error
