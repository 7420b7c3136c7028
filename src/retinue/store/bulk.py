"""The contracts of bulk loads, and the columns of whole reads."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from retinue.model import Direction

Numbers = NDArray[np.int64]
Chosen = NDArray[np.bool_]
OnShare = Callable[[float], None]

NO_ACCOUNT = 0  # the id of a name that no account can have, or whose account was erased


class Follows(NamedTuple):
    """Follows of one direction, by owner, then second.

    At one second, the first in the file comes last. `rows` are row numbers in the file. An owner's follows are never
    split.
    """

    owners: Numbers
    seconds: Numbers
    accounts: Numbers
    rows: Numbers
    has_time: Chosen

    def where(self, chosen: Chosen) -> "Follows":
        """Return chosen follows."""
        return self if chosen.all() else Follows(*(column[chosen] for column in self))  # type: ignore[arg-type]  # each column stays of its kind


class SortedFollows(Protocol):
    """All follows of a file, in either direction."""

    def owners(self, direction: Direction) -> tuple[Numbers, Numbers]:
        """Return ascending owners, and the size of each list."""
        ...

    def groups(self, size: int) -> Iterator[Follows]:
        """Yield follows in file order, in groups sorted by follower."""
        ...

    def follows(self, direction: Direction) -> Iterator[Follows]:
        """Yield all follows in parts that fit into memory."""
        ...


class LoadedFollows(Struct, frozen=True):
    """Counts of loaded rows. Remaining rows must be stored one by one."""

    accepted: int
    updated: int
    duplicate: int
    remaining: Numbers


class BulkWriter(Protocol):
    """The operations of a large import, besides those of `GraphWriter`."""

    async def refused(self, names: Sequence[str]) -> list[str]:
        """Return the names that are invalid or of erased accounts."""
        ...

    async def account_ids(self, names: Sequence[str]) -> list[int]:
        """Return the account id for each imported name; create missing accounts."""
        ...

    async def load(self, follows: SortedFollows, on_share: OnShare) -> LoadedFollows:
        """Store all follows. Readers may see a part only in a cluster.

        A kill at any instant is safe; other writers wait. The result equals that of storing single rows, those of a
        list from newest to oldest.
        """
        ...


class Intervals(NamedTuple):
    """Intervals: both accounts, true start and end (0: open), both positions."""

    followers: Numbers
    followees: Numbers
    starts: Numbers
    ends: Numbers
    following_positions: Numbers
    followers_positions: Numbers
