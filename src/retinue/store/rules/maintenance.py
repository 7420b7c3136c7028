"""Background maintenance: relocation after a change of visibility, and removal of erased accounts.

An account's own lists name every list that it appears in. They are walked newest first within a time budget.
"""

from collections.abc import Callable
from itertools import chain, islice

from retinue.model import Direction
from retinue.store.rules.lists import Lists
from retinue.store.rules.pairs import Pairs
from retinue.store.rules.tables import Tables
from retinue.store.rules.values import LAST_SECOND, Pair, Relocation
from retinue.store.rules.visibility import VisibilityCache

_PIECE = 64
_MAX_INTERVALS = 200  # removed at once; a pair may have many


class Maintenance:
    """The maintenance of one writer."""

    def __init__(self, tables: Tables, visibility: VisibilityCache, pairs: Pairs) -> None:
        self._relocations = tables.relocations
        self._table = tables.pairs
        self._visibility = visibility
        self._pairs = pairs

    def is_done(self) -> bool:
        """Return whether nothing is pending."""
        return not self._relocations.any()

    def work(self, is_time_left: Callable[[], bool]) -> bool:
        """Work while time is left; return whether more is pending."""
        while relocation := self._relocations.next():
            if relocation.is_erased:
                self._remove_some(relocation.account)
            else:
                self._move_some(relocation)
            if not is_time_left():
                return True
        return False

    def _move_some(self, relocation: Relocation) -> None:
        account, direction, position, _ = relocation
        is_visible = self._visibility.is_visible(account)
        own, others = self._lists(direction)
        entries = list(islice(own.newest_first(account, position), _PIECE))
        for entry in entries:
            pair = Pair(entry.account, account) if direction is Direction.FOLLOWERS else Pair(account, entry.account)
            following, followers = self._table.positions(pair, entry)
            there = following if direction is Direction.FOLLOWERS else followers
            others.move(entry.account, there, is_visible=is_visible)
        if len(entries) == _PIECE and entries[-1].position > 1:
            self._relocations.save_position(account, direction, entries[-1].position - 1)
        elif direction is Direction.FOLLOWERS:
            self._relocations.save_position(account, Direction.FOLLOWING, LAST_SECOND)
        else:
            self._relocations.finish(account)

    def _lists(self, direction: Direction) -> tuple[Lists, Lists]:
        both = self._pairs.following, self._pairs.followers
        return both if direction is Direction.FOLLOWING else both[::-1]

    def _remove_some(self, account: int) -> None:
        """Remove some pairs of an erased account. Its row stays."""
        followers = (Pair(entry.account, account) for entry in self._pairs.followers.newest_first(account))
        following = (Pair(account, entry.account) for entry in self._pairs.following.newest_first(account))
        pairs = list(islice(chain(followers, following), _PIECE)) or self._table.over(account, _PIECE)
        intervals = 0
        for pair in pairs:
            intervals += len(self._table.state(pair).placed_intervals)
            self._pairs.remove(pair)
            if intervals > _MAX_INTERVALS:
                break
        if not pairs:
            self._relocations.finish(account)
