"""All lists of one direction: visible entries, hidden ones, and the slots of both.

For the writer. An entry is visible if it is open and its account is visible. All others are hidden, out of the way of
pages. An entry keeps its slot when it is hidden or shown.
"""

import heapq
from collections.abc import Collection, Iterator

from msgspec import Struct
from msgspec.structs import replace

from retinue.store.layout.blocks import Entry
from retinue.store.layout.entries import EntryTable
from retinue.store.layout.rows import Rows
from retinue.store.layout.sealing import damaged
from retinue.store.layout.slots import SlotAllocator
from retinue.store.layout.tables import LAST_SECOND, ListTables, Table, pair_key

MAX_CACHED_FACTS = 500_000
_FACT_BYTES = 4


class ListFacts(Struct, frozen=True, gc=False):
    """Counts of a list's open entries, and its lateness.

    A late list has, or had, an entry after its start. Short lists have facts only if late.
    """

    visible: int = 0
    hidden: int = 0
    is_late: bool = False

    def encode(self) -> bytes:
        return b"".join(number.to_bytes(_FACT_BYTES, "little") for number in (self.visible, self.hidden, self.is_late))

    @classmethod
    def decode(cls, table: Table, owner: int, content: bytes) -> "ListFacts":
        """Return stored facts. Raises `StoreUnavailable` if they are damaged."""
        if len(content) != 3 * _FACT_BYTES:
            raise damaged(table, owner, "its counts are not whole")
        visible, hidden, is_late = memoryview(content).cast("I")
        return cls(visible, hidden, bool(is_late))


class Lists:
    """The following lists, or the followers lists, of all accounts."""

    def __init__(self, rows: Rows, tables: ListTables) -> None:
        self._rows = rows
        self._tables = tables
        self._visible = EntryTable(rows, tables.visible)
        self._hidden = EntryTable(rows, tables.hidden)
        self.slots = SlotAllocator(rows, tables.runs, self._is_occupied)
        self._facts: dict[int, ListFacts | None] = {}

    def forget(self) -> None:
        self._visible.forget()
        self._hidden.forget()
        self._facts.clear()

    def flush(self) -> None:
        self._visible.flush()
        self._hidden.flush()

    def committed(self) -> None:
        self._visible.committed()
        self._hidden.committed()
        if len(self._facts) > MAX_CACHED_FACTS:
            self._facts.clear()

    def drop(self, owners: Collection[int]) -> None:
        for owner in owners:
            self._facts.pop(owner, None)
        self._visible.drop(owners)
        self._hidden.drop(owners)

    def prefetch(self, owners: Collection[int]) -> None:
        missing = [owner for owner in owners if owner not in self._facts]
        for owner, content in zip(missing, self._rows.get_many(self._tables.facts, missing), strict=True):
            self._facts[owner] = None if content is None else ListFacts.decode(self._tables.facts, owner, content)
        long = {owner for owner in owners if self._facts[owner] is not None}
        self._visible.prefetch(owners, long)
        self._hidden.prefetch(owners, long)

    def add(self, owner: int, entry: Entry, *, is_visible: bool) -> None:
        """Add an entry at a free slot."""
        self.slots.occupy(owner, entry.position)
        self._insert(owner, entry, is_visible=is_visible)
        if entry.position > entry.start:
            self._save(owner, replace(self._facts_of(owner) or self._counted(owner), is_late=True))

    def remove(self, owner: int, position: int) -> Entry:
        entry = self._take(owner, position)
        self.slots.free(owner, position)
        return entry

    def set_end(self, owner: int, position: int, end: int, *, is_visible: bool) -> None:
        """End or reopen an entry. Its slot stays occupied."""
        self._insert(owner, self._take(owner, position)._replace(end=end), is_visible=is_visible)

    def show(self, owner: int, position: int, *, is_visible: bool) -> None:
        """Show or hide an open entry that is on the wrong side."""
        source = self._hidden if is_visible else self._visible
        if source.has(owner, position) and not source.entry(owner, position).end:
            self._insert(owner, self._take(owner, position), is_visible=is_visible)

    def newest_first(self, owner: int, bound: int = LAST_SECOND) -> Iterator[Entry]:
        """Yield the entries of an unchanging list from a position down."""
        both = (self._visible.newest_first(owner, bound), self._hidden.newest_first(owner, bound))
        return heapq.merge(*both, reverse=True)  # entries compare by position first, and no two share one

    def entries_of(self, owner: int, account: int) -> list[Entry]:
        """Return an account's entries, oldest first. Reads the whole list."""
        return sorted(
            table.entry(owner, position)
            for table in (self._visible, self._hidden)
            for position in table.positions_of(owner, account)
        )

    def known_size(self, owner: int) -> int:
        """Return the number of open entries, 0 for most short lists."""
        facts = self._facts_of(owner)
        return 0 if facts is None else facts.visible + facts.hidden

    def find(self, owner: int, account: int, start: int) -> Entry:
        """Return the existing entry of an account with a start.

        It is at that slot, or at the nearest before it. Only a late list may have it after its start.
        """
        for table in (self._visible, self._hidden):
            if table.has(owner, start) and (entry := table.entry(owner, start))[1:3] == (account, start):
                return entry
        bounds = (start,) if not self.is_late(owner) else (start, LAST_SECOND)
        for bound in bounds:
            for table in (self._visible, self._hidden):
                for block in table.blocks_down(owner, bound):
                    for position in block.positions_of(account):
                        if (entry := block.entry(position)).start == start:
                            return entry
        raise damaged(self._tables.visible, pair_key(owner, start), "another list has its entry, and this one does not")

    def is_late(self, owner: int) -> bool:
        facts = self._facts_of(owner)
        return facts is not None and facts.is_late

    def clear(self, owner: int) -> None:
        """Remove what is stored of a list without entries."""
        self._save(owner, None)

    def _is_occupied(self, owner: int, position: int) -> bool:
        return self._visible.has(owner, position) or self._hidden.has(owner, position)

    def _insert(self, owner: int, entry: Entry, *, is_visible: bool) -> None:
        table = self._visible if is_visible else self._hidden
        table.insert(owner, entry)
        facts = self._facts_of(owner)
        if facts is not None:
            self._count(owner, facts, entry, 1, is_visible=is_visible)
        elif table.is_long(owner):
            self._save(owner, self._counted(owner))

    def _take(self, owner: int, position: int) -> Entry:
        is_visible = self._visible.has(owner, position)
        entry = (self._visible if is_visible else self._hidden).remove(owner, position)
        facts = self._facts_of(owner)
        if facts is not None:
            self._count(owner, facts, entry, -1, is_visible=is_visible)
        return entry

    def _count(self, owner: int, facts: ListFacts, entry: Entry, change: int, *, is_visible: bool) -> None:
        if is_visible:
            facts = replace(facts, visible=facts.visible + change)
        elif not entry.end:
            facts = replace(facts, hidden=facts.hidden + change)
        is_needed = facts.is_late or facts.visible or facts.hidden or self._is_long(owner)
        self._save(owner, facts if is_needed else None)

    def _is_long(self, owner: int) -> bool:
        return self._visible.is_long(owner) or self._hidden.is_long(owner)

    def _counted(self, owner: int) -> ListFacts:
        visible = sum(len(block) for block in self._visible.blocks_down(owner))
        return ListFacts(visible, sum(block.open_count for block in self._hidden.blocks_down(owner)))

    def _facts_of(self, owner: int) -> ListFacts | None:
        if owner not in self._facts:
            content = self._rows.get(self._tables.facts, owner)
            self._facts[owner] = None if content is None else ListFacts.decode(self._tables.facts, owner, content)
        return self._facts[owner]

    def _save(self, owner: int, facts: ListFacts | None) -> None:
        self._facts[owner] = facts
        if facts is None:
            self._rows.delete(self._tables.facts, owner)
        else:
            self._rows.put(self._tables.facts, owner, facts.encode())
