"""The journal of a collection: every page as it came, one line each, before the next one is asked for.

A kill at any instant loses at most a page that had not been written down, which is asked for again. Whatever a
collection knows can be told from its journal alone. Knows no HTTP.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from retinue.client import responses
from retinue.client.responses import BadResponse, HttpResponse, ListPage, Person, UserInfo
from retinue.errors import InputError

ListName = Literal["following", "followers", "info"]
SYNC_EVERY_PAGES = 1_000
MOST_BYTES_OF_A_LINE = 64 << 20  # far more than an answer that a client takes, with every byte escaped
_READ_AT_ONCE = 1 << 16


class StartRecord(Struct, frozen=True, tag="begun"):
    """The first line: whom is asked, and since when."""

    server: str
    at: int


class PageRecord(Struct, frozen=True, tag="page"):
    """A page of a list. `before` is how many rows of the list came before it; `bound` is what was asked with."""

    name: str
    list: ListName
    before: int
    bound: int | None
    at: int
    log_id: str
    sha256: str
    body: str

    def page(self) -> ListPage:
        """The page in it. Raises `InputError`."""
        found = responses.page(HttpResponse(responses.OK, self.body.encode()), self.list, self.bound, self.at)
        if isinstance(found, BadResponse):
            raise InputError(f"a page of {self.list} of {self.name}: {found.message}")
        return found

    def rows(self) -> tuple[Person, ...]:
        """The rows in it."""
        return self.page().rows


class InfoRecord(Struct, frozen=True, tag="info"):
    """An account's user info; `only_counts` if only the counts of its lists were requested."""

    name: str
    at: int
    log_id: str
    sha256: str
    body: str
    only_counts: bool = False

    def profile(self) -> UserInfo:
        """The profile in it. Raises `InputError`."""
        found = responses.info(HttpResponse(responses.OK, self.body.encode()), self.at)
        if isinstance(found, BadResponse):
            raise InputError(f"user info of {self.name}: {found.message}")
        return found.profile


class UnavailableRecord(Struct, frozen=True, tag="unavailable"):
    """The service will not tell. `reason` is unknown, private or withheld."""

    name: str
    list: ListName
    at: int
    reason: str
    message: str
    log_id: str


JournalRecord = StartRecord | PageRecord | InfoRecord | UnavailableRecord


class Journal:
    """A journal that is written to. Lines are whole or not there: what a kill has cut off is removed on opening."""

    def __init__(self, path: Path) -> None:
        self._encode = msgspec.json.Encoder().encode
        self._file = path.open("ab")
        self._unsynced = 0
        self._file.truncate(_whole_bytes(path))

    def add(self, record: JournalRecord) -> None:
        """Write a record down; a kill of the process does not lose it any more."""
        self._file.write(self._encode(record) + b"\n")
        self._file.flush()
        self._unsynced += 1
        if self._unsynced >= SYNC_EVERY_PAGES:
            self.sync()

    def sync(self) -> None:
        """Make what was written last an outage of the machine, too."""
        os.fsync(self._file.fileno())
        self._unsynced = 0

    def close(self) -> None:
        """Close the file."""
        self.sync()
        self._file.close()


def records(path: Path, most: int | None = None) -> Iterator[JournalRecord]:
    """What is in a journal or in its first bytes, oldest first. Raises `InputError` where a line is none of ours."""
    decoder, size = msgspec.json.Decoder(JournalRecord), 0
    require_file(path)
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MOST_BYTES_OF_A_LINE), b""), 1):
            size += len(line)
            if len(line) == MOST_BYTES_OF_A_LINE:
                raise InputError(f"{path}: line {number}: is longer than any answer")
            if not line.endswith(b"\n") or (most is not None and size > most):
                return  # cut off by a kill
            try:
                yield decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise InputError(f"{path}: line {number}: {error}") from None


def require_file(path: Path) -> None:
    """Raise `InputError` if a path leads to a pipe or device, which could be waited for or read for ever."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is not a file")


def _whole_bytes(path: Path) -> int:
    """Up to the end of the last whole line."""
    end = path.stat().st_size
    with path.open("rb") as file:
        while end:
            start = max(0, end - _READ_AT_ONCE)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0
