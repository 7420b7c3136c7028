"""The tables of accounts and usernames, for the writer."""

from typing import Any, NamedTuple

from msgspec import json
from msgspec.structs import astuple

from retinue.model import Visibility
from retinue.store.cassandra import graph_state
from retinue.store.cassandra.row_buffer import RowBuffer
from retinue.store.cassandra.table_definitions import ACCOUNT, ACCOUNT_KEY, CHANGE, USERNAME, Row
from retinue.store.rules.values import Found, Stored

REVISIONS_PER_SLOT = 10_000


class AccountRow(NamedTuple):
    """A row of the table, without its id.

    `claimed` is sorted. In the keyspace `profile` is `said`, `relocation` is `moving`, and `is_partitioned` is
    `is_cut`.
    """

    key: str | None
    folded: str | None
    username: str
    username_at: int
    display_name: str
    display_name_at: int
    visibility: int
    visibility_at: int
    profile: str | None = None
    claimed: Any = None
    relocation: int | None = None
    is_partitioned: bool | None = None

    @property
    def is_visible(self) -> bool:
        return self.folded is not None and Visibility(self.visibility).is_visible


NEW = AccountRow(None, None, "", 0, "", 0, 0, 0)
ERASED = NEW._replace(visibility=Visibility.WITHHELD.value)


def row_of(buffer: RowBuffer, account: int) -> AccountRow:
    """Return the row of an existing account, erased or not."""
    row = buffer.get(ACCOUNT, (account,))
    assert row is not None, account
    return AccountRow(*row)


def save_row(buffer: RowBuffer, account: int, row: AccountRow) -> None:
    """Store an account's row."""
    buffer.put(ACCOUNT, (account,), row)


def revise(buffer: RowBuffer, account: int) -> None:
    """Make readers notice a change of an account."""
    state = graph_state.read(buffer)
    revision = state.revision + 1
    buffer.put(CHANGE, (revision // REVISIONS_PER_SLOT, revision), (account,))
    graph_state.change(buffer, revision=revision)


class CassandraAccounts:
    """An `AccountTable`."""

    def __init__(self, buffer: RowBuffer) -> None:
        self._buffer = buffer

    def add(self, key: str) -> int:
        account = graph_state.read(self._buffer).accounts + 1
        graph_state.change(self._buffer, accounts=account)
        self._buffer.learn(ACCOUNT, (account,), None)
        save_row(self._buffer, account, NEW._replace(key=key))
        self._buffer.put(ACCOUNT_KEY, (key,), (account,))
        return account

    def load(self, account: int) -> Stored:
        row = row_of(self._buffer, account)
        assert row.key is not None, account
        return Stored(account, row.key, *row[1:8])

    def is_visible(self, account: int) -> bool:
        return row_of(self._buffer, account).is_visible

    def with_key(self, key: str) -> Found | None:
        return self._found(self._buffer.get(ACCOUNT_KEY, (key,)))

    def with_username(self, folded: str) -> Found | None:
        return self._found(self._buffer.get(USERNAME, (folded,)))

    def save(self, stored: Stored) -> None:
        before = row_of(self._buffer, stored.id)
        if before.key != stored.key:
            self._buffer.put(ACCOUNT_KEY, (before.key,), None)
            self._buffer.put(ACCOUNT_KEY, (stored.key,), (stored.id,))
        self._hand_over(stored.id, before.folded, stored.folded)
        changed = dict(zip(AccountRow._fields, astuple(stored)[1:], strict=False))
        save_row(self._buffer, stored.id, before._replace(**changed))

    def revise(self, account: int) -> None:
        revise(self._buffer, account)

    def wipe(self, account: int) -> None:
        before = row_of(self._buffer, account)
        self._buffer.put(ACCOUNT_KEY, (before.key,), None)
        self._hand_over(account, before.folded, None)
        save_row(
            self._buffer, account, ERASED._replace(relocation=before.relocation, is_partitioned=before.is_partitioned)
        )

    def profile_field(self, account: int, field: str) -> tuple[int, Any] | None:
        found = _profile(row_of(self._buffer, account)).get(field)
        return None if found is None else (found[0], found[1])

    def set_profile_field(self, account: int, field: str, value: Any, at: int) -> None:
        row = row_of(self._buffer, account)
        profile = {**_profile(row), field: (at, value)}
        save_row(self._buffer, account, row._replace(profile=json.encode(profile).decode()))

    def _found(self, row: Row | None) -> Found | None:
        if row is None or row[0] is None:
            return None
        return Found(row[0], self.is_visible(row[0]))

    def _hand_over(self, account: int, before: str | None, after: str | None) -> None:
        if before == after:
            return
        if before is not None:
            holder, claims = username_row(self._buffer, before)
            if holder == account:
                self._buffer.put(USERNAME, (before,), (None, claims))
        if after is not None:
            _, claims = username_row(self._buffer, after)
            self._buffer.put(USERNAME, (after,), (account, claims))


class CassandraClaims:
    """A `ClaimTable`."""

    def __init__(self, buffer: RowBuffer) -> None:
        self._buffer = buffer

    def owner_of(self, folded: str) -> int | None:
        _, claims = username_row(self._buffer, folded)
        if len(claims) < 2:  # noqa: PLR2004 - a single claim wins
            return next(iter(claims), None)
        return min(claims, key=lambda account: (-claims[account], row_of(self._buffer, account).key or ""))

    def claim(self, account: int, folded: str, at: int) -> bool:
        holder, claims = username_row(self._buffer, folded)
        if claims.get(account, -1) >= at:
            return False
        self._buffer.put(USERNAME, (folded,), (holder, {**claims, account: at}))
        row = row_of(self._buffer, account)
        claimed = sorted({*(row.claimed or ()), folded})
        save_row(self._buffer, account, row._replace(claimed=claimed))
        return True

    def names_of(self, account: int) -> list[str]:
        return list(row_of(self._buffer, account).claimed or ())

    def remove_all(self, account: int) -> None:
        for folded in self.names_of(account):
            holder, claims = username_row(self._buffer, folded)
            left = {one: at for one, at in claims.items() if one != account}
            self._buffer.put(USERNAME, (folded,), (holder, left))
        save_row(self._buffer, account, row_of(self._buffer, account)._replace(claimed=None))


def username_row(buffer: RowBuffer, folded: str) -> tuple[int | None, dict[int, int]]:
    """Return the owner of a username, and all claims to it."""
    row = buffer.get(USERNAME, (folded,))
    return (None, {}) if row is None else (row[0], dict(row[1] or {}))


def _profile(row: AccountRow) -> dict[str, Any]:
    profile: dict[str, Any] = json.decode(row.profile) if row.profile else {}
    return profile
