"""Lists of several blocks: whatever happens to entries, all others stay, and counts are right."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retinue.errors import StoreUnavailable
from retinue.model import Direction
from retinue.store.layout.blocks import CAPACITY, Block, Chain, Entry
from retinue.store.layout.columns import decode_blocks
from retinue.store.layout.entries import EntryTable
from retinue.store.layout.lists import ListFacts, Lists
from retinue.store.layout.rows import Rows
from retinue.store.layout.sealing import unseal
from retinue.store.layout.tables import LAST_SECOND, LISTS, Changes, Table, second_of
from support.dict_engine import DictEngine

TABLE = LISTS[Direction.FOLLOWERS].visible
SEEDS = st.integers(0, 1 << 32)  # of long lists: Hypothesis draws too few values for one


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
        if self.random.random() < 0.3:
            self.table.forget()
        elif self.random.random() < 0.5:
            self.table.drop([self.random.choice([2, 3])])

    def newest_first(self, bound: int) -> list[Entry]:
        """Return the expected entries at or before a position."""
        return [self.expected[position] for position in sorted(self.expected, reverse=True) if position <= bound]

    def sizes(self) -> list[int]:
        """Return the number of entries in each stored block, oldest first."""
        self.table.flush()
        self.engine.commit(self.rows.take_changes())
        blocks = [(int(key), unseal(TABLE, key, value)) for key, value in self.engine.all_rows(TABLE)]
        return [len(Block.decode(TABLE, key, content)) for key, content in sorted(blocks)]


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


@pytest.mark.parametrize("step", [1, -1])
def test_a_list_that_grows_at_an_end_has_full_blocks(step: int) -> None:
    """Most lists grow at the newest end, and a collection reads them towards the oldest."""
    one = OneList(seed=1)
    for position in range(1000, 1000 + 4 * CAPACITY)[::step]:
        one.insert(position)

    assert one.sizes() == [CAPACITY] * 4


@pytest.mark.parametrize(
    ("block", "place"),
    [*((block, place) for block in (0, 1) for place in ("middle", "last")), (1, "first"), (2, "first"), (2, "middle")],
)
def test_a_full_block_is_halved_by_an_entry_between_others(block: int, place: str) -> None:
    """Also at the ends of a block, unless the list ends there."""
    one = OneList(seed=1)
    for position in range(1000, 1000 + 6 * CAPACITY, 2):
        one.insert(position)
    first = 1000 + 2 * CAPACITY * block
    if place == "first":
        one.remove(first)
        one.insert(first + 1)
    one.insert({"first": first, "middle": first + 3, "last": first + 2 * CAPACITY - 1}[place])
    sizes = [CAPACITY] * 3
    sizes[block : block + 1] = [CAPACITY // 2, CAPACITY + 1 - CAPACITY // 2]

    assert one.sizes() == sizes


@settings(max_examples=30)
@given(SEEDS)
def test_a_dropped_list_is_read_again(seed: int) -> None:
    """The rows of another table are read, and no block cached before, after any splits and merges."""
    one = OneList(seed)
    ours = EntryTable(Rows(one.engine), TABLE)
    for _ in range(one.random.randrange(1, 12)):
        one.change(one.random.randrange(200))
        one.commit()
        ours.drop([3])
        assert list(ours.newest_first(3)) == one.newest_first(LAST_SECOND)


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
        self.is_late = self.random.random() < 0.3
        self.expected: dict[int, tuple[Entry, bool]] = {}

    def change(self, kind: str) -> None:
        """Change an entry, or add one."""
        is_visible = self.random.random() < 0.6
        if kind == "add" or not self.expected:
            start = 1 if self.is_late and self.random.random() < 0.5 else self.random.randrange(1000, 9000)
            position = self.lists.slots.seek(5, start)
            entry = Entry(position, self.random.randrange(1, 90), start, self.random.choice([0, 0, 3000]))
            is_visible &= not entry.end
            self.lists.add(5, entry, is_visible=is_visible)
            self.expected[position] = entry, is_visible
            return
        position = next((at for at, (entry, _) in self.expected.items() if not entry.end), min(self.expected))
        if kind != "end the oldest":
            position = self.random.choice(list(self.expected))
        entry, was_visible = self.expected.pop(position)
        if kind == "remove":
            assert self.lists.remove(5, position) == entry
        elif kind.startswith("end"):
            self.lists.set_end(5, position, 4000, is_visible=False)
            self.expected[position] = entry._replace(end=4000), False
        elif kind == "reopen":
            self.lists.set_end(5, position, 0, is_visible=is_visible)
            self.expected[position] = entry._replace(end=0), is_visible
        else:
            self.lists.show(5, position, is_visible=is_visible)
            self.expected[position] = entry, was_visible if entry.end else is_visible

    def commit(self) -> None:
        """Commit, and maybe forget what is cached."""
        self.lists.flush()
        self.engine.commit(self.rows.take_changes())
        self.lists.committed()
        if self.random.random() < 0.3:
            self.lists.forget()
        elif self.random.random() < 0.5:
            self.lists.drop([5])
            self.lists.prefetch([5])

    def entries(self, table: Table) -> list[Entry]:
        """Return the stored entries of one table."""
        rows = [(int(key), unseal(table, key, value)) for key, value in self.engine.all_rows(table)]
        return [entry for key, content in rows for entry in Block.decode(table, key, content).newest_first()]


@settings(max_examples=40)
@given(SEEDS)
def test_a_list_shows_and_counts_its_entries(seed: int) -> None:
    """This holds in lists of one block and of several. Counts of a short list need no row."""
    one = OneOwner(seed)
    tables = LISTS[Direction.FOLLOWERS]
    for kinds in (
        ["add"],
        ["add", "end"],
        ["end the oldest"],
        ["remove", "end"],
        ["add", "remove", "end", "reopen", "show"],
    ):
        for _ in range(one.random.choice([0, 30, 300, 300])):
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
