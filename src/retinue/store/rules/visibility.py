"""The visibility of accounts, for the writer.

After a change, `maintenance.py` relocates entries; until then they may be in either table.
"""

from retinue.store.rules.tables import AccountTable, RelocationTable

MAX_CACHED = 1_000_000


class VisibilityCache:
    """Caches visibility until another writer changes the store."""

    def __init__(self, accounts: AccountTable, relocations: RelocationTable) -> None:
        self._accounts = accounts
        self._relocations = relocations
        self._rows: dict[int, bool] = {}

    def begin(self) -> None:
        """Clear the cache."""
        self._rows.clear()

    def is_visible(self, account: int) -> bool:
        """Return whether an account appears in lists."""
        known = self._rows.get(account)
        if known is None:
            known = self._accounts.is_visible(account)
            self.learn(account, is_visible=known)
        return known

    def is_relocating(self, account: int) -> bool:
        """Return whether entries of an account may be in the wrong table."""
        return self._relocations.has(account)

    def learn(self, account: int, *, is_visible: bool) -> None:
        """Cache what was just read or stored."""
        if len(self._rows) >= MAX_CACHED:
            self._rows.clear()
        self._rows[account] = is_visible

    def set_visible(self, account: int, *, is_visible: bool, is_erased: bool = False) -> None:
        """Note a change of visibility, and start a relocation."""
        self.learn(account, is_visible=is_visible)
        self._relocations.start(account, merge=is_visible or is_erased)
