"""Accounts with their keys, usernames and claims, for the writer.

A text is stored once: a key that is the account's folded username has no row of its own, and a claim only if it says
more than that its account has the name.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from retinue import names
from retinue.model import AccountRecord, Visibility
from retinue.store.layout.rows import Rows
from retinue.store.layout.sealing import damaged, unseal
from retinue.store.layout.tables import ACCOUNT, ACCOUNT_KEY, CHANGE, CLAIM, LARGEST_ID, META, USERNAME, Source

MAX_CACHED = 500_000
MAX_CHANGES = 100_000  # that readers can catch up with; one that is further behind forgets everything
LAST_ID, LAST_REVISION = "last_id", "last_revision"

_ID_BYTES = 4
_NUMBER_BYTES = 8

Claims = dict[int, int]  # by account, the second of its latest claim to a username
ProfileFields = Mapping[str, tuple[int, Any]]  # by field, the second and the value


class StoredAccount(Struct, frozen=True, gc=False):
    """An account. `has_name`: its username is its own, not another account's."""

    id: int
    key: str
    username: str = ""
    username_at: int = 0
    display_name: str = ""
    display_name_at: int = 0
    visibility: int = 0
    visibility_at: int = 0
    has_name: bool = False
    former_names: tuple[str, ...] = ()  # other usernames that it ever claimed, folded
    profile: ProfileFields = {}

    @property
    def folded(self) -> str | None:
        """The folded username that finds it, or None."""
        return names.fold(self.username) if self.has_name else None

    @property
    def is_visible(self) -> bool:
        """Whether others' lists show the account."""
        return self.has_name and Visibility(self.visibility).is_visible

    @property
    def shown(self) -> tuple[str | None, str, str, int]:
        """The values that readers see."""
        return self.folded, self.username if self.has_name else "", self.display_name, self.visibility


class _Packed(Struct, frozen=True, gc=False, array_like=True, omit_defaults=True):
    # A key that is the username, a display name that is it, and times that are the username's are left out. A key in
    # digits is a number.
    username: str
    username_at: int = 0
    has_name: bool = True
    key: str | int | None = None
    display_name: str | None = None
    visibility: int = 0
    times: dict[str, int] = {}
    former_names: tuple[str, ...] = ()
    bio_description: Any = None
    is_verified: Any = None
    likes_count: Any = None
    video_count: Any = None
    avatar_url: Any = None
    bio_url: Any = None


_ERASED = b""
_MAX_DIGITS = 19  # of any of which a number of eight bytes can hold
HIDDEN, VISIBLE = 1, 2
_HIDDEN, _VISIBLE = bytes((HIDDEN,)), bytes((VISIBLE,))
_KINDS = tuple(_VISIBLE if each.is_visible else _HIDDEN for each in Visibility)
PROFILE_FIELDS = ("bio_description", "is_verified", "likes_count", "video_count", "avatar_url", "bio_url")
profile_values = attrgetter(*PROFILE_FIELDS)
NO_PROFILE = (None,) * len(PROFILE_FIELDS)
_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(_Packed)


def encode_account(account: StoredAccount) -> bytes:
    """Return the content to store: a byte for its kind, then the account."""
    at, profile = account.username_at, account.profile
    times = {"display_name": account.display_name_at, "visibility": account.visibility_at}
    times |= {field: second for field, (second, _) in profile.items()}
    packed = _Packed(
        account.username,
        at,
        account.has_name,
        _packed_key(account.key, account.username),
        None if account.display_name == account.username else account.display_name,
        account.visibility,
        {field: second for field, second in times.items() if second != at},
        account.former_names,
        *(profile[field][1] if field in profile else None for field in PROFILE_FIELDS),
    )
    return (_VISIBLE if account.is_visible else _HIDDEN) + _encode(packed)


def encode_record(record: AccountRecord, username: str, at: int) -> bytes:
    """Return the content of a new account, which has its username."""
    display_name, visibility, times = record.display_name, record.visibility, {}
    if display_name is None and at:
        times["display_name"] = 0
    if visibility is None and at:
        times["visibility"] = 0
    packed = _Packed(
        username,
        at,
        True,
        _packed_key(record.key or record.username or "", username),
        None if display_name == username else display_name or "",
        int(visibility or 0),
        times,
        (),
        *profile_values(record),
    )
    return _KINDS[visibility or 0] + _encode(packed)


def _packed_key(key: str, username: str) -> str | int | None:
    if key == username:
        return None
    return int(key) if key.isdecimal() and key.isascii() and len(key) <= _MAX_DIGITS and key[0] != "0" else key


def decode_account(account_id: int, content: bytes) -> StoredAccount | None:
    """Return a stored account, None if erased."""
    if content == _ERASED:
        return None
    try:
        packed = _decoder.decode(memoryview(content)[1:])
    except msgspec.MsgspecError:
        raise damaged(ACCOUNT, account_id, "its account is not whole") from None
    at, times, values = packed.username_at, packed.times, profile_values(packed)
    profile = {}
    if values != NO_PROFILE:
        fields = zip(PROFILE_FIELDS, values, strict=True)
        profile = {field: (times.get(field, at), value) for field, value in fields if value is not None}
    return StoredAccount(
        account_id,
        packed.username if packed.key is None else str(packed.key),
        packed.username,
        at,
        packed.username if packed.display_name is None else packed.display_name,
        times.get("display_name", at),
        packed.visibility,
        times.get("visibility", at),
        packed.has_name,
        packed.former_names,
        profile,
    )


def kind_of(content: bytes) -> int:
    """Return 0 for erased accounts, 1 for hidden, 2 for visible ones."""
    return content[0] if content else 0


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
        self._claims: dict[str, Claims] = {}  # of usernames that were touched since the last commit
        self._last_id = 0
        self._last_revision = 0

    def forget(self) -> None:
        self._accounts.clear()
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

    def prefetch(self, account_ids: Sequence[int]) -> None:
        missing = [account_id for account_id in account_ids if account_id not in self._accounts]
        for account_id, content in zip(missing, self._rows.get_many(ACCOUNT, missing), strict=True):
            self._accounts[account_id] = self._decoded(account_id, content)

    def find(self, account_id: int) -> StoredAccount | None:
        """Return an existing account, None if it was erased."""
        if account_id not in self._accounts:
            self._accounts[account_id] = self._decoded(account_id, self._rows.get(ACCOUNT, account_id))
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

    def with_texts(self, texts: Sequence[str]) -> list[tuple[StoredAccount | None, StoredAccount | None]]:
        """Return the accounts with each text as key, and as username."""
        folded = [names.fold(text) for text in texts]
        by_key, by_name = self._rows.get_many(ACCOUNT_KEY, texts), self._rows.get_many(USERNAME, folded)
        self.prefetch(sorted({int.from_bytes(found, "little") for found in (*by_key, *by_name) if found is not None}))
        found: list[tuple[StoredAccount | None, StoredAccount | None]] = []
        for text, name, key_row, name_row in zip(texts, folded, by_key, by_name, strict=True):
            named = None if name_row is None else self.load(int.from_bytes(name_row, "little"))
            keyed = None if key_row is None else self.load(int.from_bytes(key_row, "little"))
            if keyed is None:  # a key that is the account's username has no row of its own
                keyed = named if named is not None and text == name == named.key else None
            found.append((keyed, named))
        return found

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
        self._rows.put(ACCOUNT, account.id, encode_account(account))

    def wipe(self, account: StoredAccount) -> None:
        """Remove everything but the id, which is never used again."""
        for folded in names_of(account):
            self.claims_to(folded).pop(account.id, None)
        self.save(replace(account, has_name=False))
        self._rows.delete(ACCOUNT_KEY, account.key)
        self._accounts[account.id] = None
        self._rows.put(ACCOUNT, account.id, _ERASED)

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

    @staticmethod
    def _decoded(account_id: int, content: bytes | None) -> StoredAccount | None:
        if content is None:
            raise damaged(ACCOUNT, account_id, "another row names it, and it does not exist")
        return decode_account(account_id, content)


def names_of(account: StoredAccount) -> Iterable[str]:
    """Return every username that an account ever claimed, folded."""
    own = [names.fold(account.username)] if account.username else []
    return dict.fromkeys([*own, *account.former_names])
