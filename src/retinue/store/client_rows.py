"""Clients as rows: which columns every store keeps of a client, and what they mean. Pure.

`None` is no limit, no moment, or nothing said. Scopes are one text with spaces between; a short-term limit is two
columns.
"""

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, structs

from retinue.model import TOKEN_SECONDS, Client, ClientChange, Grant, Meter, Quota, Rate

# A token from further in the future was issued under another clock, such as a sandbox's, and is none.
CLOCK_SKEW_SECONDS = 300

_QUOTA_COLUMNS = ("list_calls", "list_rows", "other_calls", "rate_calls", "rate_seconds")
# What is said of a client, but for its number and its secrets.
VALUE_COLUMNS = (
    *("key", "name", "contact", "notes", "scopes"),
    *("created_at", "not_before", "not_after", "suspended_at", "revoked_at"),
    *_QUOTA_COLUMNS,
)
CLIENT_COLUMNS = ("id", *VALUE_COLUMNS)
SECRET_COLUMNS = ("secret", "former_secret", "former_until")
# What a grant needs of its token's client.
GRANT_COLUMNS = ("not_before", "not_after", "key", "scopes", "id", "created_at", *_QUOTA_COLUMNS)


def values_of(client: Client) -> tuple[Any, ...]:
    """What belongs into `VALUE_COLUMNS`."""
    quota = client.quota
    return (
        *(client.key, client.name, client.contact, client.notes, _joined(client.scopes), client.created_at),
        *(client.not_before, client.not_after, client.suspended_at, client.revoked_at),
        *(quota.list_calls, quota.list_rows, quota.other_calls, *_rate(quota.rate)),
    )


def client_of(row: Sequence[Any]) -> Client:
    """The client in a row that begins with `CLIENT_COLUMNS`."""
    number, key, name, contact, notes, scopes, created_at, *times = row[:11]
    not_before, not_after, suspended_at, revoked_at = times
    return Client(
        *(key, name, frozenset(scopes.split()), created_at, number, contact, notes, not_before, not_after),
        *(_quota(row[11:16]), suspended_at, revoked_at),
    )


def grant_of(token_expires_at: int, row: Sequence[Any]) -> Grant:
    """What a token allows, by `GRANT_COLUMNS` of its client."""
    not_before, not_after, key, scopes, number, created_at = row[:6]
    return Grant(
        key,
        frozenset(scopes.split()),
        begins_at=max(not_before or 0, token_expires_at - TOKEN_SECONDS - CLOCK_SKEW_SECONDS),
        expires_at=token_expires_at if not_after is None else min(token_expires_at, not_after),
        meter=Meter(number, created_at),
        quota=_quota(row[6:]),
    )


def columns_of(change: ClientChange) -> dict[str, Any]:
    """The columns that a change names, with their new values."""
    columns = {name: value for name, value in structs.asdict(change).items() if value is not UNSET}
    if "scopes" in columns:
        columns["scopes"] = _joined(columns["scopes"])
    if "rate" in columns:
        columns["rate_calls"], columns["rate_seconds"] = _rate(columns.pop("rate"))
    return columns


def _quota(row: Sequence[Any]) -> Quota:
    list_calls, list_rows, other_calls, calls, seconds = row
    return Quota(list_calls, list_rows, other_calls, None if calls is None else Rate(calls, seconds))


def _rate(rate: Rate | None) -> tuple[int | None, int | None]:
    return (None, None) if rate is None else (rate.calls, rate.seconds)


def _joined(scopes: frozenset[str]) -> str:
    return " ".join(sorted(scopes))
