"""All lists of one direction, for the writer: visible entries, hidden entries and slots."""

import heapq
from collections.abc import Iterator

from retinue.store.rules.slots import FreeSlot, SlotAllocator
from retinue.store.rules.tables import ListTables
from retinue.store.rules.values import LAST_SECOND, Entry


class Lists:
    """The following lists, or the followers lists, of all accounts."""

    def __init__(self, tables: ListTables) -> None:
        self._visible = tables.visible
        self._hidden = tables.hidden
        self.slots = SlotAllocator(tables.slot_runs, tables.visible.look)

    def add(self, owner: int, slot: FreeSlot, entry: Entry, *, is_visible: bool) -> None:
        """Insert a new entry at a free slot."""
        self.slots.take(owner, slot, visible=is_visible)
        (self._visible if is_visible else self._hidden).insert(owner, entry)

    def remove(self, owner: int, position: int) -> None:
        """Remove an entry and release its slot."""
        self._take_out(owner, position)
        self.slots.release(owner, position)

    def end(self, owner: int, position: int) -> None:
        """Remove the entry of an ended interval, and keep its slot taken."""
        if self._visible.has(owner, position):
            self._visible.remove(owner, position)
            self.slots.hide(owner, position)
        else:
            self._hidden.remove(owner, position)

    def reopen(self, owner: int, entry: Entry, *, is_visible: bool) -> None:
        """Insert the entry of an interval whose end was withdrawn."""
        (self._visible if is_visible else self._hidden).insert(owner, entry)
        if is_visible:
            self.slots.show(owner, entry.position)

    def move(self, owner: int, position: int, *, is_visible: bool) -> None:
        """Move an entry to the visible or the hidden table."""
        source, target = (self._hidden, self._visible) if is_visible else (self._visible, self._hidden)
        if source.has(owner, position):
            target.insert(owner, source.remove(owner, position))
            (self.slots.show if is_visible else self.slots.hide)(owner, position)

    def newest_first(self, owner: int, bound: int = LAST_SECOND) -> Iterator[Entry]:
        """Yield visible and hidden entries at or before a second. The list must not change meanwhile."""
        visibility = (self._visible.newest_first(owner, bound), self._hidden.newest_first(owner, bound))
        return heapq.merge(*visibility, reverse=True)  # entries compare by position first, and no two share one

    def _take_out(self, owner: int, position: int) -> Entry:
        table = self._visible if self._visible.has(owner, position) else self._hidden
        return table.remove(owner, position)
