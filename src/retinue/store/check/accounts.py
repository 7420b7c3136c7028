"""The invariants of accounts: valid names, found by key and username."""

from collections.abc import Iterator

import msgspec
import numpy as np

from retinue import names
from retinue.model import Visibility
from retinue.store.layout.accounts import LAST_ID
from retinue.store.layout.sealing import content_of, unseal
from retinue.store.layout.stored_accounts import HIDDEN, VISIBLE, StoredAccount, decode_account, kind_of
from retinue.store.layout.tables import (
    ACCOUNT,
    ACCOUNT_KEY,
    CLAIM,
    META,
    SECRET,
    SECRET_BYTES,
    STORE_ID,
    USERNAME,
    Source,
    Table,
)


def wrong_meta(source: Source) -> Iterator[str]:
    """Yield faults in the store's own values."""
    secret, last_id = (content_of(source, META, key) for key in (SECRET, LAST_ID))
    if secret is None or len(secret) != SECRET_BYTES:
        yield f"the secret of {SECRET_BYTES} bytes by which erased accounts are known is missing"
    if content_of(source, META, STORE_ID) is None:
        yield "the id of the store is missing, by which its row file is known"
    ids = np.sort(np.fromiter((key for key, _ in source.all_rows(ACCOUNT)), np.int64))
    newest = int(ids[-1]) if len(ids) else 0
    if int.from_bytes(last_id or b"", "little") != newest:
        yield f"account {newest} is not the newest one that is noted, {int.from_bytes(last_id or b'', 'little')}"
    for before in np.flatnonzero(np.diff(ids, prepend=0) > 1).tolist():
        yield f"account {int(ids[before]) - 1} is missing"


def wrong_names(source: Source) -> Iterator[str]:
    """Yield accounts with invalid texts, or that their texts do not find."""
    for account_id, value in source.all_rows(ACCOUNT):
        content = unseal(ACCOUNT, account_id, value)
        account = decode_account(account_id, content)
        if account is not None:
            for find in (_wrong_texts, _wrong_finders_of, _wrong_holder):
                yield from (f"account {account_id}: {problem}" for problem in find(source, account))
            if account.visibility not in range(len(Visibility)):
                yield f"account {account_id}: its visibility is {account.visibility}"
            elif kind_of(content) != (VISIBLE if account.is_visible else HIDDEN):
                yield f"account {account_id}: is noted as {'hidden' if account.is_visible else 'visible'}"


def _wrong_texts(_source: Source, account: StoredAccount) -> Iterator[str]:
    fault = names.fault_in_username(account.username) if account.username else None
    if fault:
        yield f"username {account.username!r} {fault}"
    if account.username != names.as_answered(account.username):
        yield f"username {account.username!r} is not as answers carry it"
    if "\0" in account.display_name:
        yield "its display name has a NUL character"
    if key_fault := names.fault_in_key(account.key):
        yield f"key {account.key!r} {key_fault}"


def _wrong_finders_of(source: Source, account: StoredAccount) -> Iterator[str]:
    if account.key == account.folded:
        if content_of(source, ACCOUNT_KEY, account.key) is not None:
            yield f"key {account.key!r} is stored twice"
    elif _id_of(source, ACCOUNT_KEY, account.key) != account.id:
        yield f"is not found by its key {account.key!r}"
    for folded in account.former_names:
        if account.id not in (_claims(source, folded) or {}):
            yield f"has no claim to its former username {folded!r}"


def _wrong_holder(source: Source, account: StoredAccount) -> Iterator[str]:
    if not account.username:
        return
    folded = names.fold(account.username)
    is_found = _id_of(source, USERNAME, folded) == account.id
    if is_found != account.has_name:
        yield (
            f"has the name {folded!r}, but is not found by it"
            if account.has_name
            else f"is wrongly found by {folded!r}"
        )
    claims = _claims(source, folded)
    if claims is None:
        if not account.has_name:
            yield f"has no claim to its username {folded!r}"
        return
    if claims.get(account.id) != account.username_at:
        yield f"its claim to {folded!r} is not of the second at which it got it"
    best = min(claims, key=lambda account_id: (-claims[account_id], _key_of(source, account_id)))
    if (best == account.id) != account.has_name:
        yield f"has{'' if account.has_name else ' not'} the name {folded!r}, against its claims"


def wrong_finders(source: Source) -> Iterator[str]:
    """Yield keys, usernames and claims that are not their accounts' own."""
    for table in (ACCOUNT_KEY, USERNAME):
        for text, value in source.all_rows(table):
            account_id = int.from_bytes(unseal(table, text, value), "little")
            account = _account(source, account_id)
            if account is None or text != (account.key if table is ACCOUNT_KEY else account.folded):
                yield f"account {account_id}: is found in {table.name} by a text that is not its own"
    for folded, value in source.all_rows(CLAIM):
        unseal(CLAIM, folded, value)
        for account_id in _claims(source, str(folded)) or {}:
            account = _account(source, account_id)
            if account is None or folded not in (*account.former_names, names.fold(account.username)):
                yield f"account {account_id}: has a claim to a username that it does not know of"


def _claims(source: Source, folded: str) -> dict[int, int] | None:
    content = content_of(source, CLAIM, folded)
    return None if content is None else dict(msgspec.msgpack.decode(content, type=list[tuple[int, int]]))


def _account(source: Source, account_id: int) -> StoredAccount | None:
    content = content_of(source, ACCOUNT, account_id)
    return None if content is None else decode_account(account_id, content)


def _key_of(source: Source, account_id: int) -> str:
    account = _account(source, account_id)
    return "" if account is None else account.key


def _id_of(source: Source, table: Table, text: str) -> int | None:
    content = content_of(source, table, text)
    return None if content is None else int.from_bytes(content, "little")
