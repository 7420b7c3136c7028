"""The unit of work: the rules on one keyspace's tables, with prefetching."""

from collections.abc import Iterable, Sequence

from retinue import names
from retinue.model import AccountEvent, AccountRecord, Direction, Event, FollowEvent, FollowRecord
from retinue.store.cassandra import graph_state
from retinue.store.cassandra.accounts import CassandraAccounts, CassandraClaims
from retinue.store.cassandra.lists import CassandraEntries
from retinue.store.cassandra.pairs import CassandraPairs, Kinds
from retinue.store.cassandra.relocations import CassandraRelocations
from retinue.store.cassandra.retry import RetryingSession
from retinue.store.cassandra.row_buffer import RowBuffer
from retinue.store.cassandra.slot_runs import CassandraSlotRuns
from retinue.store.cassandra.table_definitions import ACCOUNT, ACCOUNT_KEY, LIST, PAIR, USERNAME, TableDefinition
from retinue.store.cassandra.tombstones import CassandraFutureEvents, CassandraTombstones
from retinue.store.rules.changes import GraphChanges
from retinue.store.rules.tables import ListTables, Tables
from retinue.store.rules.visibility import VisibilityCache

Follow = tuple[int, int, int]  # follower, followee, second


class CassandraUnitOfWork:
    """A writer's changes, and its caches."""

    def __init__(self, session: RetryingSession, secret: bytes) -> None:
        self.buffer = buffer = RowBuffer(session)
        accounts, relocations = CassandraAccounts(buffer), CassandraRelocations(buffer)
        self.lists = {direction: _kinds(buffer, direction) for direction in Direction}
        self._slot_runs = {direction: CassandraSlotRuns(buffer, direction) for direction in Direction}
        following, followers = self.lists[Direction.FOLLOWING], self.lists[Direction.FOLLOWERS]
        tables = Tables(
            accounts,
            CassandraClaims(buffer),
            CassandraTombstones(buffer, secret),
            CassandraFutureEvents(buffer),
            relocations,
            ListTables(following.visible, following.hidden, self._slot_runs[Direction.FOLLOWING]),
            ListTables(followers.visible, followers.hidden, self._slot_runs[Direction.FOLLOWERS]),
            CassandraPairs(buffer, following, followers),
        )
        self.changes = GraphChanges(tables, VisibilityCache(accounts, relocations))

    def forget(self) -> None:
        """Clear caches: after another writer may have written, or after a failure."""
        self.buffer.forget()
        for direction in Direction:
            self._slot_runs[direction].forget()
            for table in self.lists[direction]:
                table.forget()

    def settle(self) -> None:
        self.buffer.settle()
        for direction in Direction:
            self._slot_runs[direction].forget()
            for table in self.lists[direction]:
                table.settle()

    def begin(self) -> None:
        graph_state.read(self.buffer)
        self.changes.begin()

    # --- prefetching ------------------------------------------------------------------------------------------------

    def prefetch_events(self, events: Sequence[Event]) -> None:
        """Read what events need, in a few rounds."""
        keys: list[str] = []
        for event in events:
            keys += [event.follower, event.followee] if isinstance(event, FollowEvent) else [_key_of(event)]
        accounts = self._accounts(ACCOUNT_KEY, keys)
        unknown = [key for key in keys if key not in accounts]
        self._accounts(ACCOUNT_KEY, map(names.without_at, unknown))
        self._accounts(USERNAME, map(names.fold, unknown))
        self._prefetch(
            (accounts.get(event.follower), accounts.get(event.followee), event.at)
            for event in events
            if isinstance(event, FollowEvent)
        )

    def prefetch_rows(self, records: Sequence[FollowRecord]) -> None:
        mentioned = [name for record in records for name in (record.follower, record.followee)]
        accounts = self._resolve(mentioned)
        self._prefetch(
            (accounts.get(record.follower), accounts.get(record.followee), record.followed_at or record.received_at)
            for record in records
        )

    def prefetch_accounts(self, records: Sequence[AccountRecord]) -> None:
        self._accounts(ACCOUNT_KEY, [record.key for record in records if record.key is not None])
        self._resolve([record.username for record in records if record.username is not None])

    def _resolve(self, mentioned: Sequence[str]) -> dict[str, int]:
        by_key = self._accounts(ACCOUNT_KEY, [*mentioned, *(names.keys_of_name(name)[0] for name in mentioned)])
        by_name = self._accounts(USERNAME, [names.fold(name) for name in mentioned])
        return {
            name: found
            for name in mentioned
            if (found := by_key.get(name) or by_name.get(names.fold(name)) or by_key.get(names.keys_of_name(name)[0]))
        }

    def _accounts(self, table: TableDefinition, mentioned: Iterable[str]) -> dict[str, int]:
        unique = list(dict.fromkeys(mentioned))
        self.buffer.fetch(table, ((one,) for one in unique))
        rows = {one: self.buffer.get(table, (one,)) for one in unique}
        found = {one: int(row[0]) for one, row in rows.items() if row is not None and row[0] is not None}
        self.buffer.fetch(ACCOUNT, ((account,) for account in found.values()))
        return found

    def _prefetch(self, follows: Iterable[tuple[int | None, int | None, int]]) -> None:
        known: list[Follow] = [(a, b, at) for a, b, at in follows if a is not None and b is not None]
        self.buffer.fetch(PAIR, ((a, b) for a, b, _ in known))
        owned = {
            Direction.FOLLOWING: [(a, at) for a, _, at in known],
            Direction.FOLLOWERS: [(b, at) for _, b, at in known],
        }
        kinds = {table.kind for tables in self.lists.values() for table in tables}
        self.buffer.fetch(LIST, ((owner, kind) for of in owned.values() for owner, _ in of for kind in kinds))
        for direction, places in owned.items():
            lists = self.lists[direction]
            old = {owner for owner, _ in places if any(table.partitioning(owner).rows for table in lists)}
            self._slot_runs[direction].learn_empty(owner for owner, _ in places if owner not in old)
            self._slot_runs[direction].fetch(sorted(old))
            lists.visible.fetch((owner, at - 1, at + 1) for owner, at in places if owner in old)


def _key_of(event: Event) -> str:
    if isinstance(event, AccountEvent):
        return event.record.key or ""
    assert not isinstance(event, FollowEvent)
    return event.key


def _kinds(buffer: RowBuffer, direction: Direction) -> Kinds:
    name = direction.value
    return Kinds(*(CassandraEntries(buffer, f"{name}{side}") for side in ("", "_aside", "_ended", "_unbegun")))
