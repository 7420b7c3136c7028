"""Damage in a cluster: readers refuse it, or answer as before; `check` names it."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from retinue.errors import StoreUnavailable
from retinue.model import AccountEvent, AccountRecord, Direction, Event, FollowEvent, PageRequest, Row, Visibility
from retinue.store.cassandra.graph import CassandraGraph
from retinue.store.cassandra.places import PLACES, PLAIN, slot_of
from retinue.store.layout import blocks, columns, entries
from retinue.store.layout.tables import TABLES, Key, Table
from support.clusters import NOW, ClusterStore, run

NAMES = ["a", "hub", *(f"f{number}" for number in range(16))]
EVENTS: list[Event] = [
    *(FollowEvent("a", f"f{number}", 1_000 + 10 * number) for number in range(16)),
    *(FollowEvent(f"f{number}", "hub", 2_000) for number in range(16)),
    *(FollowEvent("a", f"f{number}", NOW, is_follow=False) for number in range(3)),
    FollowEvent("a", "f1", NOW - 50),
    AccountEvent(AccountRecord("x", "key of x", "Name of x"), 5),
    AccountEvent(AccountRecord(key="f7", visibility=Visibility.PRIVATE), NOW),
]
_PUT = "INSERT INTO {} (key, value) VALUES (?, ?) USING TIMESTAMP ?"
_PUT_AT_SLOT = "INSERT INTO {} (owner, part, kind, slot, value) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"

_POINT = "INSERT INTO {} (owner, part, kind, slot, value, child) VALUES (?, 0, 0, ?, ?, ?) USING TIMESTAMP ?"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch, small_parts: None) -> Iterator[None]:
    """Lists have several blocks, and several parts."""
    for module in (blocks, entries, columns):
        monkeypatch.setattr(module, "CAPACITY", 2)
    monkeypatch.setattr(entries, "_SPARSE", 1)
    monkeypatch.setattr(entries, "_MERGED", 1)
    return iter([None])


class Damaged:
    """A store whose rows are damaged one after the other, and repaired."""

    def __init__(self, store: ClusterStore) -> None:
        self._store = store
        self._timestamp = 1 << 60  # above the times of lightweight transactions too
        writer = store.writer_with(lambda: None, 0)
        for events in (EVENTS[:32], EVENTS[32:]):  # the lists are divided before they become shorter
            run(writer.apply(events, NOW))
        while run(writer.run_maintenance()):
            pass
        self.rows = store.stored()
        self.parts = {
            (table.name, owner, slot): part
            for table in TABLES
            if table not in PLAIN
            for owner, part, slot, value in store.session.rows(
                f"SELECT owner, part, slot, value FROM {PLACES[table].name} WHERE kind = ? ALLOW FILTERING",
                (PLACES[table].kind,),
            )
            if value
        }

    def put(self, table: Table, key: Key, value: bytes) -> None:
        """Overwrite a row."""
        self._timestamp += 1
        if table in PLAIN:
            self._store.session.write(_PUT.format(table.name), (key, value, self._timestamp))
            return
        place, (owner, slot) = PLACES[table], slot_of(table, key)
        where = owner, self.parts[table.name, owner, slot], place.kind, slot
        self._store.session.write(_PUT_AT_SLOT.format(place.name), (*where, value, self._timestamp))

    def pointers(self, table: str) -> list[tuple[int, int, bytes, int]]:
        """Return owner, slot, value and child of the pointers to visible blocks."""
        rows = self._store.session.rows(f"SELECT owner, slot, value, child FROM {table} WHERE kind = 0 ALLOW FILTERING")
        return [(owner, slot, value, child) for owner, slot, value, child in rows if child is not None]

    def point(self, table: str, owner: int, slot: int, value: bytes, child: int) -> None:
        """Overwrite a pointer."""
        self._timestamp += 1
        self._store.session.write(_POINT.format(table), (owner, slot, value, child, self._timestamp))

    def seen(self) -> dict[str, Any]:
        """Return what a new reader gets of each list, and None for what it refuses."""
        graph = CassandraGraph(self._store.session, self._store.clock, Row)
        return {
            f"{name} {direction.value} {as_of}": self._list_of(graph, name, direction, as_of)
            for name in NAMES
            for direction in Direction
            for as_of in (None, NOW - 10)
        }

    def _list_of(self, graph: CassandraGraph[Row], name: str, direction: Direction, as_of: int | None) -> Any:
        try:
            account = run(graph.find_account(name))
            assert account is not None
            page = run(graph.read(PageRequest(account.id, direction, NOW, 100, as_of)))
        except StoreUnavailable:
            return None
        return [(row.username, row.display_name) for row in page.rows]


def wrong_values(value: bytes, others: list[bytes], chance: random.Random) -> list[bytes]:
    """Return damaged forms of a value: a changed bit, a lost end, nothing, and another row's."""
    at = chance.randrange(len(value))
    flipped = value[:at] + bytes((value[at] ^ 1 << chance.randrange(8),)) + value[at + 1 :]
    return [flipped, value[: chance.randrange(len(value))], b"", *chance.sample(others, min(1, len(others)))]


def test_damaged_rows_are_refused_and_named(cluster_store: ClusterStore, chance: random.Random) -> None:
    """Blocks, facts, histories, accounts and names, each in some way: no reader gets a wrong row."""
    damaged = Damaged(cluster_store)
    expected = damaged.seen()
    assert None not in expected.values()
    refused: set[str] = set()
    for table in TABLES:
        for key, value in damaged.rows[table.name].items():
            others = [other for place, other in damaged.rows[table.name].items() if place != key and other != value]
            wrong = chance.choice(wrong_values(value, others, chance))
            damaged.put(table, key, wrong)
            found = damaged.seen()
            assert [] == [name for name, rows in found.items() if rows not in (None, expected[name])], (table, key)
            refused |= {table.name for rows in found.values() if rows is None}
            assert cluster_store.backend.problems(), (table.name, key, wrong)
            damaged.put(table, key, value)
    assert damaged.pointers("following")
    for name in ("following", "followers"):
        for owner, slot, value, child in damaged.pointers(name):
            for broken in ((b"", child), (value, child + 1)):
                damaged.point(name, owner, slot, *broken)
                found = damaged.seen()
                assert [] == [name for name, rows in found.items() if rows not in (None, expected[name])], (
                    table,
                    owner,
                )
                assert None in found.values()
                assert cluster_store.backend.problems()
            damaged.point(name, owner, slot, value, child)
    assert {"account", "username", "following", "following_hidden", "followers", "followers_hidden"} <= refused
    assert expected == damaged.seen()
    assert [] == cluster_store.backend.problems()
