"""The contract of loading many follows at once: what the store is given, and what it answers.

Accounts are the store's own numbers, which it gives out for names first. Arrays are numpy's.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from retinue.model import Direction

Numbers = NDArray[np.int64]
OnShare = Callable[[float], None]

NOBODY = 0  # the number of a name that no account can have, or whose account was erased


class Follows(NamedTuple):
    """Some follows of one direction, by owner, then second; of one second, the first in the file comes last.

    `rows` are the numbers of the rows in the file. No owner is divided between two of these.
    """

    owners: Numbers
    seconds: Numbers
    accounts: Numbers
    rows: Numbers


class Sorted(Protocol):
    """All follows of a file, to be read in either order. `received_at` is the second of those without a time."""

    received_at: int

    def owners(self, direction: Direction) -> tuple[Numbers, Numbers]:
        """All owners of lists, ascending, and how many follows each has."""
        ...

    def follows(self, direction: Direction) -> Iterator[Follows]:
        """All follows, as many at once as fit into memory."""
        ...


class Loaded(Struct, frozen=True):
    """What became of the rows. Those `left` have to be stored one by one: this way does not know enough of them."""

    accepted: int
    duplicate: int
    left: Numbers


class BulkWriter(Protocol):
    """What a large import needs of the graph, beside `GraphWriter`."""

    async def refused(self, names: Sequence[str]) -> list[str]:
        """Those names that no account can have, and those of accounts that were erased."""
        ...

    async def numbers(self, names: Sequence[str]) -> list[int]:
        """The numbers of the accounts that names in an imported row mean, made where there are none; maybe `NOBODY`."""
        ...

    async def load(self, follows: Sorted, on_share: OnShare) -> Loaded:
        """Store follows, all or none of them, and survive `kill -9` at any instant.

        Other writers wait meanwhile; readers see the graph as it was before, until it ends. Each follow that is not
        left gets what storing the rows one by one would have given it, those of a list from newest to oldest.
        """
        ...
