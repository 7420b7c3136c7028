"""Clients and tokens in their own SQLite file, so that a long import never blocks a token; and the audit's anchor."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import apsw
from msgspec import UNSET, structs

from retinue.errors import StoreUnavailable
from retinue.model import TOKEN_SECONDS, Client, ClientChange, Grant, Meter, Quota, Rate, Secrets
from retinue.store.base import Anchor
from retinue.store.sqlite import files

# A token from further in the future was issued under another clock, such as a sandbox's, and is none.
CLOCK_SKEW_SECONDS = 300

_QUOTA = "list_calls, list_rows, other_calls, rate_calls, rate_seconds"
_CLIENT = f"""
    SELECT id, key, name, contact, notes, scopes, created_at, not_before, not_after, suspended_at, revoked_at,
        {_QUOTA}, secret, former_secret, former_until
    FROM client
"""
_ADD = f"""
    INSERT INTO client (key, name, contact, notes, scopes, created_at, not_before, not_after, suspended_at, revoked_at,
        {_QUOTA}, secret)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id
"""
_GRANT = f"""
    SELECT token.expires_at, not_before, not_after, key, scopes, id, created_at, {_QUOTA}
    FROM token JOIN client ON client.id = token.client
    WHERE token.digest = ? AND revoked_at IS NULL AND suspended_at IS NULL
"""
_ROTATE = "UPDATE client SET former_secret = secret, former_until = ?, secret = ? WHERE key = ? RETURNING id"
_MOVE_ANCHOR = """
    UPDATE audit SET count = ?, hash = ?, before_count = ?, before_hash = ?, is_open = ? WHERE secret = ?
"""

_Result = TypeVar("_Result")


class SqliteAccess:
    """An `AccessStore` and an `AuditStore`. Reads at once; writes go through one thread with a connection of its own,
    so that waiting for the write lock never holds up an event loop.
    """

    def __init__(self, path: Path) -> None:
        self._reader = files.open_for_reading(path, files.ACCESS)
        self._writer = files.open_for_writing(path, files.ACCESS)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="access-writer")

    async def add_client(self, client: Client, secret: bytes) -> Client:
        """Store a new client with its secret's digest; the client with its number."""
        values = (
            *(client.key, client.name, client.contact, client.notes, _joined(client.scopes), client.created_at),
            *(client.not_before, client.not_after, client.suspended_at, client.revoked_at),
            *(client.quota.list_calls, client.quota.list_rows, client.quota.other_calls, *_rate(client.quota.rate)),
            secret,
        )
        ((number,),) = await self._write(_ADD, values)
        return structs.replace(client, id=number)

    async def find_client(self, key: str) -> tuple[Client, Secrets] | None:
        """A client and the digests of its secrets."""
        for row in self._read(f"{_CLIENT} WHERE key = ?", (key,)):
            return _client(row), Secrets(*row[-3:])
        return None

    async def clients(self) -> list[Client]:
        """All clients, oldest first."""
        return [_client(row) for row in self._read(f"{_CLIENT} ORDER BY id", ())]

    async def change_client(self, key: str, change: ClientChange) -> bool:
        """Change what is named."""
        columns = _columns(change)
        assignments = "".join(f"{column} = ?, " for column in columns)
        found = await self._write(
            f"UPDATE client SET {assignments} key = key WHERE key = ? RETURNING id", (*columns.values(), key)
        )
        return bool(found)

    async def rotate_secret(self, key: str, secret: bytes, former_until: int) -> bool:
        """Give a client another secret; the one it had is good up to a second."""
        return bool(await self._write(_ROTATE, (former_until, secret, key)))

    async def suspend_client(self, key: str, at: int | None) -> bool:
        """Suspend a client, or (None) let it in again."""
        return bool(await self._write("UPDATE client SET suspended_at = ? WHERE key = ? RETURNING id", (at, key)))

    async def revoke_client(self, key: str, at: int) -> bool:
        """End a client and with it its tokens."""
        changed = await self._write(
            "UPDATE client SET revoked_at = ifnull(revoked_at, ?) WHERE key = ? RETURNING id", (at, key)
        )
        return bool(changed)

    async def add_token(self, digest: bytes, client_id: int, expires_at: int) -> None:
        """Store a token."""
        await self._write("INSERT INTO token VALUES (?, ?, ?)", (digest, client_id, expires_at))

    async def remove_token(self, digest: bytes, client_id: int) -> bool:
        """Remove a token of a client."""
        return bool(
            await self._write("DELETE FROM token WHERE digest = ? AND client = ? RETURNING 1", (digest, client_id))
        )

    async def find_grant(self, digest: bytes) -> Grant | None:
        """What a stored token allows."""
        for row in self._read(_GRANT, (digest,)):
            return _grant(row)
        return None

    async def forget_tokens(self, expired_at: int) -> int:
        """Remove tokens that expired at or before a second."""
        return len(await self._write("DELETE FROM token WHERE expires_at <= ? RETURNING 1", (expired_at,)))

    async def audit_anchor(self) -> Anchor:
        """Where the audit log is anchored."""
        rows = self._read("SELECT secret, count, hash, before_count, before_hash, is_open FROM audit", ())
        secret, count, last, before_count, before, is_open = rows[0]
        return Anchor(secret, count, last, before_count, before, bool(is_open))

    async def move_audit_anchor(self, anchor: Anchor) -> None:
        """Write the anchor anew."""
        places = (anchor.count, anchor.hash, anchor.before_count, anchor.before_hash)
        await self._write(_MOVE_ANCHOR, (*places, anchor.is_open, anchor.secret))

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
    number, key, name, contact, notes, scopes, created_at, *times = row[:11]
    not_before, not_after, suspended_at, revoked_at = times
    return Client(
        *(key, name, frozenset(scopes.split()), created_at, number, contact, notes, not_before, not_after),
        *(_quota(row[11:16]), suspended_at, revoked_at),
    )


def _grant(row: tuple[Any, ...]) -> Grant:
    expires_at, not_before, not_after, key, scopes, number, created_at = row[:7]
    return Grant(
        key,
        frozenset(scopes.split()),
        begins_at=max(not_before or 0, expires_at - TOKEN_SECONDS - CLOCK_SKEW_SECONDS),
        expires_at=expires_at if not_after is None else min(expires_at, not_after),
        meter=Meter(number, created_at),
        quota=_quota(row[7:]),
    )


def _quota(row: tuple[Any, ...]) -> Quota:
    list_calls, list_rows, other_calls, calls, seconds = row
    return Quota(list_calls, list_rows, other_calls, None if calls is None else Rate(calls, seconds))


def _rate(rate: Rate | None) -> tuple[int | None, int | None]:
    return (None, None) if rate is None else (rate.calls, rate.seconds)


def _joined(scopes: frozenset[str]) -> str:
    return " ".join(sorted(scopes))


def _columns(change: ClientChange) -> Mapping[str, Any]:
    """The columns that a change names, with their new values."""
    columns = {name: value for name, value in structs.asdict(change).items() if value is not UNSET}
    if "scopes" in columns:
        columns["scopes"] = _joined(columns["scopes"])
    if "rate" in columns:
        columns["rate_calls"], columns["rate_seconds"] = _rate(columns.pop("rate"))
    return columns
