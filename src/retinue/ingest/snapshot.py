"""A full dump: after its rows are loaded, end the follows that it would hold if they still stood.

The dump's rows are kept in a temporary file and sorted there by owner, so that an owner's rows may lie anywhere in any
file, and memory holds one owner's at a time. They are kept by key, as it was when they were stored: a rename meanwhile
changes nothing. A follow is ended only if nothing that the dump says of its owner was lost: an owner with a lost row is
left alone, and so are all if it cannot be told whose row was lost. A row is lost if it was rejected, or if it names
other accounts than its file did, since halves of characters were replaced.
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
from retinue.errors import InputError
from retinue.ingest import values as read
from retinue.ingest.reasons import reason_of
from retinue.ingest.rows import RawRow
from retinue.ingest.values import BadRecord
from retinue.model import FollowRecord
from retinue.store.contract import GraphWriter, Verdict
from retinue.temporary import TemporaryFolder

_BATCH = 2_000
_LOST = (Verdict.LIST_FULL, Verdict.NO_ACCOUNT)
_NAMES = ("follower", "followee")
_ACCOUNT_NAMES = ("id", "username")
_COLUMNS = {"owner": "VARCHAR", "file": "INTEGER", "followee": "VARCHAR"}


class Ended(Struct, frozen=True):
    """An owner: how many follows were ended, in which file the dump first names it, how many rows it has.

    `is_withheld`: nothing was ended, since what the dump says of it is not complete.
    """

    count: int
    file: int
    rows: int
    is_withheld: bool


class Snapshot:
    """The rows of a dump, all of which stood at the second `at`.

    `withheld` has the owners with lost rows, and the reason of the first one. `nameless` counts the lost rows whose
    owner is not known, `first_nameless` is the reason of the first.
    """

    def __init__(self, at: int) -> None:
        self._folder = TemporaryFolder()
        self._path = self._folder.path / "said"
        self._file = self._path.open("w", encoding="utf-8", newline="\n")
        self._missed: dict[tuple[str, int], str] = {}  # owners, by whatever name, of lost rows
        self.at = at
        self.rows = 0
        self.withheld: dict[str, str] = {}
        self.nameless = 0
        self.first_nameless = ""

    async def keep(
        self, writer: GraphWriter, file: int, records: Sequence[FollowRecord], verdicts: Sequence[Verdict]
    ) -> None:
        """Rows of a file that were read, and what became of them.

        One that was rejected as a follow of oneself or of somebody erased takes nothing from what the others say.
        """
        owners = await writer.keys_of([record.follower for record in records])
        followees = await writer.keys_of([record.followee for record in records])
        for owner, followee, verdict, record in zip(owners, followees, verdicts, records, strict=True):
            is_lost = verdict in _LOST
            if owner is not None:
                self._write(owner, file, "" if is_lost else followee or owner)
            if is_lost:
                self._lose(owner, str(reason_of(verdict, record)))

    def miss(self, file: int, row: RawRow, reason: str) -> None:
        """Take a row of a file as lost: it was rejected unread, or its followee is not the one of the file."""
        owner = _owner_of(row)
        if owner is None:
            self._lose(None, reason)
        else:
            self._missed.setdefault((owner, file), reason)

    def check_names(self, file: int, row: RawRow) -> None:
        """Take a readable row of follows as lost if halves of characters were replaced in its names."""
        for field in _NAMES:
            if field in row.changed:
                self.miss(file, row, str(read.halved(field, row.values[field])))
                return

    def check_account(self, row: RawRow) -> None:
        """Take an account's row as lost if its id or username was changed: any row may mean that account."""
        for field in _ACCOUNT_NAMES:
            if field in row.changed:
                self._lose(None, str(read.halved(field, row.values[field])))
                return

    def _lose(self, owner: str | None, reason: str) -> None:
        if owner is not None:
            self.withheld.setdefault(owner, reason)
            return
        self.nameless += 1
        self.first_nameless = self.first_nameless or reason

    async def end_missing(self, writer: GraphWriter) -> AsyncIterator[Ended]:
        """End what is missing, owner by owner. Call it once, at the end."""
        await self._keep_missed(writer)
        with _translated(), duckdb.connect() as sorter:
            self._file.close()
            sorter.execute("SET memory_limit = '512MB'")
            sorter.execute("SET temp_directory = ?", [str(self._folder.path)])
            rows = _sorted(sorter, self._path)
            for owner, group in itertools.groupby(rows, itemgetter(0)):
                yield await self._end(writer, owner, [(file, followee) for _, file, followee in group])

    def close(self) -> None:
        """Remove the temporary file."""
        self._file.close()
        self._folder.close()

    async def _keep_missed(self, writer: GraphWriter) -> None:
        missed = sorted(self._missed)
        for (name, file), owner in zip(missed, await writer.keys_of([name for name, _ in missed]), strict=True):
            if owner is not None:
                self._write(owner, file, "")
                self._lose(owner, self._missed[name, file])
            elif names.fault_in_username(name):  # it may be a damaged name of any account
                self._lose(None, self._missed[name, file])

    def _write(self, owner: str, file: int, followee: str) -> None:
        """Without a followee: a row of the owner's was lost. Keys are printable: no tabs or line ends are in them."""
        try:
            self._file.write(f"{owner}\t{file}\t{followee}\n")
        except OSError as error:
            raise _no_room(error) from error
        self.rows += 1

    async def _end(self, writer: GraphWriter, owner: str, rows: list[tuple[int, str | None]]) -> Ended:
        if self.nameless or owner in self.withheld:
            return Ended(0, rows[0][0], len(rows), is_withheld=True)
        followees = {followee for _, followee in rows if followee is not None}
        ended = await writer.end_missing(owner, followees, self.at)
        return Ended(ended, rows[0][0], len(rows), is_withheld=False)


def _owner_of(row: RawRow) -> str | None:
    """Return the follower that a lost row names; None if its row, or another one lost with it, may be of any owner."""
    has_line_break = "\n" in row.text or "\r" in row.text  # within quotes: the text may hold rows of others
    if has_line_break or "follower" in row.changed:
        return None
    try:
        return read.name_or_key(row.values, "follower")
    except BadRecord:
        return None


def _sorted(sorter: duckdb.DuckDBPyConnection, path: Path) -> Iterator[tuple[Any, ...]]:
    """The rows by owner and file. Nothing is quoted, and what is empty is None."""
    table = sorter.read_csv(
        str(path), columns=_COLUMNS, sep="\t", quotechar="", escapechar="", header=False, auto_detect=False
    )
    table.create_view("said")
    result = sorter.execute("SELECT owner, file, followee FROM said ORDER BY owner, file")
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
