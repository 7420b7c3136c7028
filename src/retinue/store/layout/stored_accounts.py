"""The content of an account's row."""

from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Struct

from retinue import names
from retinue.model import AccountRecord, Visibility
from retinue.store.layout.sealing import damaged
from retinue.store.layout.tables import ACCOUNT

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


ERASED = b""
_MAX_DIGITS = 19  # of any of which a number of eight bytes can hold
HIDDEN, VISIBLE = 1, 2
_HIDDEN, _VISIBLE = bytes((HIDDEN,)), bytes((VISIBLE,))
_KINDS = tuple(_VISIBLE if each.is_visible else _HIDDEN for each in Visibility)
PROFILE_FIELDS = ("bio_description", "is_verified", "likes_count", "video_count", "avatar_url", "bio_url")
_profile_values = attrgetter(*PROFILE_FIELDS)
_NO_PROFILE = (None,) * len(PROFILE_FIELDS)
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
        *_profile_values(record),
    )
    return _KINDS[visibility or 0] + _encode(packed)


def _packed_key(key: str, username: str) -> str | int | None:
    if key == username:
        return None
    return int(key) if key.isdecimal() and key.isascii() and len(key) <= _MAX_DIGITS and key[0] != "0" else key


def decode_account(account_id: int, content: bytes) -> StoredAccount | None:
    """Return a stored account, None if erased."""
    if content == ERASED:
        return None
    try:
        packed = _decoder.decode(memoryview(content)[1:])
    except msgspec.MsgspecError:
        raise damaged(ACCOUNT, account_id, "its account is not whole") from None
    at, times, values = packed.username_at, packed.times, _profile_values(packed)
    profile = {}
    if values != _NO_PROFILE:
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


def names_of(account: StoredAccount) -> Iterable[str]:
    """Return every username that an account ever claimed, folded."""
    own = [names.fold(account.username)] if account.username else []
    return dict.fromkeys([*own, *account.former_names])
