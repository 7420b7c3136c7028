"""Accounts with their keys, usernames and claims, for the writer.

A text is stored once: a key that is the account's folded username has no row of its own, and a claim only if it says
more than that its account has the name.
"""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from retinue import names
from retinue.store.layout.rows import Rows
from retinue.store.layout.sealing import damaged, unseal
from retinue.store.layout.stored_accounts import (
    ERASED,
    StoredAccount,
    decode_account,
    encode_account,
    kind_of,
    names_of,
)
from retinue.store.layout.tables import ACCOUNT, ACCOUNT_KEY, CHANGE, CLAIM, LARGEST_ID, META, USERNAME, Source

MAX_CACHED = 500_000
MAX_CHANGES = 100_000  # that readers can catch up with; one that is further behind forgets everything
LAST_ID, LAST_REVISION = "last_id", "last_revision"

_ID_BYTES = 4
_NUMBER_BYTES = 8
_encode = msgspec.msgpack.Encoder().encode

Claims = dict[int, int]  # by account, the second of its latest claim to a username


def changed_after(source: Source, revision: int, newest: int) -> set[int] | None:
    """Return the accounts changed after a revision. None: the log lacks some."""
    changes = source.scan(CHANGE, revision + 1, newest)
    if len(changes) < newest - revision:
        return None
    return {int.from_bytes(unseal(CHANGE, key, value), "little") for key, value in changes}


class AccountTable:
    """All accounts. Accounts are cached until another writer changes the store."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._accounts: dict[int, StoredAccount | None] = {}
        self._kinds: dict[int, int] = {}
        self._claims: dict[str, Claims] = {}  # of usernames that were touched since the last commit
        self._last_id = 0
        self._last_revision = 0

    def forget(self) -> None:
        self._accounts.clear()
        self._kinds.clear()
        self._claims.clear()
        self._last_id = self._number(LAST_ID)
        self._last_revision = self._number(LAST_REVISION)

    def flush(self) -> None:
        for folded, claims in self._claims.items():
            holder = self.with_username(folded)
            plain = {} if holder is None else {holder.id: holder.username_at}
            if claims in ({}, plain):
                self._rows.delete(CLAIM, folded)
            else:
                self._rows.put(CLAIM, folded, _encode(sorted(claims.items())))
        for name, number in ((LAST_ID, self._last_id), (LAST_REVISION, self._last_revision)):
            if number != self._number(name):
                self._rows.put(META, name, number.to_bytes(_NUMBER_BYTES, "little"))

    def committed(self) -> None:
        self._claims.clear()
        if len(self._accounts) > MAX_CACHED:
            self._accounts.clear()
        if len(self._kinds) > MAX_CACHED:
            self._kinds.clear()

    def prefetch(self, account_ids: Sequence[int]) -> None:
        missing = [account_id for account_id in account_ids if account_id not in self._accounts]
        for account_id, content in zip(missing, self._rows.get_many(ACCOUNT, missing), strict=True):
            self._accounts[account_id] = decode_account(account_id, _existing(account_id, content))

    def find(self, account_id: int) -> StoredAccount | None:
        """Return an existing account, None if it was erased."""
        if account_id not in self._accounts:
            self._accounts[account_id] = decode_account(
                account_id, _existing(account_id, self._rows.get(ACCOUNT, account_id))
            )
        return self._accounts[account_id]

    def load(self, account_id: int) -> StoredAccount:
        """Return an existing account that is not erased."""
        account = self.find(account_id)
        if account is None:
            raise damaged(ACCOUNT, account_id, "another row names it, and it was erased")
        return account

    def is_visible(self, account_id: int) -> bool:
        account = self.find(account_id)
        return account is not None and account.is_visible

    def with_key(self, key: str) -> StoredAccount | None:
        found = self._rows.get(ACCOUNT_KEY, key)
        if found is not None:
            return self.load(int.from_bytes(found, "little"))
        account = self.with_username(key)
        return account if account is not None and account.key == key else None

    def with_username(self, folded: str) -> StoredAccount | None:
        found = self._rows.get(USERNAME, folded)
        return None if found is None else self.load(int.from_bytes(found, "little"))

    def with_texts(self, texts: Sequence[str]) -> list[tuple[int | None, int | None]]:
        """Return the account ids of each text, by key and by username.

        Only accounts whose key may be their username are read.
        """
        folded = [names.fold(text) for text in texts]
        by_key, by_name = (_ids(self._rows.get_many(*of)) for of in ((ACCOUNT_KEY, texts), (USERNAME, folded)))
        self.prefetch(sorted({named for keyed, named in zip(by_key, by_name, strict=True) if named and not keyed}))
        found: list[tuple[int | None, int | None]] = []
        for text, name, keyed, named in zip(texts, folded, by_key, by_name, strict=True):
            # A key that is the account's username has no row of its own.
            is_key = named and not keyed and text == name == self.load(named).key
            found.append((named if is_key else keyed, named))
        return found

    def kinds(self, account_ids: Sequence[int]) -> list[int]:
        """Return the kinds of existing accounts (`kind_of`)."""
        missing = [account_id for account_id in account_ids if account_id not in self._kinds]
        for account_id, content in zip(missing, self._rows.get_many(ACCOUNT, missing), strict=True):
            self._kinds[account_id] = kind_of(_existing(account_id, content))
        return [self._kinds[account_id] for account_id in account_ids]

    def add(self, key: str) -> StoredAccount:
        self._count_to(self._last_id + 1)
        account = StoredAccount(self._last_id, key)
        self._accounts[account.id] = account
        self._rows.put(ACCOUNT, account.id, encode_account(account))
        self._rows.put(ACCOUNT_KEY, key, account.id.to_bytes(_ID_BYTES, "little"))
        return account

    def add_all(self, keys: Sequence[str], folded: Sequence[str], contents: Sequence[bytes]) -> range:
        """Add accounts whose keys and folded usernames nothing stored mentions.

        Return their ids.
        """
        ids = range(self._last_id + 1, self._last_id + 1 + len(keys))
        self._count_to(ids.stop - 1)
        numbers = [account_id.to_bytes(_ID_BYTES, "little") for account_id in ids]
        self._rows.put_many(ACCOUNT, zip(ids, contents, strict=True))
        self._rows.put_many(USERNAME, zip(folded, numbers, strict=True))
        keyed = zip(keys, folded, numbers, strict=True)
        self._rows.put_many(ACCOUNT_KEY, [(key, number) for key, name, number in keyed if key != name])
        return ids

    def mentioned(self, keys: Sequence[str], folded: Sequence[str]) -> set[str]:
        """Return the texts that are keys or claimed usernames of accounts."""
        found = self._claims.keys() & set(folded)
        for table, texts in ((CLAIM, folded), (USERNAME, folded), (USERNAME, keys), (ACCOUNT_KEY, keys)):
            if self._rows.has_rows(table):
                contents = zip(texts, self._rows.get_many(table, texts), strict=True)
                found.update(text for text, content in contents if content is not None)
        return found

    def save(self, account: StoredAccount) -> None:
        before = self.load(account.id)
        if before.username and before.folded != account.folded:
            self.claims_to(names.fold(before.username))  # they are stored in full from now on
        number = account.id.to_bytes(_ID_BYTES, "little")
        if before.folded != account.folded:
            if before.folded is not None and self._rows.get(USERNAME, before.folded) == number:
                self._rows.delete(USERNAME, before.folded)
            if account.folded is not None:
                self._rows.put(USERNAME, account.folded, number)
        if (before.key, before.folded) != (account.key, account.folded):
            if before.key != before.folded:
                self._rows.delete(ACCOUNT_KEY, before.key)
            if account.key != account.folded:
                self._rows.put(ACCOUNT_KEY, account.key, number)
            else:
                self._rows.delete(ACCOUNT_KEY, account.key)
        self._accounts[account.id] = account
        self._kinds.pop(account.id, None)
        self._rows.put(ACCOUNT, account.id, encode_account(account))

    def wipe(self, account: StoredAccount) -> None:
        """Remove everything but the id, which is never used again."""
        for folded in names_of(account):
            self.claims_to(folded).pop(account.id, None)
        self.save(replace(account, has_name=False))
        self._rows.delete(ACCOUNT_KEY, account.key)
        self._accounts[account.id] = None
        self._kinds.pop(account.id, None)
        self._rows.put(ACCOUNT, account.id, ERASED)

    def announce(self, account_id: int) -> None:
        """Tell readers that a name or a visibility changed."""
        self._last_revision += 1
        self._rows.put(CHANGE, self._last_revision, account_id.to_bytes(_ID_BYTES, "little"))
        if self._last_revision > MAX_CHANGES:
            self._rows.delete(CHANGE, self._last_revision - MAX_CHANGES)

    def claims_to(self, folded: str) -> Claims:
        """Return all claims to a username, to be changed in place."""
        claims = self._claims.get(folded)
        if claims is None:
            content = self._rows.get(CLAIM, folded)
            if content is not None:
                claims = dict(msgspec.msgpack.decode(content, type=list[tuple[int, int]]))
            else:
                holder = self.with_username(folded)
                claims = {} if holder is None else {holder.id: holder.username_at}
            self._claims[folded] = claims
        return claims

    def best_claim(self, folded: str) -> int | None:
        """Return the account with the latest claim to a username.

        At one second it is the one with the smaller key.
        """
        claims = self.claims_to(folded)
        if not claims:
            return None
        return min(claims, key=lambda account_id: (-claims[account_id], self.load(account_id).key))

    def claim(self, account_id: int, folded: str, at: int) -> bool:
        """Claim a username; return whether the claim is new."""
        claims = self.claims_to(folded)
        if claims.get(account_id, -1) >= at:
            return False
        claims[account_id] = at
        return True

    def _count_to(self, last_id: int) -> None:
        if last_id > LARGEST_ID:
            raise damaged(META, LAST_ID, "there are no more account ids")
        self._last_id = last_id

    def _number(self, name: str) -> int:
        return int.from_bytes(self._rows.get(META, name) or b"", "little")


def _ids(contents: Sequence[bytes | None]) -> list[int | None]:
    return [None if content is None else int.from_bytes(content, "little") for content in contents]


def _existing(account_id: int, content: bytes | None) -> bytes:
    if content is None:
        raise damaged(ACCOUNT, account_id, "another row names it, and it does not exist")
    return content
