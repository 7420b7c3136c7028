"""The invariants of the change log, tombstones and future events."""

from collections.abc import Iterator

import msgspec

from retinue.store.layout.accounts import LAST_ID, LAST_REVISION, MAX_CHANGES
from retinue.store.layout.sealing import content_of, number_of, unseal
from retinue.store.layout.tables import (
    ACCOUNT,
    CHANGE,
    FUTURE_EVENT,
    TOMBSTONE,
    TOMBSTONES,
    Source,
    first_of,
    pair_key,
    second_of,
)

_DIGEST_CHARACTERS = 64


def wrong_changes(source: Source) -> Iterator[str]:
    """Yield gaps in the change log, by which readers forget accounts."""
    newest, last_id = number_of(source, LAST_REVISION), number_of(source, LAST_ID)
    oldest = expected = max(1, newest - MAX_CHANGES + 1)
    for key, value in sorted((key, value) for key, value in source.all_rows(CHANGE)):
        if key > expected:
            yield f"changes {expected} to {key - 1} of accounts are missing"
        if not oldest <= key <= newest:
            yield f"change {key} of an account is outside of those that are noted, {oldest} to {newest}"
        if not 0 < int.from_bytes(unseal(CHANGE, key, value), "little") <= last_id:
            yield f"change {key} is of no account"
        expected = key + 1
    if expected <= newest:
        yield f"changes {expected} to {newest} of accounts are missing"


def wrong_tombstones(source: Source) -> Iterator[str]:
    """Yield faults of tombstones. Without one, an erased account can come back."""
    count = 0
    for key, value in source.all_rows(TOMBSTONE):
        if unseal(TOMBSTONE, key, value) or len(str(key)) != _DIGEST_CHARACTERS:
            yield "a tombstone is none"
        count += 1
    if count != number_of(source, TOMBSTONES):
        yield f"{count} tombstones of erased accounts are stored, not {number_of(source, TOMBSTONES)}"


def wrong_future_events(source: Source) -> Iterator[str]:
    """Yield future events that are not both accounts' own."""
    for key, value in source.all_rows(FUTURE_EVENT):
        account, other = first_of(key), second_of(key)
        if not _exists(source, account) or (other and not _exists(source, other)):
            yield f"account {account}: has a future event with account {other}, and one of them does not exist"
        elif other and sorted(_digests(source, key)) != sorted(_digests(source, pair_key(other, account))):
            yield f"account {account}: its future events with account {other} differ from those that this one has"
        else:
            unseal(FUTURE_EVENT, key, value)


def _exists(source: Source, account_id: int) -> bool:
    return bool(content_of(source, ACCOUNT, account_id))


def _digests(source: Source, key: int) -> list[bytes]:
    content = content_of(source, FUTURE_EVENT, key)
    return [] if content is None else msgspec.msgpack.decode(content, type=list[bytes])
