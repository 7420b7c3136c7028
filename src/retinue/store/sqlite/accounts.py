"""Creating and changing accounts in the graph file. Runs inside the writer's transactions.

Only what a record says is changed; a change of name or visibility gets the next revision, by which readers learn
of it. A username belongs to its latest claim (at one second: to the smaller key); who loses it has none.
"""

import apsw
from msgspec import Struct
from msgspec.structs import astuple, replace

from retinue import names
from retinue.model import AccountRecord, Visibility
from retinue.store.base import Verdict
from retinue.store.sqlite.files import executor
from retinue.store.sqlite.resolver import Resolver

_PROFILE_FIELDS = ("bio_description", "avatar_url", "bio_url", "is_verified", "likes_count", "video_count")
_STORED = "SELECT id, key, folded, username, display_name, visibility, named_at FROM account WHERE id = ?"
_ADD = (
    "INSERT INTO account (key, folded, username, display_name, visibility, named_at)"
    " VALUES (?, ?, ?, ?, ?, ?) RETURNING id"
)
_CHANGE = (
    "UPDATE account SET key = ?2, folded = ?3, username = ?4, display_name = ?5, visibility = ?6, named_at = ?7,"
    " revision = 1 + ifnull((SELECT max(revision) FROM account WHERE revision > 0), 0) WHERE id = ?1"
)


class _Stored(Struct, frozen=True):
    id: int
    key: str
    folded: str | None
    username: str
    display_name: str
    visibility: int
    named_at: int


class Accounts:
    """Brings accounts into the state that records describe."""

    def __init__(self, connection: apsw.Connection, resolver: Resolver) -> None:
        self._execute = executor(connection)
        self._resolver = resolver

    def bring(self, record: AccountRecord, now: int) -> Verdict:
        """Create or change one account."""
        folded = names.fold(record.username)
        found = self._find(record, folded)
        stored = self._stored(found) if found else _blank(record.key or self._free_key(record.username), now)
        wanted = self._wanted(stored, record, folded, now)
        account_id = self._save(wanted) if wanted != stored else stored.id
        profiled = self._save_profile(account_id, record)
        return Verdict.ACCEPTED if wanted != stored or profiled else Verdict.DUPLICATE

    def _find(self, record: AccountRecord, folded: str) -> int | None:
        """The account a record speaks of. A source that begins to give ids takes over what it named before."""
        named = self._resolver.with_username(folded)
        if record.key is None:
            return named or self._without_its_name(record.username, folded)
        found = self._resolver.with_key(record.key)
        if found:
            return found
        return named if named and names.is_made_of(self._stored(named).key, folded) else None

    def _without_its_name(self, username: str, folded: str) -> int | None:
        """The account that was first known by a name, and lost it to another."""
        for key in names.keys_of_name(username):
            found = self._resolver.with_key(key)
            if found and names.fold(self._stored(found).username) == folded:
                return found
        return None

    def _free_key(self, username: str) -> str:
        """A key for a new account without an id; the name itself may be another account's id."""
        key, hashed = names.keys_of_name(username)
        return hashed if self._resolver.with_key(key) else key

    def _wanted(self, stored: _Stored, record: AccountRecord, folded: str, now: int) -> _Stored:
        key = record.key or stored.key
        username = names.as_answered(record.username)
        # A name known from follows alone (0) is claimed now; one that was claimed before keeps its claim.
        named_at = stored.named_at if stored.username == username and stored.named_at else now
        display_name = stored.display_name if record.display_name is None else record.display_name
        visibility = stored.visibility if record.visibility is None else int(record.visibility)
        has_it = self._take_name(stored, folded, username, _Claim(now, key))
        return _Stored(stored.id, key, folded if has_it else None, username, display_name, visibility, named_at)

    def _take_name(self, stored: _Stored, folded: str, username: str, claim: "_Claim") -> bool:
        """Take the name from its holder where the claim is better; whether the account has it from now on."""
        if stored.folded == folded:
            return True
        other = self._resolver.with_username(folded)
        if other is None:
            return True
        holder = self._stored(other)
        repeated = stored.username == username
        if repeated or not claim.beats(_Claim(holder.named_at, holder.key)):
            return False
        self._save(replace(holder, folded=None))
        return True

    def _stored(self, account_id: int) -> _Stored:
        return _Stored(*self._execute(_STORED, (account_id,)).fetchall()[0])

    def _save(self, wanted: _Stored) -> int:
        values = astuple(wanted)
        if wanted.id:
            self._resolver.forget()
            self._execute(_CHANGE, values)
            return wanted.id
        return int(self._execute(_ADD, values[1:]).fetchall()[0][0])

    def _save_profile(self, account_id: int, record: AccountRecord) -> bool:
        said = {field: getattr(record, field) for field in _PROFILE_FIELDS if getattr(record, field) is not None}
        if not said:
            return False
        columns, marks = ", ".join(said), ", ".join("?" * len(said))
        updates = ", ".join(f"{column} = excluded.{column}" for column in said)
        differs = " OR ".join(f"{column} IS NOT excluded.{column}" for column in said)
        changed = self._execute(
            f"INSERT INTO profile (account, {columns}) VALUES (?, {marks})"  # noqa: S608 - our own column names
            f" ON CONFLICT (account) DO UPDATE SET {updates} WHERE {differs} RETURNING 1",
            (account_id, *said.values()),
        )
        return bool(changed.fetchall())


class _Claim(Struct, frozen=True):
    at: int
    key: str

    def beats(self, other: "_Claim") -> bool:
        return self.at > other.at or (self.at == other.at and self.key < other.key)


def _blank(key: str, now: int) -> _Stored:
    """An account that is not stored yet."""
    return _Stored(0, key, None, "", "", Visibility.PUBLIC.value, now)
