"""What is remembered of erased accounts: HMACs of their keys and usernames, enough to refuse them, no more."""

import hmac

from retinue import names
from retinue.store.rules.tables import TombstoneTable


class Tombstones:
    """Recognises what was erased."""

    def __init__(self, table: TombstoneTable) -> None:
        self._table = table
        self._any = False

    def begin(self) -> None:
        """Call when another writer may have changed the store, and after a failure."""
        self._any = self._table.any()

    def has_key(self, key: str) -> bool:
        """Whether the account with a key was erased."""
        return self._any and self._table.has(self._mac("key", key))

    def has_name(self, name: str) -> bool:
        """Whether what a name in the input means was erased: by its key, a username, or a key made of the name."""
        return self._any and (
            self.has_key(name)
            or self._table.has(self._mac("name", names.fold(name)))
            or any(self.has_key(key) for key in names.keys_of_name(name))
        )

    def add(self, key: str, folded_names: list[str]) -> None:
        """Remember an account with all the usernames that it ever claimed."""
        self._table.add(self._mac("key", key))
        for folded in folded_names:
            self._table.add(self._mac("name", folded))
        self._any = True

    def _mac(self, kind: str, text: str) -> bytes:
        return hmac.digest(self._table.secret, f"{kind}:{text}".encode(), "sha256")
