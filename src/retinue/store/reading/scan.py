"""Reading a whole graph: all accounts, then all intervals with both positions."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice, pairwise
from typing import Any

import numpy as np

from retinue.model import AccountRecord, Direction, Visibility
from retinue.store.bulk import Intervals
from retinue.store.layout.columns import NOTHING, Entries, Numbers, decode_blocks
from retinue.store.layout.sealing import unseal
from retinue.store.layout.stored_accounts import StoredAccount, decode_account
from retinue.store.layout.tables import ACCOUNT, LISTS, Source, Table, first_of

MAX_DISPLACED = 20_000_000  # entries in memory at once; for more, the graph is read several times

_ROWS_AT_ONCE = 20_000
_BLOCKS_AT_ONCE = 4_000


class GraphScan:
    """A graph to read completely, in bounded memory and in no order.

    `translated` translates the errors of the engine.
    """

    def __init__(
        self,
        source: Source,
        close: Callable[[], None],
        translated: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._source = source
        self.close = close
        self._translated = translated

    def accounts(self) -> Iterator[list[tuple[int, AccountRecord]]]:
        """Yield all accounts that were not erased, with their ids."""
        with self._translated():
            rows = self._source.all_rows(ACCOUNT)
            while part := list(islice(rows, _ROWS_AT_ONCE)):
                accounts = [decode_account(key, unseal(ACCOUNT, key, value)) for key, value in part]
                yield [(account.id, _record(account)) for account in accounts if account is not None]

    def intervals(self, *, with_ended: bool) -> Iterator[Intervals]:
        """Yield each open interval once; with `with_ended`, ended ones too. Accounts may be erased ones."""
        with self._translated():
            displaced = sum(
                int((entries.positions != entries.starts).sum()) for entries in self._entries(Direction.FOLLOWERS)
            )
            passes = 1 + displaced // MAX_DISPLACED
            for number in range(passes):
                slots = _FollowersSlots(self._entries(Direction.FOLLOWERS), passes, number)
                for entries in self._entries(Direction.FOLLOWING):
                    chosen = entries.owners % passes == number
                    if not with_ended:
                        chosen &= entries.ends == 0
                    yield slots.intervals(entries.where(chosen))

    def _entries(self, direction: Direction) -> Iterator[Entries]:
        for table in (LISTS[direction].visible, LISTS[direction].hidden):
            rows = self._source.all_rows(table)
            while part := list(islice(rows, _BLOCKS_AT_ONCE)):
                yield _decoded(table, part)


def _decoded(table: Table, rows: list[tuple[Any, bytes]]) -> Entries:
    """Return the entries of rows. Each owner's rows are ascending."""
    contents = [unseal(table, key, value) for key, value in rows]
    keys = [key for key, _ in rows]
    if any(later < earlier for earlier, later in pairwise(keys)):  # owners in no order
        order = sorted(range(len(keys)), key=lambda index: (first_of(keys[index]), keys[index]))
        keys, contents = [keys[index] for index in order], [contents[index] for index in order]
    return decode_blocks(table, keys, contents)


class _FollowersSlots:
    """The displaced slots in followers lists, for a part of all followers."""

    def __init__(self, parts: Iterator[Entries], passes: int, number: int) -> None:
        columns: list[tuple[Numbers, Numbers, Numbers]] = [(NOTHING, NOTHING, NOTHING)]
        for entries in parts:
            chosen = (entries.positions != entries.starts) & (entries.accounts % passes == number)
            some = entries.where(chosen)
            columns.append(((some.accounts << 32) + some.owners, some.starts, some.positions))
        pairs, starts, slots = (np.concatenate(column) for column in zip(*columns, strict=True))
        order = np.lexsort((starts, pairs))
        self._pairs, self._starts, self._slots = pairs[order], starts[order], slots[order]

    def intervals(self, entries: Entries) -> Intervals:
        """Return intervals of following lists with both positions."""
        pairs = (entries.owners << 32) + entries.accounts
        begins, ends = (np.searchsorted(self._pairs, pairs, side) for side in ("left", "right"))
        slots = entries.starts.copy()
        for step in range(int((ends - begins).max(initial=0))):
            at = np.minimum(begins + step, max(0, len(self._starts) - 1))
            is_found = (begins + step < ends) & (self._starts[at] == entries.starts)
            slots[is_found] = self._slots[at[is_found]]
        return Intervals(entries.owners, entries.accounts, entries.starts, entries.ends, entries.positions, slots)


def _record(account: StoredAccount) -> AccountRecord:
    profile = {field: value for field, (_, value) in account.profile.items()}
    username = account.username if account.has_name else None
    return AccountRecord(username, account.key, account.display_name, Visibility(account.visibility), **profile)
