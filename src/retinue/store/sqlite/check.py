"""Every invariant of the two SQLite files, verified in one read transaction each. Changes nothing."""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Any

import apsw

from retinue import names
from retinue.store.sqlite import files

_LISTED_PER_INVARIANT = 20
_Run = tuple[int, int, int]

_FOLLOWING = "SELECT follower, position FROM following ORDER BY follower, position"
_RUNS = "SELECT follower, first, last FROM following_run ORDER BY follower, first"
_FACTS = {
    "accounts": "SELECT count(*) FROM account",
    "follows": "SELECT count(*) FROM following",
    "largest_displacement": "SELECT ifnull(max(abs(followed_at - position)), 0) FROM following",
}
_ACCESS_FACTS = {
    "clients": "SELECT count(*) FROM client",
    "tokens": "SELECT count(*) FROM token",
}


class SqliteChecker:
    """A `Checker` of both files."""

    def __init__(self, graph: Path, access: Path) -> None:
        self._graph_path = graph
        self._access_path = access
        self._graph = files.open_for_reading(graph, files.GRAPH)
        self._access = files.open_for_reading(access, files.ACCESS)

    async def problems(self) -> AsyncIterator[str]:
        """Every broken invariant as a sentence; damage that stops the reading is the last one of its kind."""
        for path, problems in self._invariants():
            try:
                for count, problem in enumerate(problems):
                    if count == _LISTED_PER_INVARIANT:
                        yield f"{path}: ... and more of this kind"
                        break
                    yield f"{path}: {problem}"
            except apsw.Error as error:
                yield f"{path}: cannot be checked: {error}"

    async def facts(self) -> dict[str, int]:
        """Counts worth knowing."""
        with files.translated():
            return {
                name: int(connection.execute(query).get)
                for connection, queries in ((self._graph, _FACTS), (self._access, _ACCESS_FACTS))
                for name, query in queries.items()
            }

    def close(self) -> None:
        """Give the files back."""
        self._graph.close()
        self._access.close()

    def _invariants(self) -> Iterator[tuple[Path, Iterable[str]]]:
        for path, connection in ((self._graph_path, self._graph), (self._access_path, self._access)):
            yield path, _damage(connection)
            yield path, _dangling(connection)
        for find in (_wrong_names, _wrong_follows, _wrong_runs):
            yield self._graph_path, find(self._graph)
        for path in (self._graph_path, self._access_path):
            yield path, _open_to_others(path)


def _damage(connection: apsw.Connection) -> Iterator[str]:
    """SQLite's own view: pages, order, indexes, NOT NULL, UNIQUE and CHECK."""
    for (line,) in connection.execute("PRAGMA integrity_check"):
        if line != "ok":
            yield f"damaged: {line}"


def _dangling(connection: apsw.Connection) -> Iterator[str]:
    for table, rowid, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        place = "a row" if rowid is None else f"row {rowid}"
        yield f"{place} of table {table} points to a row of {parent} that is not there"


def _wrong_names(connection: apsw.Connection) -> Iterator[str]:
    accounts = "SELECT id, key, folded, username, display_name FROM account"
    for account, key, folded, username, display_name in connection.execute(accounts):
        fault = names.fault_in_username(username)
        if fault:
            yield f"account {account}: username {username!r} {fault}"
        if username != names.as_answered(username):
            yield f"account {account}: username {username!r} is not as answers carry it"
        if "\0" in display_name:
            yield f"account {account}: its display name has a NUL character"
        if folded is not None and folded != names.fold(username):
            yield f"account {account}: found as {folded!r}, which is not its username {username!r} folded"
        if key_fault := names.fault_in_key(key):
            yield f"account {account}: key {key!r} {key_fault}"


def _wrong_follows(connection: apsw.Connection) -> Iterator[str]:
    wrong = connection.execute(
        "SELECT follower, position, followee, followed_at FROM following"
        " WHERE follower = followee OR followed_at = position OR followed_at < 1"
    )
    for follower, position, followee, followed_at in wrong:
        reason = "follows itself" if follower == followee else f"has the wrong true time {followed_at}"
        yield f"list of account {follower}, position {position}: account {followee} {reason}"


def _wrong_runs(connection: apsw.Connection) -> Iterator[str]:
    """Compare the runs that the positions make with those that are stored; both come in the same order."""
    with _one_state(connection):
        made = _runs_of(connection.execute(_FOLLOWING))
        stored: Iterator[_Run] = iter(connection.execute(_RUNS))
        for (follower, first, last), is_stored in _differences(made, stored):
            what = "is stored, but the list has no such run" if is_stored else "is not stored"
            yield f"list of account {follower}: the run of seconds {first} to {last} {what}"


@contextmanager
def _one_state(connection: apsw.Connection) -> Iterator[None]:
    """Let several queries see one state, so that a writer at work does not look like a fault."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        with suppress(apsw.Error):  # damage may have ended the transaction already
            connection.execute("ROLLBACK")


def _runs_of(positions: Iterable[Any]) -> Iterator[_Run]:
    # Adjacent seconds differ from their ordinal number by the same amount.
    numbered = groupby(enumerate(positions), key=lambda item: (item[1][0], item[1][1] - item[0]))
    for (follower, _), group in numbered:
        seconds = [position for _, (_, position) in group]
        if len(seconds) > 1:
            yield follower, seconds[0], seconds[-1]


def _differences(made: Iterator[_Run], stored: Iterator[_Run]) -> Iterator[tuple[_Run, bool]]:
    """What only one of two ordered streams has; the flag tells whether it is the stored one."""
    left, right = next(made, None), next(stored, None)
    while left is not None or right is not None:
        if left == right:
            left, right = next(made, None), next(stored, None)
        elif right is None or (left is not None and left < right):
            assert left is not None
            yield left, False
            left = next(made, None)
        else:
            yield right, True
            right = next(stored, None)


def _open_to_others(path: Path) -> Iterator[str]:
    mode = path.stat().st_mode & 0o777
    if mode & ~files.FILE_MODE:
        yield f"can be used by others (mode {mode:03o}); run chmod 600 on it"
