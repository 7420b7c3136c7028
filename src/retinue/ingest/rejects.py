"""The rejects file: every row that was not loaded, with file, line number, reason and the row itself, as JSON lines."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from retinue.durable import write_atomically
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
        self._replacing = ExitStack()
        self._file: IO[bytes] | None = None

    def add(self, reject: Reject, kind: str) -> None:
        """Keep one row. `kind` is its reason without values."""
        with self._translated():
            if self._file is None:
                unfinished = self._replacing.enter_context(write_atomically(self.path, replaces=True))
                self._file = unfinished.open("wb")
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
            # An erasure may have removed the file, names and all.
            with self._translated(), suppress(FileNotFoundError), self._replacing, file:
                pass

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"{self.path}: rejected rows cannot be written: {error.strerror}") from error
