"""The layout of lists: blocks, columns of them and slots agree with their slow twins, and damage is noticed."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retinue.errors import StoreUnavailable
from retinue.model import Direction
from retinue.store.layout import slots
from retinue.store.layout.blocks import CAPACITY, Block, Entry
from retinue.store.layout.columns import decode_blocks, encode_blocks
from retinue.store.layout.histories import decode_moments
from retinue.store.layout.lists import ListFacts, Lists
from retinue.store.layout.relocations import decode_relocation
from retinue.store.layout.rows import Rows
from retinue.store.layout.sealing import seal, seal_all, unseal
from retinue.store.layout.slot_arrays import place, runs
from retinue.store.layout.tables import ACCOUNT, LISTS, USERNAME, Table, pair_key
from support.dict_engine import DictEngine

TABLE = LISTS[Direction.FOLLOWERS].visible
SLOTS = st.integers(1, 400)
SEEDS = st.integers(0, 1 << 32)  # of long lists: Hypothesis draws too few values for one
SLOT_SETS = st.sets(SLOTS, max_size=150)


def entries_at(positions: Sequence[int], displaced: set[int], ended: set[int]) -> list[Entry]:
    """Entries at positions, some away from their start, some ended."""
    return [
        Entry(at, 1000 + at % 7, at + 5 if at in displaced else at, at + 9 if at in ended else 0)
        for at in sorted(positions)
    ]


@given(st.sets(SLOTS, max_size=CAPACITY), st.sets(SLOTS), st.sets(SLOTS))
def test_a_block_is_read_as_it_was_written(positions: set[int], displaced: set[int], ended: set[int]) -> None:
    """Encoding and decoding lose nothing, one by one and in columns."""
    expected = entries_at(sorted(positions), displaced, ended)
    block = Block()
    for entry in expected:
        block.insert(entry)
    key = pair_key(7, 0)
    again = Block.decode(TABLE, key, block.encode())
    columns = decode_blocks(TABLE, [key], [block.encode()])

    assert list(again.newest_first())[::-1] == expected
    assert list(zip(*(column.tolist() for column in columns[1:]), strict=True)) == expected
    assert set(columns.owners.tolist()) <= {7}


@given(st.lists(st.tuples(SLOT_SETS, SLOT_SETS, SLOT_SETS), min_size=1, max_size=4))
def test_columns_are_cut_into_blocks_that_hold_the_same(lists: list[tuple[set[int], set[int], set[int]]]) -> None:
    """For lists of any size, also of several blocks."""
    rows = [
        (owner, *entry)
        for owner, (positions, displaced, ended) in enumerate(lists, 1)
        for entry in entries_at(sorted(positions), displaced, ended)
    ]
    table = np.array(rows, np.int64).reshape(-1, 5)
    packed = list(
        encode_blocks(
            decode_blocks(TABLE, [], [])._replace(
                **dict(zip(("owners", "positions", "accounts", "starts", "ends"), table.T, strict=True))
            )
        )
    )
    again = decode_blocks(TABLE, [key for key, _ in packed], [content for _, content in packed])

    assert np.array_equal(np.column_stack(again), table)
    assert [key for key, _ in packed] == sorted(key for key, _ in packed)
    assert all(len(Block.decode(TABLE, key, content)) <= CAPACITY for key, content in packed)


@settings(max_examples=60)
@given(SEEDS, st.sampled_from([8, 90]), st.sampled_from([3, slots.MIN_RUN]))
def test_an_entry_has_the_nearest_free_slot_and_is_found_by_its_start(seed: int, last: int, minimum: int) -> None:
    """For every sequence of entries that come and go, in a list so crowded that its runs are long."""
    random = Random(seed)
    lists = Lists(Rows(DictEngine()), LISTS[Direction.FOLLOWING])
    occupied: dict[int, Entry] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slots, "MIN_RUN", minimum)
        for number in range(1, random.randrange(2, 3 * last)):
            start = random.randrange(1, last)
            if random.random() < 0.6 or not occupied:
                free = [slot for slot in range(start, 0, -1) if slot not in occupied]
                expected = free[0] if free else next(slot for slot in range(start, 1000) if slot not in occupied)
                assert lists.slots.seek(5, start) == expected
                occupied[expected] = Entry(expected, number, start)
                lists.add(5, occupied[expected], is_visible=number % 3 > 0)
            else:
                slot = min(occupied, key=lambda each: abs(each - start))
                assert lists.remove(5, slot) == occupied.pop(slot)

    assert {entry.position: entry for entry in lists.newest_first(5)} == occupied
    assert all(lists.find(5, entry.account, entry.start) == entry for entry in occupied.values())
    assert all(lists.slots.is_occupied(5, slot) == (slot in occupied) for slot in range(1, 350))


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sets(st.integers(60, 100)), st.lists(st.integers(60, 100), max_size=20)), max_size=4))
def test_slots_of_a_group_equal_those_found_one_by_one(lists: list[tuple[set[int], list[int]]]) -> None:
    """For every list with occupied slots, and follows from newest to oldest."""
    wanted, taken, expected = [], [], []
    for number, (occupied, seconds) in enumerate(lists):
        taken += [(number << 33) + second for second in sorted(occupied)]
        found = set(occupied)
        slots = []
        for second in sorted(seconds, reverse=True):
            slot = next(slot for slot in range(second, 0, -1) if slot not in found)
            found.add(slot)
            slots.append(slot)
        wanted += [(number, second) for second in sorted(seconds)]
        expected += slots[::-1]
    table = np.array(wanted, np.int64).reshape(-1, 2)

    assert expected == place(table[:, 0], table[:, 1], np.array(taken, np.int64)).tolist()


@given(st.lists(st.sets(st.integers(1, 60)), max_size=4), st.integers(1, 5))
def test_runs_are_as_long_as_possible(lists: list[set[int]], minimum: int) -> None:
    """For every set of occupied slots."""
    expected = []
    for number, occupied in enumerate(lists):
        for first in sorted(slot for slot in occupied if slot - 1 not in occupied):
            last = next(slot for slot in range(first, 100) if slot + 1 not in occupied)
            expected += [(number, first, last)] if last - first + 1 >= minimum else []
    table = np.array([(number, slot) for number, occupied in enumerate(lists) for slot in sorted(occupied)], np.int64)
    table = table.reshape(-1, 2)

    found = runs(table[:, 0], table[:, 1], minimum)
    assert expected == list(zip(*(column.tolist() for column in found), strict=True))


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.text(), st.binary(max_size=40))))
def test_rows_are_sealed_together_as_one_by_one(rows: list[tuple[int, str, bytes]]) -> None:
    """Rows with numbers and with texts as keys get the same checksums."""
    numbered = [(number, content) for number, _, content in rows]
    named = [(text, content) for _, text, content in rows]

    assert seal_all(ACCOUNT, numbered) == [(key, seal(ACCOUNT, key, content)) for key, content in numbered]
    assert seal_all(USERNAME, named) == [(key, seal(USERNAME, key, content)) for key, content in named]


@given(st.binary(max_size=40), st.integers(0, 320), st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_a_value_belongs_to_its_key_alone(content: bytes, bit: int, key: int, other: int) -> None:
    """A flipped bit, another key and another table are noticed."""
    value = seal(ACCOUNT, key, content)
    assert unseal(ACCOUNT, key, value) == content
    at = bit % (8 * len(value))
    flipped = bytearray(value)
    flipped[at // 8] ^= 1 << at % 8
    damages: list[tuple[Table, int | str, bytes]] = [
        (ACCOUNT, key, bytes(flipped)),
        (LISTS[Direction.FOLLOWING].facts, key, value),
        (USERNAME, str(key), value),
    ]
    if other != key:
        damages.append((ACCOUNT, other, value))
    for damage in damages:
        with pytest.raises(StoreUnavailable, match="damaged"):
            unseal(*damage)


@pytest.mark.parametrize(
    "content", [b"", b"abc", b"\x02\0\0\0", b"\x01\x01\0\0\x05\0\0\0\x07\0\0\0", bytes([121]) + bytes(971)]
)
def test_a_block_that_is_not_whole_is_refused(content: bytes) -> None:
    """By both readers of blocks."""
    with pytest.raises(StoreUnavailable, match="not whole"):
        Block.decode(TABLE, 1, content)
    with pytest.raises(StoreUnavailable, match="not whole"):
        decode_blocks(TABLE, [1], [content])


@pytest.mark.parametrize("content", [b"", b"abc", bytes(7), bytes(13)])
def test_values_of_a_wrong_size_are_refused(content: bytes) -> None:
    """Histories, counts and relocations."""
    tables = LISTS[Direction.FOLLOWERS]
    with pytest.raises(StoreUnavailable, match="not whole"):
        decode_moments(tables.histories, 1, content)
    with pytest.raises(StoreUnavailable, match="not whole"):
        ListFacts.decode(tables.facts, 1, content)
    with pytest.raises(StoreUnavailable, match="not whole"):
        decode_relocation(1, content)


@pytest.mark.parametrize("content", [b"\2\0\1\1\1\1", b"\0\2\1\1\1\1"])
def test_a_relocation_of_another_kind_is_refused(content: bytes) -> None:
    """It is damaged."""
    with pytest.raises(StoreUnavailable, match="not whole"):
        decode_relocation(1, content)


def test_the_file_has_the_tables_of_the_layout() -> None:
    """The SQL of the embedded store names each of them once."""
    sql = (Path(__file__).parent.parent / "src/retinue/store/sqlite/graph.sql").read_text()
    assert all(sql.count(f"CREATE TABLE {table.name} (") == 1 for tables in LISTS.values() for table in tables)
