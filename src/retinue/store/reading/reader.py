"""Reading a graph: accounts by name, pages of lists, profiles.

A usual page needs only the list's visible blocks. Hidden entries are merged in while entries that must be shown are
being relocated, and for the list of an earlier second.
"""

from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Generic, Protocol

from retinue.clock import Clock
from retinue.errors import StoreUnavailable
from retinue.model import Account, Direction, PageRequest, PageRows, Profile, Shown_co
from retinue.store.layout.blocks import Block, Chain, Entry, columns_of
from retinue.store.layout.lists import ListFacts
from retinue.store.layout.relocations import MERGED, decode_relocation
from retinue.store.layout.sealing import damaged, unseal
from retinue.store.layout.stored_accounts import decode_account
from retinue.store.layout.tables import ACCOUNT, LAST_SECOND, LISTS, RELOCATION, Table, pair_key, second_of
from retinue.store.reading.account_cache import AccountCache, AsyncSource

_BLOCKS_AT_ONCE = 2  # hold a page of any size, unless they are nearly empty
_PROFILE_TEXTS = ("bio_description", "avatar_url", "bio_url")
_PROFILE_NUMBERS = ("is_verified", "likes_count", "video_count")  # booleans may be stored as numbers


class ShownRows(Protocol[Shown_co]):
    """The rows of accounts.

    Call `refresh` before each use, after that of the account cache.
    """

    async def refresh(self) -> None: ...

    async def rows(self, account_ids: Sequence[int]) -> Sequence[Shown_co | None]: ...


class LayoutReader(Generic[Shown_co]):
    """A `GraphReader` on a source. `shown` may be replaced by faster rows.

    If a call reads rows of several states, it may raise `StoreUnavailable`, as for damage.
    """

    def __init__(self, source: AsyncSource, clock: Clock, encode: Callable[[str, str], Shown_co]) -> None:
        self._source = source
        self.cache = AccountCache(source, clock, encode)
        self.shown: ShownRows[Shown_co] = self.cache
        self.verifies_links = True  # False while blocks of one list may be of several states

    async def find_account(self, folded: str) -> Account | None:
        await self.cache.refresh()
        return await self.cache.account(folded)

    async def read(self, request: PageRequest) -> PageRows[Shown_co]:
        await self.cache.refresh()
        await self.shown.refresh()
        if request.as_of is None and not self.cache.must_merge:
            return await self._read_visible(request)
        return await self._read_merged(request)

    async def profile(self, account_id: int) -> Profile | None:
        (stored,) = await self._source.get(ACCOUNT, (account_id,))
        account = None if stored is None else decode_account(account_id, unseal(ACCOUNT, account_id, stored))
        if account is None:
            return None
        erased = [
            relocation.account_id
            for key, value in await self._source.scan(RELOCATION, pair_key(MERGED, 0), pair_key(MERGED, LAST_SECOND))
            if (relocation := decode_relocation(key, unseal(RELOCATION, key, value))).is_erased
        ]
        values = {field: value for field, (_, value) in account.profile.items()}
        counts = {direction: await self._count(direction, account_id, erased) for direction in Direction}
        return _profile_of(account.display_name, values, counts)

    async def _read_visible(self, request: PageRequest) -> PageRows[Shown_co]:
        """Read block by block until one row more than requested: it means `has_more`."""
        table = LISTS[request.direction].visible
        bound, wanted = min(request.bound, LAST_SECOND), request.limit + 1
        rows: list[Shown_co] = []
        positions: list[int] = []
        async for key, content in self._blocks(table, request.account_id, bound):
            numbers, count = columns_of(table, key, content)
            end = bisect_right(numbers, bound, 1, count + 1)
            while end > 1 and len(rows) < wanted:
                start = max(1, end - (wanted - len(rows)))
                shown = await self.shown.rows(numbers[count + start : count + end].tolist()[::-1])
                slots = numbers[start:end].tolist()[::-1]
                if None in shown:
                    slots = [slot for slot, row in zip(slots, shown, strict=True) if row is not None]
                rows += [row for row in shown if row is not None]
                positions += slots
                end = start
            if len(rows) == wanted:
                break
            bound = second_of(key) - 1  # later entries of an older block were moved to this one
        return _slice(rows, positions, request)

    async def _read_merged(self, request: PageRequest) -> PageRows[Shown_co]:
        rows: list[Shown_co] = []
        positions: list[int] = []
        (owner,) = await self.cache.load((request.account_id,))
        if owner is not None:
            async for entry in self._merged(request):
                (row,) = await self.shown.rows((entry.account,))
                if row is not None:
                    rows.append(row)
                    positions.append(entry.position)
                if len(rows) > request.limit:
                    break
        return _slice(rows, positions, request)

    async def _merged(self, request: PageRequest) -> AsyncIterator[Entry]:
        """Yield the entries that may be rows of a request, newest first."""
        tables = LISTS[request.direction]
        bound = await self._bound(request)
        streams = [self._entries(table, request.account_id, bound) for table in (tables.visible, tables.hidden)]
        heads = [await anext(stream, None) for stream in streams]
        last = 0
        while any(heads):
            index = max((index for index in (0, 1) if heads[index]), key=lambda index: heads[index])  # type: ignore[arg-type, return-value]
            entry, heads[index] = heads[index], await anext(streams[index], None)
            assert entry is not None
            is_seen, last = entry.position == last, entry.position  # in both, while it moves from one to the other
            as_of = request.as_of
            if is_seen:
                continue
            if entry.end == 0 if as_of is None else entry.start <= as_of and (entry.end == 0 or as_of < entry.end):
                yield entry

    async def _bound(self, request: PageRequest) -> int:
        """Return the slot to begin at. Entries after `as_of` may be millions."""
        bound = min(request.bound, LAST_SECOND)
        if request.as_of is None or request.as_of >= bound:
            return bound
        facts = await self._facts(request.direction, request.account_id)
        return bound if facts is not None and facts.is_late else request.as_of

    async def _entries(self, table: Table, owner: int, bound: int) -> AsyncIterator[Entry]:
        async for key, content in self._blocks(table, owner, bound):
            for entry in Block.decode(table, key, content).newest_first(bound):
                yield entry
            bound = second_of(key) - 1

    async def _blocks(self, table: Table, owner: int, bound: int) -> AsyncIterator[tuple[int, bytes]]:
        """Yield the keyed blocks of a list, from a slot down."""
        low, high = pair_key(owner, 0), pair_key(owner, bound)
        chain = Chain(table, bound) if self.verifies_links else None
        while True:
            found = await self._source.scan(table, low, high, reverse=True, limit=_BLOCKS_AT_ONCE)
            for key, value in found:
                if not low <= key <= high:  # in a damaged table SQLite may return others
                    raise damaged(table, key, "stands among the blocks of another list")
                high = key - 1
                content = unseal(table, key, value)
                if chain:
                    chain.take(key, content)
                yield key, content
            if len(found) < _BLOCKS_AT_ONCE or second_of(high + 1) <= 1:
                if chain:
                    chain.end(owner)
                return

    async def _count(self, direction: Direction, owner: int, erased: list[int]) -> int:
        """Count the open entries of a list, except those of erased accounts."""
        tables = LISTS[direction]
        facts = await self._facts(direction, owner)
        blocks = [
            Block.decode(table, key, content)
            for table in (tables.visible, tables.hidden)
            if facts is None or erased
            async for key, content in self._blocks(table, owner, LAST_SECOND)
        ]
        count = sum(block.open_count for block in blocks) if facts is None else facts.visible + facts.hidden
        leaving = set(erased)
        return count - sum(
            account in leaving and position not in block.ends
            for block in blocks
            if leaving
            for position, account in zip(block.positions, block.accounts, strict=True)
        )

    async def _facts(self, direction: Direction, owner: int) -> ListFacts | None:
        table = LISTS[direction].facts
        (value,) = await self._source.get(table, (owner,))
        return None if value is None else ListFacts.decode(table, owner, unseal(table, owner, value))


def _slice(rows: list[Shown_co], positions: list[int], request: PageRequest) -> PageRows[Shown_co]:
    """Return the rows of a page, given maybe one row more."""
    if positions != sorted(positions, reverse=True):
        table, owner = request.direction.value, request.account_id
        raise StoreUnavailable(f"table {table}, account {owner}: its positions are not in order; it is damaged")
    if len(rows) > request.limit:
        return PageRows(rows[:-1], positions[-2], has_more=True)
    return PageRows(rows, positions[-1] if positions else 0, has_more=False)


def _profile_of(display_name: str, fields: Mapping[str, Any], counts: Mapping[Direction, int]) -> Profile:
    """Return a profile. Missing fields are empty, false or zero."""
    texts = [fields.get(field, "") for field in _PROFILE_TEXTS]
    numbers = [fields.get(field, 0) for field in _PROFILE_NUMBERS]
    for field, value in zip((*_PROFILE_TEXTS, *_PROFILE_NUMBERS), (*texts, *numbers), strict=True):
        is_right = type(value) is str if field in _PROFILE_TEXTS else isinstance(value, int) and value >= 0
        if not is_right:
            raise StoreUnavailable(f"table account, field {field}: has an invalid value; it is damaged")
    bio_description, avatar_url, bio_url = texts
    is_verified, likes_count, video_count = numbers
    return Profile(
        display_name=display_name,
        bio_description=bio_description,
        avatar_url=avatar_url,
        bio_url=bio_url,
        is_verified=bool(is_verified),
        likes_count=likes_count,
        video_count=video_count,
        following_count=counts[Direction.FOLLOWING],
        follower_count=counts[Direction.FOLLOWERS],
    )
