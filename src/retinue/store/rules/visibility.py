"""Which accounts lists show, and whose entries are still on their way to where they belong.

When an account changes, its entries in others' lists follow in the background (`relocation.py`); until then they may be
visible or hidden.
"""

from retinue.store.layout.accounts import AccountTable, StoredAccount
from retinue.store.layout.relocations import RelocationQueue


class AccountVisibility:
    """The visibility of accounts as entries of lists."""

    def __init__(self, accounts: AccountTable, queue: RelocationQueue) -> None:
        self._accounts = accounts
        self._queue = queue

    def is_visible(self, account_id: int) -> bool:
        """Return whether others' lists show an account; an erased one is not shown."""
        account = self._accounts.find(account_id)
        return account is not None and account.is_visible

    def changed(self, account: StoredAccount, *, is_erased: bool = False) -> None:
        """Have the entries of an account relocated, from the beginning."""
        self._queue.add(account.id, is_erased=is_erased, is_merged=is_erased or account.is_visible)
