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
from retinue.store.layout.blocks import CAPACITY, Block, Chain, Entry
from retinue.store.layout.entries import EntryTable
from retinue.store.layout.lists import ListFacts, Lists
from retinue.store.layout.rows import Rows
from retinue.store.layout.sealing import seal, unseal
from retinue.store.layout.tables import ACCOUNT, LAST_SECOND, LISTS, USERNAME, Changes, Table, pair_key, second_of
from retinue.store.load.columns import decode_blocks, encode_blocks
from retinue.store.load.placing import place, runs
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


class OneList:
    """A list in a table of entries, and in a dict. It grows and shrinks, at its ends and between."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.engine = DictEngine()
        self.rows = Rows(self.engine)
        self.table = EntryTable(self.rows, TABLE)
        self.expected: dict[int, Entry] = {}

    def change(self, count: int) -> None:
        """Insert or remove entries."""
        share, side = self.random.choice([0.95, 0.6, 0.1, 0]), self.random.choice([-1, 0, 0, 1])
        for _ in range(count):
            ends = (min(self.expected), max(self.expected)) if self.expected else (500, 500)
            position = {-1: ends[0], 0: self.random.randrange(1, 1000), 1: ends[1]}[side]
            if self.random.random() < share:
                self.insert(max(1, position + side * self.random.randrange(3)))
            elif self.expected:
                self.remove(min(self.expected, key=lambda each: abs(each - position)))

    def insert(self, position: int) -> None:
        """Insert an entry, some of them displaced or ended, if its position is free."""
        if position not in self.expected:
            start, end = position + self.random.choice([0, 0, 7]), self.random.choice([0, 0, 5000])
            entry = self.expected[position] = Entry(position, self.random.randrange(1, 50), start, end)
            self.table.insert(3, entry)

    def remove(self, position: int) -> None:
        """Remove an entry."""
        assert self.table.remove(3, position) == self.expected.pop(position)

    def commit(self) -> None:
        """Commit, and maybe forget what is cached."""
        self.table.flush()
        self.engine.commit(self.rows.take_changes())
        self.table.committed()
        self.random.choice([list, self.table.forget, lambda: self.table.drop([3]), lambda: self.table.drop([2])])()

    def newest_first(self, bound: int) -> list[Entry]:
        """Return the expected entries at or before a position."""
        return [self.expected[position] for position in sorted(self.expected, reverse=True) if position <= bound]


@settings(max_examples=60)
@given(SEEDS)
def test_entries_never_change_while_others_are_added_and_removed(seed: int) -> None:
    """For every sequence of insertions and removals, with commits between them."""
    one = OneList(seed)
    for _ in range(one.random.randrange(1, 20)):
        one.change(one.random.randrange(120))
        bound = one.random.choice([LAST_SECOND, one.random.randrange(1000)])
        if one.random.random() < 0.7:
            one.commit()
        assert list(one.table.newest_first(3, bound)) == one.newest_first(bound)
        account = one.random.randrange(1, 50)
        assert sorted(one.table.positions_of(3, account)) == sorted(
            position for position, entry in one.expected.items() if entry.account == account
        )
        assert all(one.table.has(3, position) == (position in one.expected) for position in range(1, 1000, 7))
    one.commit()
    blocks = [(int(key), unseal(TABLE, key, value)) for key, value in one.engine.all_rows(TABLE)]
    columns = decode_blocks(TABLE, [key for key, _ in blocks], [content for _, content in blocks])

    assert list(zip(*(column.tolist() for column in columns[1:]), strict=True)) == one.newest_first(LAST_SECOND)[::-1]
    sizes = [len(Block.decode(TABLE, key, content)) for key, content in blocks]
    assert all(0 < size <= CAPACITY for size in sizes)
    assert len(sizes) <= 2 + 8 * sum(sizes) / CAPACITY
    assert one.table.is_long(3) == (len(blocks) > 1 or any(second_of(key) for key, _ in blocks))


@pytest.mark.parametrize("lost", [0, 1, -1])
def test_a_missing_block_of_a_list_is_noticed(lost: int) -> None:
    """By the writer and by readers, also if it is the oldest or the newest."""
    one = OneList(seed=1)
    for position in range(1, 4 * CAPACITY):
        one.insert(position)
    one.commit()
    keys = [int(key) for key, _ in one.engine.all_rows(TABLE)]
    one.engine.write(Changes(TABLE, [], [keys[lost]]))

    with pytest.raises(StoreUnavailable, match="damaged"):
        list(EntryTable(Rows(one.engine), TABLE).newest_first(3))
    with pytest.raises(StoreUnavailable, match="missing"):
        read_chain(one.engine)


def read_chain(engine: DictEngine) -> None:
    """Read the blocks of a list as readers do."""
    chain = Chain(TABLE, LAST_SECOND)
    for key in sorted(engine.tables[TABLE], reverse=True):
        chain.take(int(key), unseal(TABLE, key, engine.tables[TABLE][key]))
    chain.end(3)


class OneOwner:
    """The lists of one owner, and what they must be: each entry with whether lists show its account."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.engine = DictEngine()
        self.rows = Rows(self.engine)
        self.lists = Lists(self.rows, LISTS[Direction.FOLLOWERS])
        self.expected: dict[int, tuple[Entry, bool]] = {}

    def change(self, kind: str) -> None:
        """Change an entry, or add one."""
        is_visible = self.random.random() < 0.6
        if kind == "add" or not self.expected:
            start = self.random.choice([1, self.random.randrange(1, 2000)])
            position = self.lists.slots.seek(5, start)
            entry = Entry(position, self.random.randrange(1, 90), start, self.random.choice([0, 0, 3000]))
            is_visible &= not entry.end
            self.lists.add(5, entry, is_visible=is_visible)
            self.expected[position] = entry, is_visible
            return
        position = self.random.choice(list(self.expected))
        entry, was_visible = self.expected.pop(position)
        if kind == "remove":
            assert self.lists.remove(5, position) == entry
        elif kind == "end":
            self.lists.end(5, position, 4000)
            self.expected[position] = entry._replace(end=4000), False
        elif kind == "reopen":
            self.lists.reopen(5, position, is_visible=is_visible)
            self.expected[position] = entry._replace(end=0), is_visible
        else:
            self.lists.show(5, position, is_visible=is_visible)
            self.expected[position] = entry, was_visible if entry.end else is_visible

    def commit(self) -> None:
        """Commit, and maybe forget what is cached."""
        self.lists.flush()
        self.engine.commit(self.rows.take_changes())
        self.lists.committed()
        self.random.choice([list, self.lists.forget, lambda: self.lists.drop([5]), lambda: self.lists.prefetch([5])])()

    def entries(self, table: Table) -> list[Entry]:
        """Return the stored entries of one table."""
        rows = [(int(key), unseal(table, key, value)) for key, value in self.engine.all_rows(table)]
        return [entry for key, content in rows for entry in Block.decode(table, key, content).newest_first()]


@settings(max_examples=40)
@given(SEEDS)
def test_a_list_shows_and_counts_its_entries(seed: int) -> None:
    """Whatever becomes of them, in lists of one block and of several. Counts of a short list need no row."""
    one = OneOwner(seed)
    tables = LISTS[Direction.FOLLOWERS]
    for kinds in (["add"], ["add", "end"], ["end"], ["remove", "end"], ["add", "remove", "end", "reopen", "show"]):
        for _ in range(one.random.choice([0, 30, 300])):
            one.change(one.random.choice(kinds))
        one.commit()
        visible, hidden = one.entries(tables.visible), one.entries(tables.hidden)
        assert {entry.position: (entry, True) for entry in visible} == {
            position: each for position, each in one.expected.items() if each[1]
        }
        assert {entry.position: entry for entry in (*visible, *hidden)} == {
            position: entry for position, (entry, _) in one.expected.items()
        }
        value = one.engine.tables[tables.facts].get(5)
        if value is not None:
            facts = ListFacts.decode(tables.facts, 5, unseal(tables.facts, 5, value))
            assert (facts.visible, facts.hidden) == (len(visible), sum(not entry.end for entry in hidden))
            assert facts.is_late or not any(entry.position > entry.start for entry in (*visible, *hidden))
        else:
            assert not any(second_of(int(key)) for table in tables[:2] for key in one.engine.tables[table])
            assert not any(entry.position > entry.start for entry in (*visible, *hidden))
        assert one.lists.entries_of(5, 7) == sorted(entry for entry, _ in one.expected.values() if entry.account == 7)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 90), st.booleans()), max_size=250), st.sampled_from([3, slots.MIN_RUN]))
def test_an_entry_has_the_nearest_free_slot_and_is_found_by_its_start(
    steps: list[tuple[int, bool]], minimum: int
) -> None:
    """For every sequence of entries that come and go, in a list so crowded that its runs are long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slots, "MIN_RUN", minimum)
        lists = Lists(Rows(DictEngine()), LISTS[Direction.FOLLOWING])
        occupied: dict[int, Entry] = {}
        for number, (start, is_added) in enumerate(steps, 1):
            if is_added or not occupied:
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
        assert all(lists.slots.is_free(5, slot) == (slot not in occupied) for slot in range(1, 350))


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


def test_the_file_has_the_tables_of_the_layout() -> None:
    """The SQL of the embedded store names each of them once."""
    sql = (Path(__file__).parent.parent / "src/retinue/store/sqlite/graph.sql").read_text()
    assert all(sql.count(f"CREATE TABLE {table.name} (") == 1 for tables in LISTS.values() for table in tables)
