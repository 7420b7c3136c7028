"""The account that a name or key in the input means.

An event names accounts by key, an imported row by key or username. Such a name means the account with that key, else
the one with that username, else the one whose key was made of the name, else a new account.
"""

from collections.abc import Iterable

from retinue import names
from retinue.store.layout.accounts import AccountTable

MAX_CACHED = 500_000


class Resolver:
    """Finds accounts, and caches them until another writer changes the store."""

    def __init__(self, accounts: AccountTable) -> None:
        self._accounts = accounts
        self._keys: dict[str, int] = {}
        self._names: dict[str, int] = {}
        self._unknown: set[str] = set()  # texts that mean no account, until one is created or renamed

    def forget(self) -> None:
        self._keys.clear()
        self.forget_names()

    def forget_names(self) -> None:
        """Call after a rename."""
        self._names.clear()
        self._unknown.clear()

    def forget_name(self, name: str) -> None:
        """Call before an account with this key is created."""
        self._names.pop(name, None)
        self._unknown.clear()

    def prefetch(self, texts: Iterable[str]) -> None:
        missing = sorted({text for text in texts if text not in self._keys and text not in self._names})
        for text, (by_key, by_name) in zip(missing, self._accounts.with_texts(missing), strict=True):
            if by_key is None and by_name is None:
                if names.is_own_key(text):
                    self._unknown.add(text)
            else:
                self._remember(self._keys, text, by_key)
                self._remember(self._names, text, by_key or by_name)

    def learn(self, text: str, account_id: int) -> None:
        """Cache a new account by its key, which is its username."""
        self.forget_name(text)
        for cache in (self._keys, self._names):
            self._remember(cache, text, account_id)

    def with_key(self, key: str) -> int | None:
        if key in self._unknown:
            return None
        found = self._keys.get(key)
        if found is not None:
            return found
        account = self._accounts.with_key(key)
        return self._remember(self._keys, key, None if account is None else account.id)

    def with_username(self, folded: str) -> int | None:
        account = self._accounts.with_username(folded)
        return None if account is None else account.id

    def find(self, name: str) -> int | None:
        """Return the account that an imported name means, or None."""
        if name in self._unknown:
            return None
        found = self._names.get(name) or self.with_key(name)
        if found is None:
            found = self._remember(self._names, name, self.with_username(names.fold(name)))
        # The rest is not cached: it ends as soon as another account gets the name.
        return found or self.with_key(names.keys_of_name(name)[0])

    def _remember(self, cache: dict[str, int], text: str, account_id: int | None) -> int | None:
        if account_id is None:
            return None
        if len(cache) >= MAX_CACHED:
            cache.clear()
        cache[text] = account_id
        return account_id
