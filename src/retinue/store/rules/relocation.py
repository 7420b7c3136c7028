"""Background maintenance: showing, hiding and removing the entries of changed accounts.

The account's own lists name every list it appears in. Walk them newest first within a time budget and save the
position.
"""

from collections.abc import Callable, Iterator
from itertools import islice

from retinue.model import Direction
from retinue.store.layout.accounts import AccountTable
from retinue.store.layout.relocations import Relocation, RelocationQueue
from retinue.store.layout.tables import LAST_SECOND
from retinue.store.rules.pairs import NO_MOMENTS, OneSide, Pair, Pairs

_ENTRIES_AT_ONCE = 64
_MAX_EVENTS = 200  # removed at once: some pairs have many


class Relocator:
    """Processes the relocation queue."""

    def __init__(self, queue: RelocationQueue, accounts: AccountTable, pairs: Pairs) -> None:
        self._queue = queue
        self._accounts = accounts
        self._pairs = pairs

    def is_done(self) -> bool:
        return self._queue.next() is None

    def work(self, is_time_left: Callable[[], bool]) -> bool:
        """Work while time is left; return whether more remains."""
        while relocation := self._queue.next():
            if relocation.is_erased:
                self._remove_some(relocation.account_id)
            else:
                self._show_some(relocation)
            if not is_time_left():
                return True
        return False

    def _show_some(self, relocation: Relocation) -> None:
        account_id, direction = relocation.account_id, relocation.direction
        is_visible = self._accounts.is_visible(account_id)
        own, others = self._sides(direction)
        entries = list(islice(own.lists.newest_first(account_id, relocation.position), _ENTRIES_AT_ONCE))
        for entry in entries:
            if not entry.end:
                there = others.lists.find(entry.account, account_id, entry.start)
                others.lists.show(entry.account, there.position, is_visible=is_visible)
        if len(entries) == _ENTRIES_AT_ONCE and entries[-1].position > 1:
            self._queue.save(relocation._replace(position=entries[-1].position - 1))
        elif direction is Direction.FOLLOWERS:
            self._queue.save(relocation._replace(direction=Direction.FOLLOWING, position=LAST_SECOND))
        else:
            self._queue.remove(account_id)

    def _sides(self, direction: Direction) -> tuple[OneSide, OneSide]:
        both = self._pairs.following, self._pairs.followers
        return both if direction is Direction.FOLLOWING else both[::-1]

    def _remove_some(self, account_id: int) -> None:
        """Remove some of an erased account's pairs. Its id stays, and is never reused."""
        events = 0
        for pair in list(islice(self._pairs_of(account_id), _ENTRIES_AT_ONCE)):
            moments = self._pairs.moments(pair)
            self._pairs.update(pair, moments, NO_MOMENTS)
            events += len(moments)
            if events > _MAX_EVENTS:
                return
        if next(self._pairs_of(account_id), None) is None:
            self._queue.remove(account_id)
            for side in (self._pairs.following, self._pairs.followers):
                side.lists.clear(account_id)

    def _pairs_of(self, account_id: int) -> Iterator[Pair]:
        """Yield the pairs of an account, once for each interval."""
        for entry in self._pairs.followers.lists.newest_first(account_id):
            yield Pair(entry.account, account_id)
        for entry in self._pairs.following.lists.newest_first(account_id):
            yield Pair(account_id, entry.account)
        for other in self._pairs.followers.histories.accounts(account_id):
            yield Pair(other, account_id)
        for other in self._pairs.following.histories.accounts(account_id):
            yield Pair(account_id, other)
