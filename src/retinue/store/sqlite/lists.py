"""All lists of one direction, for the writer: entries in the range of pages, entries moved aside, seconds.

An entry stands aside when its account is no row. Wherever it stands, its second is its own; the caller says on which
side it belongs.
"""

import heapq
from collections.abc import Iterator

import apsw

from retinue.model import Direction
from retinue.store.sqlite.block_table import BlockTable
from retinue.store.sqlite.blocks import LAST_SECOND, Entry
from retinue.store.sqlite.files import executor
from retinue.store.sqlite.seconds import Place, Seconds


class Lists:
    """The following lists, or the followers lists, of all accounts."""

    def __init__(self, connection: apsw.Connection, direction: Direction) -> None:
        self._execute = executor(connection)
        self._direction = direction
        self.main = BlockTable(connection, direction.value)
        self.aside = BlockTable(connection, f"{direction.value}_aside")
        self.seconds = Seconds(connection, f"{direction.value}_taken", self.main.look)

    def forget(self) -> None:
        """Call when another connection may have changed the file, and after a rollback."""
        self.main.forget()
        self.aside.forget()
        self.seconds.forget()

    def flush(self) -> None:
        """Write what has changed; call before a commit."""
        self.main.flush()
        self.aside.flush()

    def note(self, owner: int, place: Place, start: int) -> None:
        """Remember for readers of the past if an interval gets a place behind its true start."""
        if place.second > start:
            self._execute("INSERT OR IGNORE INTO late (owner, direction) VALUES (?, ?)", (owner, self._direction.value))

    def add(self, owner: int, place: Place, entry: Entry, *, is_row: bool) -> None:
        """Put a new entry on a place that was just sought for it."""
        self.seconds.occupy(owner, place, seen=is_row)
        (self.main if is_row else self.aside).insert(owner, entry)

    def remove(self, owner: int, position: int) -> None:
        """Remove an entry and free its second."""
        self._take_out(owner, position)
        self.seconds.give_back(owner, position)

    def end(self, owner: int, position: int) -> None:
        """Remove an entry whose interval has ended; its second stays occupied."""
        if self.main.has(owner, position):
            self.main.remove(owner, position)
            self.seconds.hide(owner, position)
        else:
            self.aside.remove(owner, position)

    def reopen(self, owner: int, entry: Entry, *, is_row: bool) -> None:
        """Put an entry back whose interval, after all, has not ended."""
        (self.main if is_row else self.aside).insert(owner, entry)
        if is_row:
            self.seconds.show(owner, entry.position)

    def move(self, owner: int, position: int, *, is_row: bool) -> None:
        """Bring an entry to the side where it belongs."""
        source, target = (self.aside, self.main) if is_row else (self.main, self.aside)
        if source.has(owner, position):
            target.insert(owner, source.remove(owner, position))
            (self.seconds.show if is_row else self.seconds.hide)(owner, position)

    def count(self, owner: int) -> int:
        """How many entries a list has, on both sides."""
        return self.main.count(owner) + self.aside.count(owner)

    def newest_first(self, owner: int, bound: int = LAST_SECOND) -> Iterator[Entry]:
        """The entries at or before a second, of both sides; the list must not change meanwhile."""
        sides = (self.main.newest_first(owner, bound), self.aside.newest_first(owner, bound))
        return heapq.merge(*sides, reverse=True)  # entries compare by position first, and no two share one

    def _take_out(self, owner: int, position: int) -> Entry:
        table = self.main if self.main.has(owner, position) else self.aside
        return table.remove(owner, position)
