"""Rows and their texts, from the row file or from the store."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retinue.model import RowEncoding
from retinue.store.layout.sealing import unseal
from retinue.store.layout.tables import META
from retinue.store.layout.tombstones import STORE_ID
from retinue.store.reading.account_cache import AccountCache
from retinue.store.reading.row_file import Ids, RowFile

MAX_STALE = 10_000  # rows of the file that are read from the store; if more are behind, all are


class MappedRows:
    """The rows of one reader, and their texts: rows without their common beginning and end."""

    def __init__(self, path: Path, cache: AccountCache[bytes], encoding: RowEncoding) -> None:
        self._path = path
        self._cache = cache
        self._begin, self._end = encoding.begin, encoding.end
        self._between = encoding.end + b"," + encoding.begin
        self._file: RowFile | None = None
        self._store = ""
        self._stale: frozenset[int] = frozenset()
        self._revision = -1
        self._refreshes = 0

    async def refresh(self) -> None:
        """Notice a new file, and changes that it does not have yet."""
        if self._refreshes == self._cache.refreshes:
            return
        self._refreshes = self._cache.refreshes
        if self._file is None or self._file.has_grown():
            self._file = await self._open()
        if self._file is None:
            return
        state = self._file.state
        if state.store != self._store:
            self._file = None
            return
        revision = state.revision
        if (revision, self._cache.revision) != (self._revision, self._cache.revision) or self._stale:
            changed = await self._cache.changed_since(revision, MAX_STALE)
            if changed is None:
                self._file = None
            self._stale = frozenset(changed or ())
            self._revision = revision

    async def rows(self, account_ids: Sequence[int]) -> Sequence[bytes | None]:
        if self._file is not None:
            texts = self._file.texts(np.array(account_ids, np.uint32))
            if texts is not None and (not self._stale or self._stale.isdisjoint(account_ids)):
                begin, end = self._begin, self._end
                return [b"%b%b%b" % (begin, text, end) if text else None for text in texts]
        return await self._cache.rows(account_ids)

    async def texts(self, ids: Ids) -> Sequence[bytes] | None:
        """Return the texts of accounts; None if one of them is hidden."""
        if self._file is not None:
            texts = self._file.texts(ids)
            if texts is not None and (not self._stale or self._stale.isdisjoint(ids.tolist())):
                return texts if all(texts) else None
        rows = await self._cache.rows(ids.tolist())
        first, last = len(self._begin), -len(self._end)
        return [row[first:last] for row in rows if row is not None] if all(rows) else None

    def joined(self, texts: Sequence[bytes]) -> bytes:
        """Return encoded rows, separated by commas."""
        return b"".join((self._begin, self._between.join(texts), self._end)) if texts else b""

    async def _open(self) -> RowFile | None:
        try:
            file = RowFile(self._path)
        except (OSError, ValueError):
            return None
        if not self._store:
            (found,) = await self._cache.source.get(META, (STORE_ID,))
            self._store = "" if found is None else unseal(META, STORE_ID, found).hex()
        return file if file.state.store == self._store else None


def ids_of(numbers: memoryview, first: int, last: int) -> Ids:
    """Return a range of a block's accounts, newest first."""
    return np.frombuffer(numbers, "<u4", last - first, 4 * first)[::-1]
