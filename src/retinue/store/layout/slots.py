"""Slots: each entry of a list, open or ended, has its own second, near its start.

Adjacent occupied slots form a run. Each long run is stored as a whole, so the nearest free slot after a burst is found
in few steps. Short runs are searched slot by slot.
"""

from collections.abc import Callable

from retinue.store.layout.rows import Rows
from retinue.store.layout.tables import LAST_SECOND, Table, pair_key, second_of

MIN_RUN = 64  # shorter runs are not stored

_SLOT_BYTES = 4

Run = tuple[int, int]  # the first and the last slot


class SlotAllocator:
    """The slots of all lists of one direction."""

    def __init__(self, rows: Rows, table: Table, is_occupied: Callable[[int, int], bool]) -> None:
        self._rows = rows
        self._table = table
        self.is_occupied = is_occupied

    def seek(self, owner: int, start: int) -> int:
        """Return the free slot for a start: there, or the nearest earlier one.

        Without one (slots begin at 1), return the nearest later one.
        """
        if not self.is_occupied(owner, start):
            return start
        first, last = self._run_around(owner, start)
        return first - 1 if first > 1 else last + 1

    def occupy(self, owner: int, slot: int) -> None:
        """Take a free slot. Call before its entry is inserted."""
        first, last = slot, slot
        if slot > 1 and self.is_occupied(owner, slot - 1):
            first, _ = self._run_around(owner, slot - 1)
        if self.is_occupied(owner, slot + 1):
            _, last = self._run_around(owner, slot + 1)
        self._remove(owner, (slot + 1, last))
        self._add(owner, (first, last))

    def free(self, owner: int, slot: int) -> None:
        """Free a slot. Call after its entry was removed."""
        run = self._stored(owner, slot)
        if run is not None:
            self._remove(owner, run)
            self._add(owner, (run[0], slot - 1))
            self._add(owner, (slot + 1, run[1]))

    def _run_around(self, owner: int, slot: int) -> Run:
        run = self._stored(owner, slot)
        if run is not None:
            return run
        first = last = slot
        while first > 1 and self.is_occupied(owner, first - 1):
            first -= 1
        while self.is_occupied(owner, last + 1):
            last += 1
        return first, last

    def _stored(self, owner: int, slot: int) -> Run | None:
        found = self._rows.first(self._table, pair_key(owner, 0), pair_key(owner, min(slot, LAST_SECOND)), reverse=True)
        if found is None:
            return None
        key, content = found
        last = int.from_bytes(content, "little")
        return (second_of(key), last) if slot <= last else None

    def _add(self, owner: int, run: Run) -> None:
        if run[1] - run[0] + 1 >= MIN_RUN:
            self._rows.put(self._table, pair_key(owner, run[0]), run[1].to_bytes(_SLOT_BYTES, "little"))

    def _remove(self, owner: int, run: Run) -> None:
        if run[1] - run[0] + 1 >= MIN_RUN:
            self._rows.delete(self._table, pair_key(owner, run[0]))
