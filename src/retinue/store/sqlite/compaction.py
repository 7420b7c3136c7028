"""Compaction: no byte of erased accounts remains in the graph's files."""

from pathlib import Path

import apsw

from retinue.durable import sync
from retinue.errors import StoreError


def compact(connection: apsw.Connection) -> None:
    """Rewrite the file and truncate its log.

    Raises `StoreError` if a long-running reader keeps the log in use.
    """
    connection.execute("VACUUM")
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0]
    if busy:
        raise StoreError("the store is compacted, but its log is still in use; stop what reads it and compact again")
    # SQLite leaves the log's new length to the operating system: after a power loss the log could have its old content.
    # (It holds no locks on this file, which opening and closing it here would drop.)
    sync(Path(connection.filename_wal))
