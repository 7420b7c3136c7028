"""Account changes.

The latest value of each field counts, at one second the larger, and a username belongs to the latest claim to it, at
one second to the account with the smaller key. So the order of arrival does not matter. Claims outlive a rename.
"""

from typing import Any

from msgspec.structs import replace

from retinue import names
from retinue.model import AccountRecord
from retinue.store.contract import NotAKey, Verdict
from retinue.store.rules.resolver import Resolver
from retinue.store.rules.tables import AccountTable, ClaimTable, FutureEventTable, Tables
from retinue.store.rules.tombstones import Tombstones
from retinue.store.rules.values import Stored
from retinue.store.rules.visibility import VisibilityCache

PROFILE_FIELDS = ("bio_description", "avatar_url", "bio_url", "is_verified", "likes_count", "video_count")


class Accounts:
    """Applies records and events to accounts."""

    def __init__(self, tables: Tables, resolver: Resolver, visibility: VisibilityCache, tombstones: Tombstones) -> None:
        self._table: AccountTable = tables.accounts
        self._claims: ClaimTable = tables.claims
        self._future_events: FutureEventTable = tables.future_events
        self._resolver = resolver
        self._visibility = visibility
        self._tombstones = tombstones

    def bring(self, record: AccountRecord, at: int) -> Verdict:
        """Create or change the account of an imported row. DUPLICATE if no visible field changed."""
        found = self._find(record)
        if self._is_erased(record, found):
            return Verdict.ERASED
        account = found or self._new(record)
        before = self.stored(account)
        is_new = found is None
        if record.key is not None and record.key != before.key:
            self._take_key(account, record.key)
        self._change(account, record, at, is_new=is_new)
        profiled = self._change_profile(account, record, at, is_new=is_new)
        if is_new:
            return Verdict.ACCEPTED
        is_changed = "value" in profiled or self._looks_changed(before)
        return Verdict.UPDATED if is_changed else Verdict.DUPLICATE

    def apply(self, record: AccountRecord, at: int) -> Verdict:
        """Create or change the account of an event. DUPLICATE if nothing is new, not even a later time."""
        assert record.key is not None
        found = self._resolver.with_key(record.key)
        account = found or self.create(record.key, record.key)
        before = self.stored(account)
        claimed = self._change(account, record, at)
        profiled = self._change_profile(account, record, at)
        is_new = found is None or claimed or profiled or before != self.stored(account)
        return Verdict.ACCEPTED if is_new else Verdict.DUPLICATE

    def create(self, key: str, name: str) -> int:
        """Return a new account for a name in a follow. Its claim has second 0."""
        account = self._add(key)
        if names.fault_in_username(name) is None:
            self._change(account, AccountRecord(name), 0, is_new=True)
        return account

    def named_instead(self, key: str) -> NotAKey | None:
        """Return the account that claimed an unknown key as username, or None.

        A new account gets its key as its username. Under a claimed name it would appear in no list.
        """
        folded = names.fold(key)
        account = self._claims.owner_of(folded) or self._resolver.with_key(names.without_at(key))
        if account is None:
            return None
        stored = self.stored(account)
        return NotAKey(key, stored.key, is_current=stored.folded == folded)

    def stored(self, account: int) -> Stored:
        """Return the stored account."""
        return self._table.load(account)

    def wipe(self, account: int) -> None:
        """Erase an account: clear its row, and remove everything but its follows."""
        stored = self.stored(account)
        claimed = self._claims.names_of(account)
        self._tombstones.add(stored.key, claimed)
        self._claims.remove_all(account)
        self._future_events.forget(account)
        self._table.wipe(account)
        self._table.revise(account)
        self._resolver.forget()
        self._visibility.set_visible(account, is_visible=False, is_erased=True)
        for folded in claimed:
            self._settle(folded, None)

    def _looks_changed(self, before: Stored) -> bool:
        after = self.stored(before.id)
        return before.public_fields != after.public_fields or before.key != after.key

    def _new(self, record: AccountRecord) -> int:
        return self._add(record.key or self._free_key(record.username or ""))

    def _add(self, key: str) -> int:
        self._resolver.forget_name(key)
        return self._table.add(key)

    def _find(self, record: AccountRecord) -> int | None:
        """Return the account that a record means.

        A source that begins to send ids takes over the accounts that it named before.
        """
        username = record.username
        if username is None:
            return self._resolver.with_key(record.key or "")
        folded = names.fold(username)
        named = self._resolver.with_username(folded)
        if record.key is None:
            return named or self._without_its_name(username, folded)
        found = self._resolver.with_key(record.key)
        if found:
            return found
        return named if named and names.is_made_of(self.stored(named).key, folded) else None

    def _without_its_name(self, username: str, folded: str) -> int | None:
        for key in names.keys_of_name(username):
            found = self._resolver.with_key(key)
            if found and names.fold(self.stored(found).username) == folded:
                return found
        return None

    def _is_erased(self, record: AccountRecord, found: int | None) -> bool:
        if record.key is not None:
            return self._tombstones.has_key(record.key)
        return found is None and self._tombstones.has_name(record.username or "")

    def _free_key(self, username: str) -> str:
        key, hashed = names.keys_of_name(username)
        while self._resolver.with_key(key):
            key, hashed = hashed, names.next_key(hashed)
        return key

    def _take_key(self, account: int, key: str) -> None:
        """Change an account's key. Keys break ties, so usernames may change owners."""
        holders = {folded: self._claims.owner_of(folded) for folded in self._claims.names_of(account)}
        self._table.save(replace(self.stored(account), key=key))
        self._resolver.forget()
        for folded, holder in holders.items():
            self._settle(folded, holder)

    def _change(self, account: int, record: AccountRecord, at: int, *, is_new: bool = False) -> bool:
        """Apply later values; return whether a username was newly claimed."""
        stored = self.stored(account)
        claimed = False
        wanted = stored
        if record.username is not None:
            claimed = self._claim(stored, names.fold(record.username), at)
            wanted = _later(wanted, "username", names.as_answered(record.username), at)
        if record.display_name is not None:
            wanted = _later(wanted, "display_name", record.display_name, at)
        if record.visibility is not None:
            wanted = _later(wanted, "visibility", record.visibility.value, at)
        self._save(stored, self._with_its_name(wanted), is_new=is_new)
        return claimed

    def _claim(self, stored: Stored, folded: str, at: int) -> bool:
        holder = self._claims.owner_of(folded)
        if not self._claims.claim(stored.id, folded, at):
            return False
        if holder is not None and holder != stored.id and self._claims.owner_of(folded) == stored.id:
            self._update_name(holder)
        return True

    def _settle(self, folded: str, holder: int | None) -> None:
        """Pass a name on if its owner is no longer `holder`."""
        owner = self._claims.owner_of(folded)
        if owner != holder:
            for account in (holder, owner):
                if account is not None:
                    self._update_name(account)

    def _update_name(self, account: int) -> None:
        stored = self.stored(account)
        self._save(stored, self._with_its_name(stored))

    def _with_its_name(self, stored: Stored) -> Stored:
        if not stored.username:
            return stored
        folded = names.fold(stored.username)
        return replace(stored, folded=folded if self._claims.owner_of(folded) == stored.id else None)

    def _save(self, stored: Stored, wanted: Stored, *, is_new: bool = False) -> None:
        if wanted == stored:
            return
        self._table.save(wanted)
        if is_new:  # no reader has it in a cache, and it is in no list
            self._visibility.learn(wanted.id, is_visible=wanted.is_visible)
            return
        if wanted.public_fields != stored.public_fields:
            self._table.revise(wanted.id)
            self._resolver.forget_names()
        if wanted.is_visible != stored.is_visible:
            self._visibility.set_visible(wanted.id, is_visible=wanted.is_visible)

    def _change_profile(self, account: int, record: AccountRecord, at: int, *, is_new: bool = False) -> set[str]:
        """Apply later profile fields; return "value" and "time" for what changed."""
        changed = set()
        for field in PROFILE_FIELDS:
            value = getattr(record, field)
            if value is None:
                continue
            stored = None if is_new else self._table.profile_field(account, field)
            if stored is None or (at, value) > stored:
                self._table.set_profile_field(account, field, value, at)
                before = stored[1] if stored else type(value)()  # an unset field is empty, false or zero
                changed.add("time" if before == value else "value")
        return changed


def _later(stored: Stored, field: str, value: Any, at: int) -> Stored:
    if (at, value) <= (getattr(stored, f"{field}_at"), getattr(stored, field)):
        return stored
    return replace(stored, **{field: value, f"{field}_at": at})
