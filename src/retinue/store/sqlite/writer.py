"""Writing the follow graph: one writer at a time, in transactions short enough for others to get their turn."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from retinue import names
from retinue.clock import Clock
from retinue.model import AccountRecord, FollowRecord
from retinue.store.base import Verdict
from retinue.store.sqlite import files
from retinue.store.sqlite.accounts import Accounts
from retinue.store.sqlite.resolver import Resolver
from retinue.store.sqlite.seconds import Seconds

# The promise is 200 ms; the rest is room for the commit itself and for a slow disk.
TRANSACTION_SECONDS = 0.08

_PAIR = "SELECT position, ifnull(followed_at, position) FROM following WHERE follower = ? AND followee = ?"
_REMOVE = "DELETE FROM following WHERE follower = ? AND position = ?"
_ADD = "INSERT INTO following (follower, position, followee, followed_at) VALUES (?, ?, ?, nullif(?, ?2))"

_Record = TypeVar("_Record")


class SqliteGraphWriter:
    """A `GraphWriter` on one connection. Blocks while it works: for processes that have nothing else to do."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._connection = files.open_for_writing(path, files.GRAPH)
        self._connection.execute("PRAGMA synchronous = NORMAL")  # `settle` waits for the disk once, at the end
        self._connection.execute(f"PRAGMA cache_size = -{2 * files.CACHE_KIB}")
        self._execute = files.executor(self._connection)
        self._clock = clock
        self._resolver = Resolver(self._connection)
        self._accounts = Accounts(self._connection, self._resolver)
        self._seconds = Seconds(self._connection)

    async def add_accounts(self, records: Sequence[AccountRecord], now: int) -> list[Verdict]:
        """Create or change accounts; a verdict for each record."""
        return self._in_short_transactions(records, lambda record: self._accounts.bring(record, now))

    async def add_follows(self, records: Sequence[FollowRecord]) -> list[Verdict]:
        """Store follows in the given order; a verdict for each."""
        return self._in_short_transactions(records, self._add_follow)

    async def settle(self) -> None:
        """Make everything written so far survive a power loss.

        One more commit, of a page that stays the same, waits for the disk; the log holds all earlier ones before it.
        """
        with files.translated():
            self._connection.execute("PRAGMA synchronous = FULL")
            with files.transaction(self._connection):
                self._connection.execute(f"PRAGMA user_version = {files.GRAPH.version}")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()

    def _in_short_transactions(self, records: Iterable[_Record], store: Callable[[_Record], Verdict]) -> list[Verdict]:
        verdicts: list[Verdict] = []
        waiting = iter(records)
        for record in waiting:
            try:
                with files.transaction(self._connection):
                    self._resolver.begin()
                    self._store_some(record, waiting, store, verdicts)
            except BaseException:
                self._resolver.forget()
                raise
        return verdicts

    def _store_some(
        self,
        first: _Record,
        waiting: Iterator[_Record],
        store: Callable[[_Record], Verdict],
        verdicts: list[Verdict],
    ) -> None:
        """Store records until they or the time run out."""
        deadline = self._clock.elapsed() + TRANSACTION_SECONDS
        verdicts.append(store(first))
        while self._clock.elapsed() < deadline:
            record = next(waiting, None)
            if record is None:
                return
            verdicts.append(store(record))

    def _add_follow(self, record: FollowRecord) -> Verdict:
        if self._is_one_new_name(record):
            return Verdict.SELF_FOLLOW
        follower = self._resolver.meant_by(record.follower)
        followee = self._resolver.meant_by(record.followee)
        if follower == followee:
            return Verdict.SELF_FOLLOW
        told = record.followed_at or record.received_at
        stored = self._execute(_PAIR, (follower, followee)).fetchall()
        if not stored:
            return self._place(follower, followee, min(told, record.received_at), record.received_at)
        position, followed_at = stored[0]
        if record.followed_at is None or told >= followed_at:
            return Verdict.DUPLICATE
        self._execute(_REMOVE, (follower, position))
        self._seconds.give_back(follower, position)
        return self._place(follower, followee, told, max(position, record.received_at))

    def _is_one_new_name(self, record: FollowRecord) -> bool:
        """Whether both sides are one name that is not known yet: no account is made just to refuse it."""
        is_one = names.fold(record.follower) == names.fold(record.followee)
        return is_one and not self._resolver.find(record.follower) and not self._resolver.find(record.followee)

    def _place(self, follower: int, followee: int, followed_at: int, latest: int) -> Verdict:
        position = self._seconds.take(follower, followed_at, latest)
        if position is None:
            return Verdict.LIST_FULL
        self._execute(_ADD, (follower, position, followee, followed_at))
        return Verdict.ACCEPTED
