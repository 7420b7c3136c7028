"""Texts of rows, from the row file or from the store."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retinue.store.layout.sealing import unseal
from retinue.store.layout.tables import META
from retinue.store.layout.tombstones import STORE_ID
from retinue.store.reading.account_cache import AccountCache
from retinue.store.reading.row_file import Ids, RowFile

MAX_STALE = 10_000  # rows of the file that are read from the store; if more are behind, all are


class MappedRows:
    """The texts of one reader: rows without their common beginning and end.

    Call `refresh` whenever the account cache was refreshed.
    """

    def __init__(self, path: Path | None, cache: AccountCache[bytes], begin: bytes, end: bytes) -> None:
        self._path = path
        self._cache = cache
        self._begin, self._end = begin, end
        self._between = end + b"," + begin
        self._file: RowFile | None = None
        self._store = ""
        self._stale: frozenset[int] = frozenset()
        self._revision = -1

    async def refresh(self) -> None:
        """Notice a new file, and changes that it does not have yet."""
        if self._path is not None and (self._file is None or self._file.has_grown()):
            self._file = self._open(self._path)
        if self._file is None:
            return
        revision = self._file.state.revision
        if (revision, self._cache.revision) != (self._revision, self._cache.revision) or self._stale:
            changed = await self._cache.changed_since(revision, MAX_STALE)
            if changed is None:
                self._file = None
            self._stale = frozenset(changed or ())
            self._revision = revision

    async def set_store(self) -> None:
        """Read the id of the store that the file must belong to."""
        (found,) = await self._cache.source.get(META, (STORE_ID,))
        self._store = "" if found is None else unseal(META, STORE_ID, found).hex()

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

    def _open(self, path: Path) -> RowFile | None:
        try:
            file = RowFile(path)
        except (OSError, ValueError):
            return None
        return file if file.state.store == self._store else None


def ids_of(numbers: memoryview, first: int, last: int) -> Ids:
    """Return a range of a block's accounts, newest first."""
    return np.frombuffer(numbers, "<u4", last - first, 4 * first)[::-1]
