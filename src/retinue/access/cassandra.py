"""Clients, tokens and audit checkpoints in a keyspace.

Clients and checkpoints are written by lightweight transactions only, so concurrent writes lose nothing. Tokens use
fixed timestamps (insert 1, delete 2), so a delete always wins regardless of clock skew.
"""

import asyncio
import secrets
from typing import Any

from msgspec import structs

from retinue.access.client_rows import (
    CLIENT_COLUMNS,
    GRANT_COLUMNS,
    SECRET_COLUMNS,
    VALUE_COLUMNS,
    checkpoint_of,
    client_of,
    columns_of,
    grant_of,
    secrets_of,
    values_of,
)
from retinue.access.contract import Checkpoint
from retinue.errors import StoreError, StoreUnavailable
from retinue.model import ClientChange, RegisteredClient, Secrets, TokenGrant
from retinue.quota.counters import DAY_SECONDS
from retinue.store.cassandra.session import Session
from retinue.store.cassandra.statements import Statement

_HOUR_SECONDS = 3600
_AUDIT_SECRET_BYTES = 32
_NO_HASH = bytes(20)

_CLIENT = f"SELECT {', '.join(CLIENT_COLUMNS + SECRET_COLUMNS)} FROM client"
_NUMBERS = "SELECT id FROM client"
_NUMBER = "SELECT client FROM client_key WHERE key = ?"
_NAME = "INSERT INTO client_key (key, client) VALUES (?, ?)"
_ADD = f"""
    INSERT INTO client (id, {", ".join(VALUE_COLUMNS)}, secret, former_until)
    VALUES (?, {"?, " * len(VALUE_COLUMNS)} ?, 0) IF NOT EXISTS
"""
_ROTATE = "UPDATE client SET former_secret = ?, former_until = ?, secret = ? WHERE id = ? IF key = ? AND secret = ?"
_REVOKE = "UPDATE client SET revoked_at = ? WHERE id = ? IF key = ? AND revoked_at = NULL"

_TOKEN = "SELECT client, expires_at FROM access_token WHERE digest = ?"
_GRANT = f"SELECT suspended_at, revoked_at, {', '.join(GRANT_COLUMNS)} FROM client WHERE id = ?"
_ADD_TOKEN = "INSERT INTO access_token (digest, client, expires_at) VALUES (?, ?, ?) USING TIMESTAMP 1"
_REMOVE_TOKEN = "DELETE FROM access_token USING TIMESTAMP 2 WHERE digest = ?"
_ADD_END = "INSERT INTO token_end (hour, expires_at, digest) VALUES (?, ?, ?) USING TIMESTAMP 1"
_REMOVE_END = "DELETE FROM token_end USING TIMESTAMP 2 WHERE hour = ? AND expires_at = ? AND digest = ?"
_REMOVE_ENDS = "DELETE FROM token_end USING TIMESTAMP 2 WHERE hour = ? AND expires_at <= ?"
_ENDED = "SELECT digest FROM token_end WHERE hour = ? AND expires_at > ? AND expires_at <= ?"

_CHECKPOINT = "SELECT secret, count, hash, before_count, before_hash, is_open FROM audit WHERE node = ?"
_BEGIN = """
    INSERT INTO audit (node, secret, count, hash, before_count, before_hash, is_open)
    VALUES (?, ?, 0, ?, 0, ?, false) IF NOT EXISTS
"""
_SAVE_CHECKPOINT = """
    UPDATE audit SET count = ?, hash = ?, before_count = ?, before_hash = ?, is_open = ? WHERE node = ? IF secret = ?
"""


class CassandraAccess:
    """An `AccessStore`, and the `AuditStore` of one machine. Writes run in threads."""

    def __init__(self, session: Session, node: str) -> None:
        self._session = session
        self._node = node
        self._forgotten = 0  # up to this second, by this process

    async def add_client(self, client: RegisteredClient, secret: bytes) -> RegisteredClient:
        return await asyncio.to_thread(self._add, client, secret)

    async def find_client(self, key: str) -> tuple[RegisteredClient, Secrets] | None:
        for (number,) in await self._session.fetch(_NUMBER, (key,)):
            for row in await self._session.fetch(f"{_CLIENT} WHERE id = ?", (number,)):
                client = client_of(row)
                return (client, secrets_of(client, row[-3:])) if client.key == key else None
        return None

    async def clients(self) -> list[RegisteredClient]:
        rows = await asyncio.to_thread(self._session.rows, _CLIENT)
        return [client_of(row) for row in sorted(rows)]

    async def change_client(self, key: str, change: ClientChange) -> bool:
        columns = columns_of(change)
        if not columns:
            return await self.find_client(key) is not None
        assignments = ", ".join(f"{column} = ?" for column in columns)
        return await self._update(
            f"UPDATE client SET {assignments} WHERE id = ? IF key = ?", *columns.values(), key=key
        )

    async def rotate_secret(self, key: str, secret: bytes, former_until: int) -> bool:
        while (found := await self.find_client(key)) is not None:
            number, former = found[0].id, found[1].current
            if former == secret:  # an earlier attempt was applied although it timed out
                return True
            if await self._set(_ROTATE, former, former_until, secret, number, key, former):
                return True
        return False

    async def suspend_client(self, key: str, at: int | None) -> bool:
        return await self._update("UPDATE client SET suspended_at = ? WHERE id = ? IF key = ?", at, key=key)

    async def revoke_client(self, key: str, at: int) -> bool:
        return await self._update(_REVOKE, at, key=key) or await self.find_client(key) is not None

    async def add_token(self, digest: bytes, client_id: int, expires_at: int) -> None:
        end = Statement(_ADD_END, (expires_at // _HOUR_SECONDS, expires_at, digest))
        await self._write(Statement(_ADD_TOKEN, (digest, client_id, expires_at)), end)

    async def remove_token(self, digest: bytes, client_id: int) -> bool:
        for number, expires_at in await self._session.fetch(_TOKEN, (digest,)):
            if number == client_id:
                end = Statement(_REMOVE_END, (expires_at // _HOUR_SECONDS, expires_at, digest))
                await self._write(Statement(_REMOVE_TOKEN, (digest,)), end)
                return True
        return False

    async def find_grant(self, digest: bytes) -> TokenGrant | None:
        for number, expires_at in await self._session.fetch(_TOKEN, (digest,)):
            for suspended_at, revoked_at, *row in await self._session.fetch(_GRANT, (number,)):
                return grant_of(expires_at, row) if suspended_at is None and revoked_at is None else None
        return None

    async def forget_tokens(self, expired_at: int) -> int:
        return await asyncio.to_thread(self._forget, expired_at)

    async def audit_checkpoint(self) -> Checkpoint:
        rows = await self._session.fetch(_CHECKPOINT, (self._node,))
        if not rows:
            await self._set(_BEGIN, self._node, secrets.token_bytes(_AUDIT_SECRET_BYTES), _NO_HASH, _NO_HASH)
            rows = await self._session.fetch(_CHECKPOINT, (self._node,))
        return checkpoint_of(rows[0])

    async def save_audit_checkpoint(self, checkpoint: Checkpoint) -> None:
        places = (checkpoint.count, checkpoint.hash, checkpoint.before_count, checkpoint.before_hash)
        if not await self._set(_SAVE_CHECKPOINT, *places, checkpoint.is_open, self._node, checkpoint.secret):
            raise StoreUnavailable(f"the audit log of {self._node} has another secret")

    def statements_sent(self) -> int:
        return self._session.statements_sent()

    def close(self) -> None:
        self._session.close()

    # --- writing ----------------------------------------------------------------------------------------------------

    async def _write(self, *statements: Statement) -> None:
        await asyncio.to_thread(self._session.write_all, statements)

    async def _set(self, query: str, *values: Any) -> bool:
        """Run a lightweight transaction; return whether it was applied."""
        applied, _ = await asyncio.to_thread(self._session.compare_and_set, query, values)
        return applied

    async def _update(self, query: str, *values: Any, key: str) -> bool:
        """Run an update by id and key; return whether it was applied."""
        for (number,) in await self._session.fetch(_NUMBER, (key,)):
            return await self._set(query, *values, number, key)
        return False

    def _add(self, client: RegisteredClient, secret: bytes) -> RegisteredClient:
        """Store a client under the first free id.

        The key is written first: a process that ends in between leaves nothing visible.
        """
        if self._session.rows(_NUMBER, (client.key,)):
            raise StoreError(f"client {client.key}: there is one with this key")
        number = max((number for (number,) in self._session.rows(_NUMBERS)), default=0)
        is_added = False
        while not is_added:
            number += 1
            self._session.write(_NAME, (client.key, number))
            is_added, found = self._session.compare_and_set(_ADD, (number, *values_of(client), secret))
            is_added = is_added or client.key in found  # by an earlier attempt that timed out
        return structs.replace(client, id=number)

    def _forget(self, expired_at: int) -> int:
        """Remove the tokens of the hours since the last time."""
        after, count = max(self._forgotten, expired_at - DAY_SECONDS), 0
        for hour in range(after // _HOUR_SECONDS, expired_at // _HOUR_SECONDS + 1):
            ended = self._session.rows(_ENDED, (hour, after, expired_at))
            if ended:
                self._session.write_all(Statement(_REMOVE_TOKEN, row) for row in ended)
                self._session.write(_REMOVE_ENDS, (hour, expired_at))
            count += len(ended)
        self._forgotten = max(after, expired_at)
        return count
