"""Columns of clients and of the audit checkpoint, for every store. Pure.

`None` is no limit, no time, or unset. Scopes are one text, separated by spaces. A stored value of another type or range
raises `StoreUnavailable`.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, structs

from retinue.access.contract import Checkpoint
from retinue.errors import StoreUnavailable
from retinue.model import TOKEN_SECONDS, ClientChange, Quota, QuotaKey, RateLimit, RegisteredClient, Secrets, TokenGrant

# A token from further in the future was issued under another clock, such as a sandbox's, and is invalid.
CLOCK_SKEW_SECONDS = 300

_QUOTA_COLUMNS = ("list_calls", "list_rows", "other_calls", "rate_calls", "rate_seconds")
# The columns of a client but its id and secrets.
VALUE_COLUMNS = (
    *("key", "name", "contact", "notes", "scopes"),
    *("created_at", "not_before", "not_after", "suspended_at", "revoked_at"),
    *_QUOTA_COLUMNS,
)
CLIENT_COLUMNS = ("id", *VALUE_COLUMNS)
SECRET_COLUMNS = ("secret", "former_secret", "former_until")
# The columns of a token's client that a grant needs.
GRANT_COLUMNS = ("not_before", "not_after", "key", "scopes", "id", "created_at", *_QUOTA_COLUMNS)

_Count = Annotated[int, Meta(ge=0, le=2**53)]
LAST_SECOND = 253_402_300_799  # of the year 9999
_Second = Annotated[int, Meta(ge=0, le=LAST_SECOND)]
_Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
_Hash = Annotated[bytes, Meta(min_length=20, max_length=20)]
_TYPES = {
    "id": Annotated[int, Meta(ge=1, le=1_000_000)],  # quota counters have a record for each id
    **dict.fromkeys(("key", "name"), Annotated[str, Meta(min_length=1)]),
    **dict.fromkeys(("contact", "notes", "scopes"), str),
    "created_at": _Second,
    **dict.fromkeys(("not_before", "not_after", "suspended_at", "revoked_at"), _Second | None),
    **dict.fromkeys(("list_calls", "list_rows", "other_calls"), _Count | None),
    "rate_calls": Annotated[int, Meta(ge=1, le=1_000_000)] | None,
    "rate_seconds": Annotated[int, Meta(ge=1, le=60)] | None,
    "secret": _Digest,
    "former_secret": _Digest | None,
    "former_until": int,
}
_CLIENT_TYPES, _GRANT_TYPES, _SECRET_TYPES = (
    msgspec.defstruct("Row", [(column, _TYPES[column]) for column in columns])
    for columns in (CLIENT_COLUMNS, GRANT_COLUMNS, SECRET_COLUMNS)
)


def values_of(client: RegisteredClient) -> tuple[Any, ...]:
    """Return the values of `VALUE_COLUMNS`."""
    quota = client.quota
    return (
        *(client.key, client.name, client.contact, client.notes, _joined(client.scopes), client.created_at),
        *(client.not_before, client.not_after, client.suspended_at, client.revoked_at),
        *(quota.list_calls, quota.list_rows, quota.other_calls, *_rate(quota.rate)),
    )


def client_of(row: Sequence[Any]) -> RegisteredClient:
    """Return the client in a row that begins with `CLIENT_COLUMNS`."""
    _require(_CLIENT_TYPES, row, row[0])
    number, key, name, contact, notes, scopes, created_at, *times = row[:11]
    not_before, not_after, suspended_at, revoked_at = times
    return RegisteredClient(
        *(key, name, frozenset(scopes.split()), created_at, number, contact, notes, not_before, not_after),
        *(_quota(row[11:16]), suspended_at, revoked_at),
    )


def secrets_of(client: RegisteredClient, row: Sequence[Any]) -> Secrets:
    """Return the digests of a client's secrets, by `SECRET_COLUMNS`."""
    _require(_SECRET_TYPES, row, client.id)
    return Secrets(*row)


def checkpoint_of(row: Sequence[Any]) -> Checkpoint:
    """Return the checkpoint in a row of its fields."""
    try:
        secret, count, last, before_count, before, is_open = row
        checkpoint = Checkpoint(secret, count, last, before_count, before, bool(is_open))
        msgspec.convert([checkpoint.secret, checkpoint.hash, checkpoint.before_hash], tuple[_Digest, _Hash, _Hash])
        msgspec.convert([checkpoint.count, checkpoint.before_count], tuple[_Count, _Count])
    except (msgspec.ValidationError, ValueError) as error:
        raise StoreUnavailable(f"table audit: {error}; it is damaged") from error
    if checkpoint.before_count > checkpoint.count:
        raise StoreUnavailable("table audit: its log ends before it begins; it is damaged")
    return checkpoint


def grant_of(token_expires_at: int, row: Sequence[Any]) -> TokenGrant:
    """Return a token's grant, given `GRANT_COLUMNS` of its client."""
    _require(_GRANT_TYPES, row, row[4])
    try:
        msgspec.convert(token_expires_at, _Second)
    except msgspec.ValidationError as error:
        raise StoreUnavailable(f"table token, client {row[4]}: expires_at: {error}; it is damaged") from None
    not_before, not_after, key, scopes, number, created_at = row[:6]
    return TokenGrant(
        key,
        frozenset(scopes.split()),
        begins_at=max(not_before or 0, token_expires_at - TOKEN_SECONDS - CLOCK_SKEW_SECONDS),
        expires_at=token_expires_at if not_after is None else min(token_expires_at, not_after),
        quota_key=QuotaKey(number, created_at),
        quota=_quota(row[6:]),
    )


def columns_of(change: ClientChange) -> dict[str, Any]:
    """Return the columns of a change with their new values."""
    columns = {name: value for name, value in structs.asdict(change).items() if value is not UNSET}
    if "scopes" in columns:
        columns["scopes"] = _joined(columns["scopes"])
    if "rate" in columns:
        columns["rate_calls"], columns["rate_seconds"] = _rate(columns.pop("rate"))
    return columns


def _require(types: Any, row: Sequence[Any], number: object) -> None:
    columns: tuple[str, ...] = types.__struct_fields__
    try:
        found = msgspec.convert(dict(zip(columns, row, strict=False)), types)
    except msgspec.ValidationError as error:
        raise StoreUnavailable(f"table client, id {number}: {error}; it is damaged") from None
    if "rate_calls" in columns and (found.rate_calls is None) != (found.rate_seconds is None):
        raise StoreUnavailable(f"table client, id {number}: half a rate is missing; it is damaged")


def _quota(row: Sequence[Any]) -> Quota:
    list_calls, list_rows, other_calls, calls, seconds = row
    return Quota(list_calls, list_rows, other_calls, None if calls is None else RateLimit(calls, seconds))


def _rate(rate: RateLimit | None) -> tuple[int | None, int | None]:
    return (None, None) if rate is None else (rate.calls, rate.seconds)


def _joined(scopes: frozenset[str]) -> str:
    return " ".join(sorted(scopes))
