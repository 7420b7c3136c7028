"""Rows that are damaged, at another key, or lost: readers refuse them, or answer as before; `check` names each."""

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest

from retinue.errors import StoreUnavailable
from retinue.model import (
    AccountEvent,
    AccountRecord,
    Direction,
    ErasureEvent,
    Event,
    FollowEvent,
    PageRequest,
    Visibility,
)
from retinue.store.layout import blocks, columns, entries
from retinue.store.layout.tables import LISTS, TABLES, Changes, Engine, Key, Table
from support.backends import FolderBackend
from support.dict_engine import DictBackend
from support.frozen_clock import FrozenClock

NOW = 1_700_000_000
NAMES = ["a", "hub", *(f"f{number}" for number in range(12))]
EVENTS: list[Event] = [
    *(FollowEvent("a", f"f{number}", 1_000 + 10 * number) for number in range(12)),
    *(FollowEvent(f"f{number}", "hub", 2_000) for number in range(12)),
    *(FollowEvent("a", f"f{number}", NOW, is_follow=False) for number in range(3)),
    FollowEvent("a", "f1", NOW - 50),
    AccountEvent(AccountRecord("x", "key of x", "Name of x"), 5),
    AccountEvent(AccountRecord("y", "key of x"), 6),
    AccountEvent(AccountRecord(key="f7", visibility=Visibility.PRIVATE), NOW),
    ErasureEvent("f11", NOW),
]
VISIBLE = {tables.visible for tables in LISTS.values()}
# Tables of rows whose loss a reader cannot notice: a name, a list of one block, slots that are later than starts.
ALONE = {"username", "relocation", "meta"} | {
    table.name for tables in LISTS.values() for table in (tables.visible, tables.hidden, tables.facts)
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists have several blocks."""
    for module in (blocks, entries, columns):
        monkeypatch.setattr(module, "CAPACITY", 3)
    monkeypatch.setattr(entries, "_SPARSE", 1)
    monkeypatch.setattr(entries, "_MERGED", 2)


@pytest.fixture(params=["dict", "folder"])
def backend(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A store of everything, on two engines."""
    made: Any = DictBackend() if request.param == "dict" else FolderBackend()
    writer = made.open_writer(FrozenClock(NOW))

    async def fill() -> None:
        await writer.apply(EVENTS, NOW)
        while await writer.run_maintenance():
            pass
        await writer.apply([AccountEvent(AccountRecord(key="f5", visibility=Visibility.PRIVATE), NOW)], NOW)

    asyncio.run(fill())
    writer.close()
    assert made.problems() == []
    yield made
    made.close()


def seen(backend: Any) -> dict[str, Any]:
    """Return what a new reader gets of each list in pages of two, and None for what it refuses."""
    graph = backend.open_graph(FrozenClock(NOW))
    try:
        return {
            f"{name} {direction.value} {as_of}": asyncio.run(list_of(graph, name, direction, as_of))
            for name in NAMES
            for direction in Direction
            for as_of in (None, NOW - 10)
        }
    finally:
        graph.close()


async def list_of(graph: Any, name: str, direction: Direction, as_of: int | None) -> Any:
    """Return a list page by page; None if it is refused."""
    rows: list[Any] = []
    try:
        account = await graph.find_account(name)
        if account is None:
            return "unknown"
        bound = NOW
        while True:
            page = await graph.read(PageRequest(account.id, direction, bound, 2, as_of))
            rows += [(row.username, row.display_name) for row in page.rows]
            if not page.has_more:
                return rows
            bound = page.oldest - 1
    except StoreUnavailable:
        return None


def put(engine: Engine, table: Table, key: Key, value: bytes | None) -> None:
    """Overwrite or remove a row."""
    with engine.exclusive():
        engine.commit([Changes(table, [] if value is None else [(key, value)], [key] if value is None else [])])


def is_named(backend: Any) -> bool:
    """Return whether `check` finds a problem, or ends with one."""
    try:
        return bool(backend.problems())
    except StoreUnavailable:
        return True


def wrong_values(value: bytes, others: list[bytes], chance: random.Random) -> Iterator[bytes]:
    """Yield damaged forms of a value: a changed bit, a lost end, nothing, and another row's."""
    at = chance.randrange(len(value))
    yield value[:at] + bytes((value[at] ^ 1 << chance.randrange(8),)) + value[at + 1 :]
    yield value[: chance.randrange(len(value))]
    yield b""
    yield from chance.sample(others, min(1, len(others)))


def test_damaged_rows_are_refused_and_named(backend: Any, chance: random.Random) -> None:
    """Every row of every table, in some way."""
    expected, engine = seen(backend), backend.open_engine()
    assert None not in expected.values()
    refused: set[str] = set()
    for table in TABLES:
        rows = dict(engine.all_rows(table))
        for key, value in rows.items():
            others = [other for place, other in rows.items() if place != key and other != value]
            wrong = chance.choice(list(wrong_values(value, others, chance)))
            put(engine, table, key, wrong)
            found = seen(backend)
            assert [] == [name for name, rows in found.items() if rows not in (None, expected[name])], (table, key)
            refused |= {table.name for rows in found.values() if rows is None}
            assert is_named(backend), (table.name, key, wrong)
            put(engine, table, key, value)
    engine.close()
    assert {"account", "username", "following", "following_hidden", "followers", "followers_hidden"} <= refused
    assert expected == seen(backend)
    assert [] == backend.problems()


def test_lost_rows_are_named_and_make_no_hole_in_a_list(backend: Any) -> None:
    """A list lacks no block of several: it is refused. Only one whose single block is lost is empty."""
    expected, engine = seen(backend), backend.open_engine()
    for table in TABLES:
        for key, value in dict(engine.all_rows(table)).items():
            put(engine, table, key, None)
            found = seen(backend)
            wrong = {name: rows for name, rows in found.items() if rows not in (None, expected[name])}
            assert not wrong or table.name in ALONE, (table.name, key, wrong)
            if table in VISIBLE:
                assert all(rows in ([], "unknown") for name, rows in wrong.items() if name.endswith("None")), wrong
            assert is_named(backend), (table.name, key)
            put(engine, table, key, value)
    engine.close()
    assert expected == seen(backend)
