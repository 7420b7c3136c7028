"""Import of a snapshot: after its rows are stored, end the follows that it does not have.

The rows are sorted by owner in a temporary file. Nothing is ended for an owner with a lost row, or for any owner if
that of a lost row is unknown. A row is lost if it was rejected, or if a replaced surrogate changed its names.
"""

import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb
from msgspec import Struct

from retinue import names
from retinue.duck import connect
from retinue.errors import InputError
from retinue.ingest import values as read
from retinue.ingest.records import RawRow
from retinue.ingest.rejects import not_stored
from retinue.ingest.values import BadRecord
from retinue.model import FollowRecord
from retinue.store.contract import GraphWriter, Verdict
from retinue.temporary import TemporaryFolder

_BATCH = 2_000
_LOST = (Verdict.NO_ACCOUNT,)  # not a follow of oneself or of an erased account
_COLUMNS = {"owner": "VARCHAR", "file": "INTEGER", "followee": "VARCHAR"}


class EndedFollows(Struct, frozen=True):
    """The result for an owner: ended follows, its first file, its rows.

    `is_withheld`: nothing was ended, since a row was lost.
    """

    count: int
    file: int
    rows: int
    is_withheld: bool


class Snapshot:
    """The rows of a snapshot: the complete lists of their owners at the second `at`.

    `withheld` has the first reason of each owner with lost rows, and `first_nameless` that of `nameless` lost rows of
    unknown owners.
    """

    def __init__(self, at: int) -> None:
        self._folder = TemporaryFolder()
        self._path = self._folder.path / "rows"
        self._file = self._path.open("w", encoding="utf-8", newline="\n")
        self._missed: dict[tuple[str, int], str] = {}  # reasons by the owner's name in the row, and the file
        self.at = at
        self.rows = 0
        self.withheld: dict[str, str] = {}
        self.nameless = 0
        self.first_nameless = ""

    async def add(
        self, writer: GraphWriter, file: int, records: Sequence[FollowRecord], verdicts: Sequence[Verdict]
    ) -> None:
        """Add rows of a file and their verdicts."""
        owners = await writer.keys_of([record.follower for record in records])
        followees = await writer.keys_of([record.followee for record in records])
        for owner, followee, verdict, record in zip(owners, followees, verdicts, records, strict=True):
            is_lost = verdict in _LOST
            if owner is not None:
                self._write(owner, file, "" if is_lost else followee or owner)
            if is_lost:
                self._lose(owner, str(not_stored(verdict, record)))

    def miss(self, file: int, row: RawRow, reason: str) -> None:
        """Record a row as lost: it could not be read, or its names were changed."""
        owner = _owner_of(row)
        if owner is None:
            self._lose(None, reason)
        else:
            self._missed.setdefault((owner, file), reason)

    def check_names(self, file: int, row: RawRow) -> None:
        """Record a row of follows as lost if its names were changed."""
        if reason := _changed_name(row, ("follower", "followee")):
            self.miss(file, row, reason)

    def check_account(self, row: RawRow) -> None:
        """Record an account's row as lost if its names were changed."""
        if reason := _changed_name(row, ("id", "username")):
            self._lose(None, reason)

    def _lose(self, owner: str | None, reason: str) -> None:
        if owner is not None:
            self.withheld.setdefault(owner, reason)
            return
        self.nameless += 1
        self.first_nameless = self.first_nameless or reason

    async def end_missing(self, writer: GraphWriter) -> AsyncIterator[EndedFollows]:
        """End missing follows, owner by owner, once, after all rows."""
        await self._add_missed(writer)
        with _translated(), connect(None, self._folder.path, memory_limit="512MB") as sorter:
            self._file.close()
            rows = _sorted(sorter, self._path)
            for owner, group in itertools.groupby(rows, itemgetter(0)):
                yield await self._end(writer, owner, [(file, followee) for _, file, followee in group])

    def close(self) -> None:
        """Remove the temporary file."""
        self._file.close()
        self._folder.close()

    async def _add_missed(self, writer: GraphWriter) -> None:
        missed = sorted(self._missed)
        for (name, file), owner in zip(missed, await writer.keys_of([name for name, _ in missed]), strict=True):
            if owner is not None:
                self._write(owner, file, "")
                self._lose(owner, self._missed[name, file])
            elif names.fault_in_username(name):  # the damaged name may be any account's
                self._lose(None, self._missed[name, file])

    def _write(self, owner: str, file: int, followee: str) -> None:
        # No followee: a row of the owner was lost. Keys are printable, so they have no tabs or line ends.
        try:
            self._file.write(f"{owner}\t{file}\t{followee}\n")
        except OSError as error:
            raise _no_room(error) from error
        self.rows += 1

    async def _end(self, writer: GraphWriter, owner: str, rows: list[tuple[int, str | None]]) -> EndedFollows:
        if self.nameless or owner in self.withheld:
            return EndedFollows(0, rows[0][0], len(rows), is_withheld=True)
        followees = {followee for _, followee in rows if followee is not None}
        ended = await writer.end_missing(owner, followees, self.at)
        return EndedFollows(ended, rows[0][0], len(rows), is_withheld=False)


def _changed_name(row: RawRow, fields: Sequence[str]) -> str:
    reasons = (str(read.halved(field, row.values[field])) for field in fields if field in row.changed)
    return next(reasons, "")


def _owner_of(row: RawRow) -> str | None:
    """Return the follower of a lost row, if known."""
    has_line_break = "\n" in row.text or "\r" in row.text  # within quotes: the text may hold rows of others
    if has_line_break or "follower" in row.changed:
        return None
    try:
        return read.name_or_key(row.values, "follower")
    except BadRecord:
        return None


def _sorted(sorter: duckdb.DuckDBPyConnection, path: Path) -> Iterator[tuple[Any, ...]]:
    # Nothing is quoted, and an empty followee is None.
    table = sorter.read_csv(
        str(path), columns=_COLUMNS, sep="\t", quotechar="", escapechar="", header=False, auto_detect=False
    )
    table.create_view("row")
    result = sorter.execute("SELECT owner, file, followee FROM row ORDER BY owner, file")
    while batch := result.fetchmany(_BATCH):
        yield from batch


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OSError, duckdb.Error) as error:
        raise _no_room(error) from error


def _no_room(error: Exception) -> InputError:
    cause = str(error).partition("\n")[0]
    return InputError(f"the snapshot's temporary file: {cause} (TMPDIR says where they are)")
