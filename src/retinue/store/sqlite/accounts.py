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
from retinue.store.sqlite.names import Names

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

    def __init__(self, connection: apsw.Connection, known: Names) -> None:
        self._execute = executor(connection)
        self._names = known

    def bring(self, record: AccountRecord, now: int) -> Verdict:
        """Create or change one account."""
        folded = names.fold(record.username)
        found = self._find(record, folded)
        stored = self._stored(found) if found else _blank(record.key or names.key_of_name(folded), now)
        wanted = self._wanted(stored, record, folded, now)
        account_id = self._save(wanted) if wanted != stored else stored.id
        profiled = self._save_profile(account_id, record)
        return Verdict.ACCEPTED if wanted != stored or profiled else Verdict.DUPLICATE

    def _find(self, record: AccountRecord, folded: str) -> int | None:
        """The account a record speaks of. A source that begins to give ids takes over what it named before."""
        made_key = names.key_of_name(folded)
        if record.key is None:
            return self._names.with_username(folded) or self._names.with_key(made_key)
        found = self._names.with_key(record.key)
        if found:
            return found
        nameless = self._names.with_username(folded)
        return nameless if nameless and self._stored(nameless).key == made_key else None

    def _wanted(self, stored: _Stored, record: AccountRecord, folded: str, now: int) -> _Stored:
        key = record.key or stored.key
        username = names.as_answered(record.username)
        named_at = stored.named_at if stored.username == username else now
        display_name = stored.display_name if record.display_name is None else record.display_name
        visibility = stored.visibility if record.visibility is None else int(record.visibility)
        holds = self._may_hold(stored, folded, username, _Claim(now, key))
        return _Stored(stored.id, key, folded if holds else None, username, display_name, visibility, named_at)

    def _may_hold(self, stored: _Stored, folded: str, username: str, claim: "_Claim") -> bool:
        """Whether the account holds the name from now on; takes it from its holder where the claim is better."""
        if stored.folded == folded:
            return True
        other = self._names.with_username(folded)
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
            self._names.forget()
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
