"""The contract of reading a whole graph at once: every account, and every interval of every pair.

Accounts are the store's own numbers. Arrays are numpy's.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from retinue.model import AccountRecord

Numbers = NDArray[np.int64]


class Standings(NamedTuple):
    """Some intervals, in columns: both accounts, true start and end (0: it goes on), position in both lists."""

    followers: Numbers
    followees: Numbers
    starts: Numbers
    ends: Numbers
    following_positions: Numbers
    followers_positions: Numbers


class WholeGraph(Protocol):
    """A graph for reading from one end to the other, in bounded memory and in no order."""

    def accounts(self) -> Iterator[list[tuple[int, AccountRecord]]]:
        """All accounts that were not erased, many at once. One that lost its username to another has none."""
        ...

    def standings(self, *, with_ended: bool) -> Iterator[Standings]:
        """All intervals that go on, maybe those that ended too, each once.

        Erased accounts may still be among them.
        """
        ...
