"""Encoded rows from the row file, at most one second behind the store."""

import numpy as np
from retinue.store.layout.row_file import Ids, RowFile


class MappedRows:
    def __init__(self, file: RowFile, prefix: bytes, suffix: bytes) -> None:
        self._file = file
        self._prefix, self._suffix = prefix, suffix
        self._between = suffix + b"," + prefix
        self.stale: set[int] = set()

    def joined(self, ids: Ids) -> bytes | None:
        texts = self._file.texts(ids)
        if texts is None or not all(texts):
            return None
        if self.stale and not self.stale.isdisjoint(ids.tolist()):
            return None
        return b"%b%b%b" % (self._prefix, self._between.join(texts), self._suffix)
