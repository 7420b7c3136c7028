"""The table of claims to usernames."""

import apsw

from retinue.store.sqlite.files import executor

_OWNER = "SELECT account FROM claim JOIN account ON id = account WHERE claim.folded = ? ORDER BY at DESC, key LIMIT 1"
_CLAIM = (
    "INSERT INTO claim (folded, account, at) VALUES (?, ?, ?)"
    " ON CONFLICT (folded, account) DO UPDATE SET at = excluded.at WHERE excluded.at > at RETURNING 1"
)


class SqliteClaims:
    """A `ClaimTable`."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = executor(connection)

    def owner_of(self, folded: str) -> int | None:
        found = self._execute(_OWNER, (folded,)).fetchall()
        return int(found[0][0]) if found else None

    def claim(self, account: int, folded: str, at: int) -> bool:
        return bool(self._execute(_CLAIM, (folded, account, at)).fetchall())

    def names_of(self, account: int) -> list[str]:
        return [folded for (folded,) in self._execute("SELECT folded FROM claim WHERE account = ?", (account,))]

    def remove_all(self, account: int) -> None:
        self._execute("DELETE FROM claim WHERE account = ?", (account,))
