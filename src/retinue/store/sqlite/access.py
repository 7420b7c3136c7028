"""Clients and tokens in their own SQLite file, so that a long import never blocks a token."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import apsw

from retinue.errors import StoreUnavailable
from retinue.model import Client, Grant
from retinue.store.sqlite import files

_CLIENT = "SELECT key, name, scopes, created_at, revoked_at, secret_digest FROM client"
_GRANT = """
    SELECT token.client, client.scopes, token.expires_at
    FROM token JOIN client ON client.key = token.client
    WHERE token.digest = ? AND client.revoked_at IS NULL
"""

_Result = TypeVar("_Result")


class SqliteAccess:
    """An `AccessStore`. Reads at once; writes go through one thread with a connection of its own, so that waiting
    for the write lock never holds up an event loop.
    """

    def __init__(self, path: Path) -> None:
        self._reader = files.open_for_reading(path, files.ACCESS)
        self._writer = files.open_for_writing(path, files.ACCESS)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="access-writer")

    async def add_client(self, client: Client, secret_digest: bytes) -> None:
        """Store a new client."""
        scopes = " ".join(sorted(client.scopes))
        values = (client.key, client.name, secret_digest, scopes, client.created_at, client.revoked_at)
        await self._write("INSERT INTO client VALUES (?, ?, ?, ?, ?, ?)", values)

    async def find_client(self, key: str) -> tuple[Client, bytes] | None:
        """A client and its secret's digest."""
        for row in self._read(f"{_CLIENT} WHERE key = ?", (key,)):
            return _client(row), row[5]
        return None

    async def clients(self) -> list[Client]:
        """All clients, oldest first."""
        return [_client(row) for row in self._read(f"{_CLIENT} ORDER BY rowid", ())]

    async def revoke_client(self, key: str, at: int) -> bool:
        """End a client and with it its tokens."""
        changed = await self._write(
            "UPDATE client SET revoked_at = ifnull(revoked_at, ?) WHERE key = ? RETURNING key", (at, key)
        )
        return bool(changed)

    async def add_token(self, digest: bytes, client_key: str, expires_at: int) -> None:
        """Store a token."""
        await self._write("INSERT INTO token VALUES (?, ?, ?)", (digest, client_key, expires_at))

    async def find_grant(self, digest: bytes) -> Grant | None:
        """What a stored token allows."""
        for client_key, scopes, expires_at in self._read(_GRANT, (digest,)):
            return Grant(client_key, frozenset(scopes.split()), expires_at)
        return None

    async def forget_tokens(self, expired_at: int) -> int:
        """Remove tokens that expired at or before a second."""
        return len(await self._write("DELETE FROM token WHERE expires_at <= ? RETURNING 1", (expired_at,)))

    def close(self) -> None:
        """Finish what is being written and give the file back."""
        self._thread.shutdown()
        self._reader.close()
        self._writer.close()

    def _read(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._reader.execute(query, values).fetchall()
        except apsw.Error as error:
            raise StoreUnavailable(str(error)) from error

    async def _write(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        def run() -> list[tuple[Any, ...]]:
            with files.transaction(self._writer):
                return self._writer.execute(query, values).fetchall()

        return await self._in_thread(run)

    async def _in_thread(self, run: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, run)


def _client(row: tuple[Any, ...]) -> Client:
    key, name, scopes, created_at, revoked_at = row[:5]
    return Client(key, name, frozenset(scopes.split()), created_at, revoked_at)
