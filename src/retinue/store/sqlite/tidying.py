"""What is left to do in the background: moving the entries of accounts that became rows, or ceased to be rows.

An account's own two lists tell in whose lists its entries stand. They are walked from their newest entry down, as far
as the time allows, and the place is kept in the table `moving`. For an erased account entries are removed instead.
"""

from collections.abc import Callable
from itertools import chain, islice

import apsw

from retinue.model import Direction
from retinue.store.sqlite.blocks import LAST_SECOND
from retinue.store.sqlite.files import executor
from retinue.store.sqlite.lists import Lists
from retinue.store.sqlite.pairs import Pair, Pairs
from retinue.store.sqlite.sides import Sides

_PIECE = 64

# CROSS keeps the order of the join: what is moving is the shorter table, and one row of it is wanted.
NEXT = "SELECT account, direction, position, key IS NULL FROM moving CROSS JOIN account ON id = account LIMIT 1"
_REMEMBER = "UPDATE moving SET direction = ?, position = ? WHERE account = ?"
_OVER = (
    "SELECT follower, followee FROM ended WHERE follower = ?1"
    " UNION SELECT follower, followee FROM ended WHERE followee = ?1"
    " UNION SELECT follower, followee FROM pair WHERE follower = ?1"
    " UNION SELECT follower, followee FROM pair WHERE followee = ?1 AND started_at IS NULL LIMIT 64"
)


class Tidying:
    """The background work of one connection. Runs inside the writer's transactions."""

    def __init__(self, connection: apsw.Connection, sides: Sides, pairs: Pairs) -> None:
        self._execute = executor(connection)
        self._sides = sides
        self._pairs = pairs

    def is_done(self) -> bool:
        """Whether nothing is left."""
        return not self._execute("SELECT 1 FROM moving LIMIT 1").fetchall()

    def work(self, is_time_left: Callable[[], bool]) -> bool:
        """Work until nothing or no time is left; whether something is."""
        while found := self._execute(NEXT).fetchall():
            account, direction, position, is_erased = found[0]
            if is_erased:
                self._remove_some(account)
            else:
                self._move_some(account, Direction(direction), position)
            if not is_time_left():
                return True
        return False

    def _move_some(self, account: int, direction: Direction, position: int) -> None:
        """Move the account's entries in the lists of some of those who stand in its own."""
        is_row = self._sides.is_row(account)
        own, others = self._lists(direction)
        entries = list(islice(own.newest_first(account, position), _PIECE))
        for entry in entries:
            pair = Pair(entry.account, account) if direction is Direction.FOLLOWERS else Pair(account, entry.account)
            following, followers = self._pairs.positions(pair, entry)
            there = following if direction is Direction.FOLLOWERS else followers
            others.move(entry.account, there, is_row=is_row)
        if len(entries) == _PIECE and entries[-1].position > 1:
            self._execute(_REMEMBER, (direction.value, entries[-1].position - 1, account))
        elif direction is Direction.FOLLOWERS:
            self._execute(_REMEMBER, (Direction.FOLLOWING.value, LAST_SECOND, account))
        else:
            self._sides.moved(account)

    def _lists(self, direction: Direction) -> tuple[Lists, Lists]:
        """The lists of a direction, and those of the other one."""
        both = self._pairs.following, self._pairs.followers
        return both if direction is Direction.FOLLOWING else both[::-1]

    def _remove_some(self, account: int) -> None:
        """Remove some of an erased account's pairs; its row stays, so that its id is never another's."""
        followers = (Pair(entry.account, account) for entry in self._pairs.followers.newest_first(account))
        following = (Pair(account, entry.account) for entry in self._pairs.following.newest_first(account))
        pairs = list(islice(chain(followers, following), _PIECE)) or self._over(account)
        for pair in pairs:
            self._pairs.remove(pair)
        if not pairs:
            self._sides.moved(account)

    def _over(self, account: int) -> list[Pair]:
        """Pairs of an account that stand in no list."""
        return [Pair(follower, followee) for follower, followee in self._execute(_OVER, (account,)).fetchall()]
