"""The tables of accounts and of their profile fields."""

from typing import Any

import apsw
from msgspec.structs import astuple

from retinue.model import Visibility
from retinue.store.rules.values import Found, Stored
from retinue.store.sqlite.files import Execute, executor

IS_VISIBLE = f"folded IS NOT NULL AND visibility <= {Visibility.FOLLOWING_HIDDEN.value}"

_COLUMNS = "id, key, folded, username, username_at, display_name, display_name_at, visibility, visibility_at"
_LOAD = f"SELECT {_COLUMNS} FROM account WHERE id = ?"
_IS_VISIBLE = f"SELECT {IS_VISIBLE} FROM account WHERE id = ?"
_WITH_KEY = f"SELECT id, {IS_VISIBLE} FROM account WHERE key = ?"
_WITH_USERNAME = f"SELECT id, {IS_VISIBLE} FROM account WHERE folded = ?"
_ADD = "INSERT INTO account VALUES (NULL, ?, NULL, '', 0, '', 0, 0, 0, 0) RETURNING id"
_SAVE = (
    "UPDATE account SET key = ?2, folded = ?3, username = ?4, username_at = ?5, display_name = ?6,"
    " display_name_at = ?7, visibility = ?8, visibility_at = ?9 WHERE id = ?1"
)
_REVISE = (
    "UPDATE account SET revision = 1 + ifnull((SELECT max(revision) FROM account WHERE revision > 0), 0) WHERE id = ?"
)
_PROFILE_FIELD = "SELECT at, value FROM profile WHERE account = ? AND field = ?"
_SET_PROFILE_FIELD = "INSERT OR REPLACE INTO profile (account, field, value, at) VALUES (?, ?, ?, ?)"
_FILE_BYTES = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
_MIN_ACCOUNT_BYTES = 16  # of an account in the file


def max_accounts(execute: Execute) -> int:
    """Return the highest id that this file has room for. Ids are given in order, from 1."""
    return int(execute(_FILE_BYTES).fetchall()[0][0]) // _MIN_ACCOUNT_BYTES


class SqliteAccounts:
    """An `AccountTable`. Each change of a name or visibility gets the next revision, by which readers notice it."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = executor(connection)

    def add(self, key: str) -> int:
        return int(self._execute(_ADD, (key,)).fetchall()[0][0])

    def load(self, account: int) -> Stored:
        return Stored(*self._execute(_LOAD, (account,)).fetchall()[0])

    def is_visible(self, account: int) -> bool:
        return bool(self._execute(_IS_VISIBLE, (account,)).fetchall()[0][0])

    def with_key(self, key: str) -> Found | None:
        return self._one(_WITH_KEY, key)

    def with_username(self, folded: str) -> Found | None:
        return self._one(_WITH_USERNAME, folded)

    def save(self, stored: Stored) -> None:
        self._execute(_SAVE, astuple(stored))

    def revise(self, account: int) -> None:
        self._execute(_REVISE, (account,))

    def wipe(self, account: int) -> None:
        self._execute("DELETE FROM profile WHERE account = ?", (account,))
        self._execute(_SAVE, (account, None, None, "", 0, "", 0, Visibility.WITHHELD.value, 0))

    def profile_field(self, account: int, field: str) -> tuple[int, Any] | None:
        for at, value in self._execute(_PROFILE_FIELD, (account, field)).fetchall():
            return at, value
        return None

    def set_profile_field(self, account: int, field: str, value: Any, at: int) -> None:
        self._execute(_SET_PROFILE_FIELD, (account, field, value, at))

    def _one(self, query: str, text: str) -> Found | None:
        for account, is_visible in self._execute(query, (text,)).fetchall():
            return Found(account, bool(is_visible))
        return None
