"""An engine of dicts, and stores on it: what the engines of stores must agree with, in memory and fast."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from retinue.model import Row
from retinue.store.check.invariants import invariants
from retinue.store.layout.sealing import seal
from retinue.store.layout.tables import LAST_SECOND, META, TABLES, Changes, Key, NumberRows, Table, new_meta, pair_key
from retinue.store.reading.reader import LayoutReader
from retinue.store.writer import EngineGraphWriter
from support.frozen_clock import FrozenClock


class DictRows:
    """The rows of a store, shared by its engines."""

    def __init__(self) -> None:
        self.tables: dict[Table, dict[Key, bytes]] = {table: {} for table in TABLES}
        self.commits = 0
        self._order: dict[Table, list[Any]] = {}

    def keys(self, table: Table) -> list[Any]:
        """Return the keys of a table, ascending."""
        if table not in self._order:
            self._order[table] = sorted(self.tables[table])
        return self._order[table]

    def write(self, changes: Changes) -> None:
        """Write rows."""
        rows = self.tables[changes.table]
        for key in changes.deletes:
            rows.pop(key, None)
        rows.update(changes.puts)
        self._order.pop(changes.table, None)


class DictEngine:
    """An `Engine` in memory."""

    has_bulk = True
    group_size = 4_000

    def __init__(self, rows: DictRows | None = None) -> None:
        self._rows = DictRows() if rows is None else rows
        self._commits: int | None = None

    @property
    def tables(self) -> dict[Table, dict[Key, bytes]]:
        """All rows."""
        return self._rows.tables

    def get(self, table: Table, keys: Sequence[Key]) -> list[bytes | None]:
        """Return the values of keys, in their order."""
        return [self.tables[table].get(key) for key in keys]

    def scan(self, table: Table, low: int, high: int, *, reverse: bool = False, limit: int = -1) -> NumberRows:
        """Return the rows from one key to another, both included."""
        keys = self._rows.keys(table)
        begin, end = bisect_left(keys, low), bisect_right(keys, high)
        if limit >= 0:
            begin, end = (max(begin, end - limit), end) if reverse else (begin, min(end, begin + limit))
        chosen = keys[begin:end][::-1] if reverse else keys[begin:end]
        return [(key, self.tables[table][key]) for key in chosen]

    def rows_of(self, table: Table, owners: Sequence[int]) -> list[tuple[int, bytes]]:
        """Return the rows of ascending first numbers, in the order of their keys."""
        assert list(owners) == sorted(set(owners))
        return [row for owner in owners for row in self.scan(table, pair_key(owner, 0), pair_key(owner, LAST_SECOND))]

    def has_rows(self, table: Table) -> bool:
        """Return whether a table has rows."""
        return bool(self.tables[table])

    def all_rows(self, table: Table) -> Iterator[tuple[Any, bytes]]:
        """Yield every row of a table."""
        return iter([(key, self.tables[table][key]) for key in self._rows.keys(table)])

    @contextmanager
    def exclusive(self, *, is_durable: bool = False) -> Iterator[bool]:
        """Hold the store alone; tell whether another engine changed it, or this one failed."""
        is_changed, self._commits = self._commits != self._rows.commits, None
        yield is_changed
        self._commits = self._rows.commits

    def group_seconds(self) -> float:
        """No other writer waits."""
        return 1000.0

    def commit(self, changes: Iterable[Changes]) -> None:
        """Write rows."""
        for each in changes:
            assert [key for key, _ in each.puts] == sorted(dict(each.puts))
            self.write(each)
        self._rows.commits += 1

    def write(self, changes: Changes) -> None:
        """Write rows."""
        self._rows.write(changes)

    def compact(self) -> None:
        """Nothing is left of removed rows."""

    def settle(self) -> None:
        """Nothing to wait for."""

    def close(self) -> None:
        """Nothing to release."""


class _ReadySource:
    """An `AsyncSource` that never suspends."""

    def __init__(self, engine: DictEngine) -> None:
        self._engine = engine

    async def get(self, table: Table, keys: Sequence[Key]) -> list[bytes | None]:
        """Return the values of keys, in their order."""
        return self._engine.get(table, keys)

    async def scan(self, table: Table, low: int, high: int, *, reverse: bool = False, limit: int = -1) -> NumberRows:
        """Return the rows from one key to another."""
        return self._engine.scan(table, low, high, reverse=reverse, limit=limit)


class DictGraph(LayoutReader[Row]):
    """An `OpenGraph` of dicts."""

    def statements_sent(self) -> int:
        """Return 0: nothing goes over a network."""
        return 0

    def close(self) -> None:
        """Nothing to release."""


class DictBackend:
    """An empty store of dicts: a `Backend` without clients and quotas."""

    def __init__(self) -> None:
        self.rows = DictRows()
        self.engine = DictEngine(self.rows)
        self.engine.write(Changes(META, [(key, seal(META, key, content)) for key, content in new_meta().items()], []))

    def open_writer(self, clock: FrozenClock) -> EngineGraphWriter:
        """The graph, for writing."""
        return EngineGraphWriter(DictEngine(self.rows), clock)

    def open_graph(self, clock: FrozenClock) -> DictGraph:
        """The graph, for reading."""
        return DictGraph(_ReadySource(self.engine), clock, Row)

    def open_engine(self) -> DictEngine:
        """The rows themselves."""
        return DictEngine(self.rows)

    def problems(self) -> list[str]:
        """Return the problems that `check` finds."""
        return [problem for problems in invariants(self.engine) for problem in problems]

    def close(self) -> None:
        """Nothing to remove."""
