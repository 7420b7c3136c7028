"""Reading the graph from its keyspace without blocking.

A usual page is one statement, or two at the seam of two parts of a list. A page may meet a half-written group, so
apparent damage is read again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Generic, TypeVar

from retinue.clock import Clock
from retinue.errors import StoreUnavailable
from retinue.model import Account, PageRequest, PageRows, Profile, RowEncoding, Shown_co
from retinue.store.cassandra.lease import STATE
from retinue.store.cassandra.parts import ListPart, PartDirectory, sealed_pointer
from retinue.store.cassandra.places import LAST_SLOT, NEWEST, PLACES, PLAIN, key_of, slot_of
from retinue.store.cassandra.session import Session
from retinue.store.cassandra.source import CassandraSource
from retinue.store.cassandra.statements import Row, chunks
from retinue.store.contract import EncodedRows
from retinue.store.layout.sealing import damaged
from retinue.store.layout.tables import Key, NumberRows, Table
from retinue.store.reading.reader import LayoutReader
from retinue.store.reading.row_file_update import RowFileUpdate, boot_id
from retinue.store.reading.scan import GraphScan

MAX_TRIES = 20
_PAUSE_SECONDS = 0.05
_KEYS_AT_ONCE = 25
_ALL = 1 << 30

_GET = "SELECT key, value FROM {} WHERE key IN ?"
_DOWN = (
    "SELECT slot, value, child FROM {} WHERE owner = ? AND part = ? AND kind = ? AND slot >= ? AND slot <= ? LIMIT ?"
)

_Result = TypeVar("_Result")


class CassandraRows:
    """An `AsyncSource` on a keyspace. Part 0 of a list tells the others."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, table: Table, keys: Sequence[Key]) -> list[bytes | None]:
        if table in PLAIN:
            query = _GET.format(table.name)
            found = await _all(self._session.fetch(query, (list(some),)) for some in chunks(keys, _KEYS_AT_ONCE))
            values: dict[Key, bytes] = dict(chain.from_iterable(found))
            return [values.get(key) for key in keys]
        at_keys = await _all(self.scan(table, key, key) for key in keys if isinstance(key, int))
        return [rows[0][1] if rows else None for rows in at_keys]

    async def scan(self, table: Table, low: int, high: int, *, reverse: bool = False, limit: int = -1) -> NumberRows:
        (first, low_slot), (last, high_slot) = slot_of(table, low), slot_of(table, high)
        most = _ALL if limit < 0 else limit
        if PLACES[table].is_divisible:
            assert reverse
            assert first == last
            return [row for row in await self._down(table, first, high_slot, most) if row[0] >= low]
        rows: NumberRows = []
        for owner in range(first, last + 1):
            slots = low_slot if owner == first else 0, high_slot if owner == last else LAST_SLOT
            found = await self._part(table, (owner, NEWEST), slots, most)
            rows += [(key_of(table, owner, slot), value) for slot, value, _ in reversed(found)]
        return (rows[::-1] if reverse else rows)[:most]

    async def _down(self, table: Table, owner: int, bound: int, limit: int) -> list[tuple[int, bytes]]:
        rows: list[Row] = []
        while True:
            found = await self._part(table, (owner, NEWEST), (0, bound), limit - len(rows))
            pointer = next((index for index, row in enumerate(found) if row[2] is not None), len(found))
            rows += found[:pointer]
            if pointer == len(found):
                break
            low, value, child = found[pointer]
            if value != sealed_pointer(table, owner, ListPart(low, child)):
                raise damaged(table, key_of(table, owner, low), "its pointer to a part is wrong")
            bound = rows[-1][0] - 1 if pointer else bound
            rows += await self._part(table, (owner, child), (low, bound), limit - len(rows))
            if len(rows) == limit or low == 0:
                break
            bound = low - 1
        return [(key_of(table, owner, slot), value) for slot, value, _ in rows]

    async def _part(self, table: Table, partition: tuple[int, int], slots: Sequence[int], limit: int) -> list[Row]:
        place = PLACES[table]
        return await self._session.fetch(_DOWN.format(place.name), (*partition, place.kind, *slots, limit))


class CassandraGraph(Generic[Shown_co]):
    """A `GraphReader`, and a `FastGraph` without answers. `encode` makes a row of two names."""

    def __init__(self, session: Session, clock: Clock, encode: Callable[[str, str], Shown_co]) -> None:
        self._session = session
        self.reader = LayoutReader(CassandraRows(session), clock, encode)

    async def find_account(self, folded: str) -> Account | None:
        return await self._settled(lambda: self.reader.find_account(folded))

    async def read(self, request: PageRequest) -> PageRows[Shown_co]:
        return await self._settled(lambda: self.reader.read(request))

    async def profile(self, account_id: int) -> Profile | None:
        return await self._settled(lambda: self.reader.profile(account_id))

    def find_account_nowait(self, username: str) -> Account | None:
        """Return None: every request awaits the cluster."""

    def read_nowait(self, request: PageRequest) -> EncodedRows | None:
        """Return None."""

    def statements_sent(self) -> int:
        return self._session.statements_sent()

    def close(self) -> None:
        self._session.close()

    async def _settled(self, read: Callable[[], Awaitable[_Result]]) -> _Result:
        """Repeat a read while a group is half written.

        Until then the blocks of a list may name others than their neighbors.
        """
        before = None
        try:
            for _ in range(MAX_TRIES - 1):
                try:
                    return await read()
                except StoreUnavailable as error:
                    if type(error) is not StoreUnavailable:  # nodes were too slow
                        raise
                    ((committed, *_rest, applied),) = await self._session.fetch(STATE)
                    if before == committed == applied:
                        raise
                    if before is not None:
                        await asyncio.sleep(_PAUSE_SECONDS)
                    before = committed
                    self.reader.verifies_links = committed == applied
            return await read()
        finally:
            self.reader.verifies_links = True


def open_scan(session: Session) -> GraphScan:
    """Return a scan of the graph. Writers may work meanwhile."""
    parts = PartDirectory()
    parts.load(session)
    return GraphScan(CassandraSource(session, parts), session.close)


class CassandraRowFile:
    """The row file of a machine, for the process that updates it."""

    def __init__(self, session: Session, path: Path, encoding: RowEncoding) -> None:
        self._session = session
        self._update = RowFileUpdate(path, CassandraSource(session, PartDirectory()), encoding.text, boot_id())

    def step(self) -> bool:
        return self._update.step()

    def close(self) -> None:
        self._update.close()
        self._session.close()


async def _all(reads: Iterable[Coroutine[Any, Any, _Result]]) -> list[_Result]:
    waiting = list(reads)
    return [await waiting[0]] if len(waiting) == 1 else await asyncio.gather(*waiting)
