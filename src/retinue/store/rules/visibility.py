"""Which accounts are rows, and whose entries are still on their way to the side where they belong.

The entries of an account that is a row stand in the range of pages, others aside. When an account changes, its entries
follow in the background (`tidying.py`); until then they may stand on either side.
"""

from retinue.store.rules.tables import AccountTable, RelocationTable

MAX_CACHED = 1_000_000


class VisibilityCache:
    """What the writer remembers of it until another one changes the store."""

    def __init__(self, accounts: AccountTable, relocations: RelocationTable) -> None:
        self._accounts = accounts
        self._relocations = relocations
        self._rows: dict[int, bool] = {}

    def begin(self) -> None:
        """Call when another writer may have changed the store, and after a failure."""
        self._rows.clear()

    def is_visible(self, account: int) -> bool:
        """Whether others' lists show an account."""
        known = self._rows.get(account)
        if known is None:
            known = self._accounts.is_visible(account)
            self.learn(account, is_visible=known)
        return known

    def is_relocating(self, account: int) -> bool:
        """Whether entries of an account may stand on the wrong side."""
        return self._relocations.has(account)

    def learn(self, account: int, *, is_visible: bool) -> None:
        """Remember what was just read or stored."""
        if len(self._rows) >= MAX_CACHED:
            self._rows.clear()
        self._rows[account] = is_visible

    def set_visible(self, account: int, *, is_visible: bool, is_erased: bool = False) -> None:
        """An account has become a row, or is none any more: have its entries moved, from the beginning."""
        self.learn(account, is_visible=is_visible)
        self._relocations.start(account, merge=is_visible or is_erased)
