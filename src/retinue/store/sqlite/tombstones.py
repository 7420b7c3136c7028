"""What is remembered of erased accounts: HMACs of their keys and usernames, enough to refuse them, no more."""

import hmac

import apsw

from retinue import names
from retinue.store.sqlite.files import executor


class Tombstones:
    """Recognises what was erased. Runs inside the writer's transactions."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = executor(connection)
        self._secret: bytes = self._execute("SELECT value FROM secret").fetchall()[0][0]
        self._any = False

    def begin(self) -> None:
        """Call when another connection may have changed the file, and after a rollback."""
        self._any = bool(self._execute("SELECT 1 FROM tombstone LIMIT 1").fetchall())

    def has_key(self, key: str) -> bool:
        """Whether the account with a key was erased."""
        return self._any and self._has(self._mac("key", key))

    def has_name(self, name: str) -> bool:
        """Whether what a name in the input means was erased: by its key, a username, or a key made of the name."""
        return self._any and (
            self.has_key(name)
            or self._has(self._mac("name", names.fold(name)))
            or any(self.has_key(key) for key in names.keys_of_name(name))
        )

    def add(self, key: str, folded_names: list[str]) -> None:
        """Remember an account with all the usernames that it ever claimed."""
        macs = [self._mac("key", key), *(self._mac("name", folded) for folded in folded_names)]
        for mac in macs:
            self._execute("INSERT OR IGNORE INTO tombstone (mac) VALUES (?)", (mac,))
        self._any = True

    def _has(self, mac: bytes) -> bool:
        return bool(self._execute("SELECT 1 FROM tombstone WHERE mac = ?", (mac,)).fetchall())

    def _mac(self, kind: str, text: str) -> bytes:
        return hmac.digest(self._secret, f"{kind}:{text}".encode(), "sha256")
