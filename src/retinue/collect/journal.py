"""The journal of a collection: every response in its own line, written before the next request.

Everything else in a collection is computed from it. After a kill at most the unwritten page is requested again.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from retinue.client import responses
from retinue.client.responses import BadResponse, HttpResponse, ListPage, UserInfo
from retinue.errors import InputError

ListName = Literal["following", "followers", "info"]
SYNC_EVERY_PAGES = 1_000
MAX_LINE_BYTES = 64 << 20  # more than the largest response with every byte escaped
_CHUNK_BYTES = 1 << 16


class StartRecord(Struct, frozen=True, tag="begun"):
    """The first line: the server and the start of the collection."""

    server: str
    at: int


class PageRecord(Struct, frozen=True, tag="page"):
    """A page. `before` is the number of earlier rows of the list; `bound` is the cursor of the request."""

    name: str
    list: ListName
    before: int
    bound: int | None
    at: int
    log_id: str
    sha256: str
    body: str

    def page(self) -> ListPage:
        """Parse the page. Raises `InputError`."""
        parsed = responses.parse_page(HttpResponse(responses.OK, self.body.encode()), self.list, self.bound, self.at)
        if isinstance(parsed, BadResponse):
            raise InputError(f"a page of {self.list} of {self.name}: {parsed.message}")
        return parsed


class InfoRecord(Struct, frozen=True, tag="info"):
    """An account's user info, or only the counts of its lists."""

    name: str
    at: int
    log_id: str
    sha256: str
    body: str
    only_counts: bool = False

    def profile(self) -> UserInfo:
        """Parse the profile. Raises `InputError`."""
        parsed = responses.parse_info(HttpResponse(responses.OK, self.body.encode()), self.at)
        if isinstance(parsed, BadResponse):
            raise InputError(f"user info of {self.name}: {parsed.message}")
        return parsed.profile


class UnavailableRecord(Struct, frozen=True, tag="unavailable"):
    """An unavailable account. `reason` is unknown, private or withheld."""

    name: str
    list: ListName
    at: int
    reason: str
    message: str
    log_id: str


JournalRecord = StartRecord | PageRecord | InfoRecord | UnavailableRecord


class Journal:
    """An open journal. Opening it removes a line that a kill cut off."""

    def __init__(self, path: Path) -> None:
        self._encode = msgspec.json.Encoder().encode
        self._file = path.open("ab")
        self._unsynced = 0
        self._file.truncate(_whole_bytes(path))

    def add(self, record: JournalRecord) -> None:
        """Append a record, so that it survives a kill."""
        self._file.write(self._encode(record) + b"\n")
        self._file.flush()
        self._unsynced += 1
        if self._unsynced >= SYNC_EVERY_PAGES:
            self.sync()

    def sync(self) -> None:
        """Make all records survive an outage of the machine."""
        os.fsync(self._file.fileno())
        self._unsynced = 0

    def close(self) -> None:
        """Close the file."""
        self.sync()
        self._file.close()


def records(path: Path, max_bytes: int | None = None) -> Iterator[JournalRecord]:
    """Yield the records of a journal, or of its first bytes. Raises `InputError` for an invalid line."""
    decoder, size = msgspec.json.Decoder(JournalRecord), 0
    require_file(path)
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), 1):
            size += len(line)
            if len(line) == MAX_LINE_BYTES:
                raise InputError(f"{path}: line {number}: is longer than any response")
            if not line.endswith(b"\n") or (max_bytes is not None and size > max_bytes):
                return  # cut off by a kill
            try:
                yield decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise InputError(f"{path}: line {number}: {error}") from None


def require_file(path: Path) -> None:
    """Raise `InputError` for a pipe or device, which may never end."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is not a file")


def _whole_bytes(path: Path) -> int:
    end = path.stat().st_size
    with path.open("rb") as file:
        while end:
            start = max(0, end - _CHUNK_BYTES)
            file.seek(start)
            line_end = file.read(end - start).rfind(b"\n")
            if line_end >= 0:
                return start + line_end + 1
            end = start
    return 0
