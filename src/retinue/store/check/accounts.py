"""The invariants of accounts: valid names, found by key and username."""

from collections.abc import Iterator

import msgspec

from retinue import names
from retinue.store.layout.accounts import LAST_ID, StoredAccount, decode_account
from retinue.store.layout.sealing import unseal
from retinue.store.layout.tables import ACCOUNT, ACCOUNT_KEY, CLAIM, META, USERNAME, Source, Table
from retinue.store.layout.tombstones import SECRET, SECRET_BYTES


def accounts_of(source: Source) -> Iterator[tuple[int, StoredAccount | None]]:
    """Yield every account with its id, None for an erased one."""
    for account_id, value in source.all_rows(ACCOUNT):
        assert isinstance(account_id, int)
        yield account_id, decode_account(account_id, unseal(ACCOUNT, account_id, value))


def wrong_meta(source: Source) -> Iterator[str]:
    """Yield faults in the store's own values."""
    secret, last_id = (_content(source, META, key) for key in (SECRET, LAST_ID))
    if secret is None or len(secret) != SECRET_BYTES:
        yield f"the secret of {SECRET_BYTES} bytes by which erased accounts are known is missing"
    newest = max((account_id for account_id, _ in accounts_of(source)), default=0)
    if int.from_bytes(last_id or b"", "little") < newest:
        yield f"account {newest} is newer than the newest one that is noted"


def wrong_names(source: Source) -> Iterator[str]:
    """Yield accounts with invalid texts, or that their texts do not find."""
    for account_id, account in accounts_of(source):
        if account is not None:
            yield from (f"account {account_id}: {problem}" for problem in _wrong_account(source, account))


def _wrong_account(source: Source, account: StoredAccount) -> Iterator[str]:
    fault = names.fault_in_username(account.username) if account.username else None
    if fault:
        yield f"username {account.username!r} {fault}"
    if account.username != names.as_answered(account.username):
        yield f"username {account.username!r} is not as answers carry it"
    if "\0" in account.display_name:
        yield "its display name has a NUL character"
    if key_fault := names.fault_in_key(account.key):
        yield f"key {account.key!r} {key_fault}"
    if account.visibility not in range(4):
        yield f"its visibility is {account.visibility}"
    if account.key == account.folded:
        if _content(source, ACCOUNT_KEY, account.key) is not None:
            yield f"key {account.key!r} is stored twice"
    elif _id_of(source, ACCOUNT_KEY, account.key) != account.id:
        yield f"is not found by its key {account.key!r}"
    if account.username:
        yield from _wrong_holder(source, account)


def _wrong_holder(source: Source, account: StoredAccount) -> Iterator[str]:
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
    content = _content(source, CLAIM, folded)
    return None if content is None else dict(msgspec.msgpack.decode(content, type=list[tuple[int, int]]))


def _account(source: Source, account_id: int) -> StoredAccount | None:
    content = _content(source, ACCOUNT, account_id)
    return None if content is None else decode_account(account_id, content)


def _key_of(source: Source, account_id: int) -> str:
    account = _account(source, account_id)
    return "" if account is None else account.key


def _id_of(source: Source, table: Table, text: str) -> int | None:
    content = _content(source, table, text)
    return None if content is None else int.from_bytes(content, "little")


def _content(source: Source, table: Table, key: int | str) -> bytes | None:
    (value,) = source.get(table, (key,))
    return None if value is None else unseal(table, key, value)
