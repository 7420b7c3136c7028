"""Resolution of names and keys in the input.

An event names accounts by key. An imported name means the account with that key, else with that username, else the one
whose key was made of that name. Otherwise it is new.
"""

from retinue import names
from retinue.store.rules.tables import AccountTable
from retinue.store.rules.values import Found
from retinue.store.rules.visibility import VisibilityCache

MAX_CACHED = 500_000


class Resolver:
    """Finds accounts, and caches them until another writer changes the store."""

    def __init__(self, accounts: AccountTable, visibility: VisibilityCache) -> None:
        self._accounts = accounts
        self._visibility = visibility
        self._keys: dict[str, int] = {}
        self._names: dict[str, int] = {}

    def forget(self) -> None:
        """Clear caches."""
        self._keys.clear()
        self._names.clear()

    def forget_names(self) -> None:
        """Clear names after a rename."""
        self._names.clear()

    def forget_name(self, name: str) -> None:
        """Forget a name before an account is created with it as key."""
        self._names.pop(name, None)

    def with_key(self, key: str) -> int | None:
        """Return the account with a key, or None."""
        found = self._keys.get(key)
        return self._remember(self._keys, key, self._one(self._accounts.with_key(key))) if found is None else found

    def with_username(self, folded: str) -> int | None:
        """Return the account that owns a username, or None."""
        return self._one(self._accounts.with_username(folded))

    def find(self, name: str) -> int | None:
        """Return the account that an imported name means, or None."""
        found = self._names.get(name)
        if found is None:
            found = self.with_key(name) or self.with_username(names.fold(name))
            self._remember(self._names, name, found)
        # This is not cached: it ends as soon as another account gets the name.
        return found or self.with_key(names.keys_of_name(name)[0])

    def _remember(self, known: dict[str, int], name: str, account: int | None) -> int | None:
        if account is not None:
            if len(known) >= MAX_CACHED:
                known.clear()
            known[name] = account
        return account

    def _one(self, found: Found | None) -> int | None:
        if found is None:
            return None
        self._visibility.learn(found.account, is_visible=found.is_visible)
        return found.account
