"""Rows and their texts, from the row file or from the store."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retinue.model import RowEncoding
from retinue.store.layout.sealing import unseal
from retinue.store.layout.tables import META, STORE_ID
from retinue.store.reading.account_cache import AccountCache
from retinue.store.reading.row_file import Ids, RowFile

MAX_STALE = 10_000  # rows of the file that are read from the store; if more are behind, all are
MAX_KNOWN = 65_536  # texts, of some 200 bytes each


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
        self._revisions = (-1, -1)  # of the file and of the cache, when they were compared
        self._refreshes = 0
        self._known: dict[int, bytes] = {}  # of visible accounts, at the cache's revision
        self._known_revision = -1
        self._turned_away = 0

    async def refresh(self) -> None:
        """Notice a new file, and changes that it does not have yet."""
        if self._refreshes == self._cache.refreshes:
            return
        self._refreshes = self._cache.refreshes
        if self._known_revision != self._cache.revision:
            self._known_revision = self._cache.revision
            self._known.clear()
        if self._file is None or self._file.has_grown():
            self._file = await self._open()
        if self._file is None:
            return
        state = self._file.state
        if state.store != self._store:
            self._file = None
            return
        revisions = (state.revision, self._cache.revision)
        if revisions != self._revisions:
            changed = await self._cache.changed_since(state.revision, MAX_STALE)
            if changed is None:
                self._file = None
                return
            self._stale = frozenset(changed)
            self._revisions = revisions

    async def rows(self, account_ids: Sequence[int]) -> Sequence[bytes | None]:
        if self._file is None:
            return await self._cache.rows(account_ids)
        texts = await self._texts(self._file, np.array(account_ids, np.uint32))
        if all(texts):
            return self.whole(texts)
        return [self._begin + text + self._end if text else None for text in texts]

    def known_texts(self, ids: Ids) -> Sequence[bytes] | None:
        """Return the texts of accounts that were all requested lately, else None."""
        known = self._known
        texts = [known.get(account_id) for account_id in ids.tolist()]
        return texts if all(texts) else None  # type: ignore[return-value]

    async def texts(self, ids: Ids) -> Sequence[bytes] | None:
        """Return the texts of accounts; None if one of them is hidden."""
        if self._file is None:
            texts = await self._stored(ids.tolist())
        else:
            texts = await self._texts(self._file, ids)
        if not all(texts):
            return None
        self._remember(ids, texts)
        return texts

    def _remember(self, ids: Ids, texts: Sequence[bytes]) -> None:
        """Keep texts. A few that stay help more than many that replace each other."""
        if len(self._known) < MAX_KNOWN:
            self._known.update(zip(ids.tolist(), texts, strict=True))
            return
        self._turned_away += len(texts)
        if self._turned_away > MAX_KNOWN:
            self._turned_away = 0
            self._known.clear()

    async def _texts(self, file: RowFile, ids: Ids) -> list[bytes]:
        """Return texts, empty for hidden accounts. The store supplies missing ones."""
        texts = file.texts(ids)
        if self._stale:
            texts = [
                None if account_id in self._stale else text
                for account_id, text in zip(ids.tolist(), texts, strict=True)
            ]
        if not all(texts):
            missing = [index for index, text in enumerate(texts) if text is None]
            for index, text in zip(missing, await self._stored(ids[missing].tolist()), strict=True):
                texts[index] = text
        return texts  # type: ignore[return-value]

    async def _stored(self, account_ids: Sequence[int]) -> list[bytes]:
        first, last = len(self._begin), -len(self._end)
        return [b"" if row is None else row[first:last] for row in await self._cache.rows(account_ids)]

    def whole(self, texts: Sequence[bytes]) -> list[bytes]:
        """Return encoded rows."""
        begin, end = self._begin, self._end
        return [b"%b%b%b" % (begin, text, end) for text in texts]

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
