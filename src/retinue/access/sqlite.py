"""Clients, tokens and the audit checkpoint, in their own SQLite file.

A long import therefore never blocks a token.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from msgspec import structs

from retinue.access.client_rows import (
    CLIENT_COLUMNS,
    GRANT_COLUMNS,
    LAST_SECOND,
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
from retinue.errors import StoreUnavailable
from retinue.model import ClientChange, RegisteredClient, Secrets, TokenGrant
from retinue.store.sqlite import files

_CLIENT = f"SELECT {', '.join(CLIENT_COLUMNS + SECRET_COLUMNS)} FROM client"
_ADD = f"""
    INSERT INTO client ({", ".join(VALUE_COLUMNS)}, secret)
    VALUES ({"?, " * len(VALUE_COLUMNS)} ?) RETURNING id
"""
_GRANT = f"""
    SELECT token.expires_at, {", ".join(GRANT_COLUMNS)}
    FROM token JOIN client ON client.id = token.client
    WHERE token.digest = ? AND revoked_at IS NULL AND suspended_at IS NULL
"""
_WRONG_TIMES = "SELECT count(*) FROM token WHERE expires_at NOT BETWEEN 0 AND {} HAVING count(*) > 0"
_ROTATE = "UPDATE client SET former_secret = secret, former_until = ?, secret = ? WHERE key = ? RETURNING id"
_CHECKPOINT = "SELECT secret, count, hash, before_count, before_hash, is_open FROM audit"
_SAVE_CHECKPOINT = """
    UPDATE audit SET count = ?, hash = ?, before_count = ?, before_hash = ?, is_open = ? WHERE secret = ?
"""

_Result = TypeVar("_Result")


class SqliteAccess:
    """An `AccessStore` and an `AuditStore`.

    Writes run in one thread, so that the event loop never waits for the write lock.
    """

    def __init__(self, path: Path) -> None:
        with ExitStack() as opened:
            self._reader = files.open_for_reading(path, files.ACCESS)
            opened.callback(self._reader.close)
            self._writer = files.open_for_writing(path, files.ACCESS)
            opened.pop_all()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="access-writer")

    async def add_client(self, client: RegisteredClient, secret: bytes) -> RegisteredClient:
        ((number,),) = await self._write(_ADD, (*values_of(client), secret))
        return structs.replace(client, id=number)

    async def find_client(self, key: str) -> tuple[RegisteredClient, Secrets] | None:
        for row in self._read(f"{_CLIENT} WHERE key = ?", (key,)):
            client = client_of(row)
            return client, secrets_of(client, row[-3:])
        return None

    async def clients(self) -> list[RegisteredClient]:
        return [client_of(row) for row in self._read(f"{_CLIENT} ORDER BY id", ())]

    async def change_client(self, key: str, change: ClientChange) -> bool:
        columns = columns_of(change)
        assignments = "".join(f"{column} = ?, " for column in columns)
        found = await self._write(
            f"UPDATE client SET {assignments} key = key WHERE key = ? RETURNING id", (*columns.values(), key)
        )
        return bool(found)

    async def rotate_secret(self, key: str, secret: bytes, former_until: int) -> bool:
        return bool(await self._write(_ROTATE, (former_until, secret, key)))

    async def suspend_client(self, key: str, at: int | None) -> bool:
        return bool(await self._write("UPDATE client SET suspended_at = ? WHERE key = ? RETURNING id", (at, key)))

    async def revoke_client(self, key: str, at: int) -> bool:
        changed = await self._write(
            "UPDATE client SET revoked_at = ifnull(revoked_at, ?) WHERE key = ? RETURNING id", (at, key)
        )
        return bool(changed)

    async def add_token(self, digest: bytes, client_id: int, expires_at: int) -> None:
        await self._write("INSERT INTO token VALUES (?, ?, ?)", (digest, client_id, expires_at))

    async def remove_token(self, digest: bytes, client_id: int) -> bool:
        return bool(
            await self._write("DELETE FROM token WHERE digest = ? AND client = ? RETURNING 1", (digest, client_id))
        )

    async def find_grant(self, digest: bytes) -> TokenGrant | None:
        for row in self._read(_GRANT, (digest,)):
            return grant_of(row[0], row[1:])
        return None

    async def forget_tokens(self, expired_at: int) -> int:
        if not self._read("SELECT 1 FROM token WHERE expires_at <= ? LIMIT 1", (expired_at,)):
            return 0  # without waking the disk
        return len(await self._write("DELETE FROM token WHERE expires_at <= ? RETURNING 1", (expired_at,)))

    async def audit_checkpoint(self) -> Checkpoint:
        rows = self._read(_CHECKPOINT, ())
        if len(rows) != 1:
            raise StoreUnavailable(f"table audit: has {len(rows)} rows instead of one; it is damaged")
        return checkpoint_of(rows[0])

    async def save_audit_checkpoint(self, checkpoint: Checkpoint) -> None:
        places = (checkpoint.count, checkpoint.hash, checkpoint.before_count, checkpoint.before_hash)
        await self._write(_SAVE_CHECKPOINT, (*places, checkpoint.is_open, checkpoint.secret))

    def statements_sent(self) -> int:
        return 0

    def close(self) -> None:
        self._thread.shutdown()
        self._reader.close()
        self._writer.close()

    def _read(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with files.translated():
            return self._reader.execute(query, values).fetchall()

    async def _write(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        def run() -> list[tuple[Any, ...]]:
            with files.transaction(self._writer):
                rows = self._writer.execute(query, values).fetchall()
                files.touch(self._writer, files.ACCESS)
                return rows

        return await self._in_thread(run)

    async def _in_thread(self, run: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, run)


def wrong_clients(execute: files.Execute) -> Iterator[str]:
    """Yield clients that a server refuses, and counts of such tokens."""
    for row in execute(f"{_CLIENT} ORDER BY id"):
        yield from _refused(lambda row: secrets_of(client_of(row), row[-len(SECRET_COLUMNS) :]), row)
    for (count,) in execute("SELECT count(*) FROM token WHERE length(digest) <> 32 HAVING count(*) > 0"):
        yield f"{count} rows of table token have a digest that is not 32 bytes long"
    for (count,) in execute(_WRONG_TIMES.format(LAST_SECOND)):
        yield f"{count} rows of table token have an expires_at that is no second"


def wrong_checkpoint(execute: files.Execute) -> Iterator[str]:
    """Yield what a server refuses in the checkpoint of the audit log."""
    rows = execute(_CHECKPOINT).fetchall()
    if len(rows) != 1:
        yield f"table audit: has {len(rows)} rows instead of one"
    for row in rows:
        yield from _refused(checkpoint_of, row)


def _refused(read: Callable[[Sequence[Any]], object], row: Sequence[Any]) -> Iterator[str]:
    try:
        read(row)
    except StoreUnavailable as error:
        yield str(error)
