"""Creating and changing accounts, and the ownership of usernames.

The latest value of each field counts, at one second the larger, so the order of arrival never matters. A username
belongs to the best claim: the latest, at one second that of the smaller key. An account lets go of a name when it
claims another one later. Claims outlive a rename, so a late event finds the same owner.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

from msgspec.structs import replace

from retinue import names
from retinue.model import AccountRecord
from retinue.store.contract import NotAKey, Verdict
from retinue.store.layout.accounts import AccountTable
from retinue.store.layout.relocations import RelocationQueue
from retinue.store.layout.stored_accounts import PROFILE_FIELDS, StoredAccount, encode_record, names_of
from retinue.store.rules.resolver import Resolver
from retinue.store.rules.tombstones import FutureEvents, Tombstones


class Accounts:
    """Accounts, in the state that records and events describe."""

    def __init__(
        self,
        table: AccountTable,
        future_events: FutureEvents,
        resolver: Resolver,
        relocations: RelocationQueue,
        tombstones: Tombstones,
    ) -> None:
        self._table = table
        self._future_events = future_events
        self._resolver = resolver
        self._relocations = relocations
        self._tombstones = tombstones

    def import_record(self, record: AccountRecord, at: int) -> Verdict:
        """Create or change the account of an imported row.

        It is a DUPLICATE if nothing visible is new.
        """
        found = self._find(record)
        if self._is_erased(record, found):
            return Verdict.ERASED
        account_id = found or self._new(record)
        before = self._table.load(account_id)
        if record.key is not None and record.key != before.key:
            self._take_key(account_id, record.key)
        self._change(account_id, record, at, is_new=found is None)
        if found is None:
            return Verdict.ACCEPTED
        after = self._table.load(account_id)
        return Verdict.UPDATED if _visible_of(before) != _visible_of(after) else Verdict.DUPLICATE

    def apply(self, record: AccountRecord, at: int) -> Verdict:
        """Create or change the account of an event.

        It is a DUPLICATE if nothing is new, not even a time.
        """
        assert record.key is not None
        found = self._resolver.with_key(record.key)
        account_id = found or self.create(record.key, record.key)
        before = self._table.load(account_id)
        is_claimed = self._change(account_id, record, at)
        is_new = found is None or is_claimed or before != self._table.load(account_id)
        return Verdict.ACCEPTED if is_new else Verdict.DUPLICATE

    def create(self, key: str, name: str) -> int:
        """Create an account that a follow names. Its claim is the weakest one."""
        account_id = self._add(key)
        if names.fault_in_username(name) is None:
            self._change(account_id, AccountRecord(name), 0, is_new=True)
        return account_id

    def create_plain(self, records: Iterable[Sequence[str]], find: Callable[[str], int | None]) -> None:
        """Create the accounts that records name, if nothing stored mentions them.

        Other records are left alone: a rejected one must not create its other account.
        """
        if not self._tombstones.is_empty:
            return
        unknown = [texts for record in records if (texts := [text for text in record if find(text) is None])]
        spelled: dict[str, str | None] = {}  # None: in several ways
        for text in chain.from_iterable(unknown):
            folded = names.fold(text)
            spelled[folded] = text if spelled.get(folded, text) == text else None
        mentioned = self._table.mentioned((), list(spelled))
        new = {
            names.fold(text): text
            for texts in unknown
            if all(
                spelled[folded := names.fold(text)] == text
                and folded not in mentioned
                and names.is_key_and_username(text)
                for text in texts
            )
            for text in texts
        }
        contents = [encode_record(AccountRecord(text), names.as_answered(text), 0) for text in new.values()]
        ids = self._table.add_all(list(new.values()), list(new), contents)
        for key, account_id in zip(new.values(), ids, strict=True):
            self._resolver.learn(key, account_id)

    def import_plain(self, records: Sequence[AccountRecord], at: int) -> set[int]:
        """Create the accounts that nothing stored mentions. Return their records' indexes."""
        usernames = [record.username or "" for record in records]
        keys = [record.key or username for record, username in zip(records, usernames, strict=True)]
        folded = list(map(names.fold, usernames))
        odd = self._table.mentioned(keys, folded)
        odd |= _repeated([*folded, *(key for key, name in zip(keys, folded, strict=True) if key != name)])
        plain = [
            index
            for index, (key, name, username) in enumerate(zip(keys, folded, usernames, strict=True))
            if key not in odd
            and name not in odd
            and names.is_key_and_username(username)
            and not self._is_erased(records[index], None)
        ]
        for index in plain:
            self._resolver.forget_name(keys[index])
        self._table.add_all(
            [keys[index] for index in plain],
            [folded[index] for index in plain],
            [encode_record(records[index], names.as_answered(usernames[index]), at) for index in plain],
        )
        return set(plain)

    def named_instead(self, key: str) -> NotAKey | None:
        """Return the account that an unknown key names by a username.

        It may be a former one. A new account with such a key would get no username.
        """
        folded = names.fold(key)
        account_id = self._table.best_claim(folded) or self._resolver.with_key(names.without_at(key))
        if account_id is None:
            return None
        account = self._table.load(account_id)
        return NotAKey(key, account.key, is_current=account.folded == folded)

    def wipe(self, account_id: int) -> None:
        """Remove everything stored of an account except its follows."""
        account = self._table.load(account_id)
        claimed = list(names_of(account))
        self._tombstones.add(account.key, claimed)
        self._future_events.forget(account_id)
        self._table.wipe(account)
        self._table.announce(account_id)
        self._resolver.forget()
        self._relocations.add(account, is_erased=True)
        for folded in claimed:
            self._settle(folded, None)

    def _new(self, record: AccountRecord) -> int:
        return self._add(record.key or self._free_key(record.username or ""))

    def _add(self, key: str) -> int:
        self._resolver.forget_name(key)
        return self._table.add(key).id

    def _find(self, record: AccountRecord) -> int | None:
        """Return the account of a record.

        A source that begins to send ids takes over its accounts without ids.
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
        return named if named and names.is_made_of(self._table.load(named).key, folded) else None

    def _without_its_name(self, username: str, folded: str) -> int | None:
        """Return the account that had a name first, and lost it."""
        for key in names.keys_of_name(username):
            found = self._resolver.with_key(key)
            if found and names.fold(self._table.load(found).username) == folded:
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

    def _take_key(self, account_id: int, key: str) -> None:
        """Change an account's key. It decides between claims of one second."""
        account = self._table.load(account_id)
        holders = {folded: self._table.best_claim(folded) for folded in names_of(account)}
        self._table.save(replace(account, key=key))
        self._resolver.forget()
        for folded, holder in holders.items():
            self._settle(folded, holder)

    def _change(self, account_id: int, record: AccountRecord, at: int, *, is_new: bool = False) -> bool:
        """Store later values; return whether a claim to a username was new."""
        account = self._table.load(account_id)
        is_claimed = False
        wanted = account
        if record.username is not None:
            is_claimed = self._claim(account, names.fold(record.username), at)
            wanted = _later(wanted, "username", names.as_answered(record.username), at)
            wanted = _with_former_names(account, wanted, names.fold(record.username))
        if record.display_name is not None:
            wanted = _later(wanted, "display_name", record.display_name, at)
        if record.visibility is not None:
            wanted = _later(wanted, "visibility", record.visibility.value, at)
        self._save(account, self._with_its_name(_with_profile(wanted, record, at)), is_new=is_new)
        return is_claimed

    def _claim(self, account: StoredAccount, folded: str, at: int) -> bool:
        """Claim a username. A better claim takes it from its owner."""
        holder = self._table.best_claim(folded)
        if not self._table.claim(account.id, folded, at):
            return False
        if holder is not None and holder != account.id and self._table.best_claim(folded) == account.id:
            self._hold(holder)
        return True

    def _settle(self, folded: str, holder: int | None) -> None:
        """Give a name to the account with the best claim now."""
        best = self._table.best_claim(folded)
        if best != holder:
            for account_id in (holder, best):
                if account_id is not None:
                    self._hold(account_id)

    def _hold(self, account_id: int) -> None:
        """Give an account its name, or take it, by the claims."""
        account = self._table.load(account_id)
        self._save(account, self._with_its_name(account))

    def _with_its_name(self, account: StoredAccount) -> StoredAccount:
        if not account.username:
            return account
        has_name = self._table.best_claim(names.fold(account.username)) == account.id
        return replace(account, has_name=has_name)

    def _save(self, account: StoredAccount, wanted: StoredAccount, *, is_new: bool = False) -> None:
        if wanted == account:
            return
        self._table.save(wanted)
        if is_new:  # no reader has cached it, and it is in no list
            return
        if wanted.shown != account.shown:
            self._table.announce(wanted.id)
            self._resolver.forget_names()
        if wanted.is_visible != account.is_visible:
            self._relocations.add(wanted)


def _repeated(texts: Sequence[str]) -> set[str]:
    if len(set(texts)) == len(texts):
        return set()
    return {text for text, count in Counter(texts).items() if count > 1}


def _visible_of(account: StoredAccount) -> object:
    values = {field: value for field, (_, value) in account.profile.items() if value}
    return account.shown, account.key, values


def _later(account: StoredAccount, field: str, value: Any, at: int) -> StoredAccount:
    if (at, value) <= (getattr(account, f"{field}_at"), getattr(account, field)):
        return account
    return replace(account, **{field: value, f"{field}_at": at})


def _with_former_names(before: StoredAccount, after: StoredAccount, claimed: str) -> StoredAccount:
    """Return the account with all names that it claimed and lacks."""
    current = names.fold(after.username)
    earlier = [names.fold(before.username)] if before.username else []
    former = tuple(name for name in dict.fromkeys((*before.former_names, *earlier, claimed)) if name != current)
    return after if former == after.former_names else replace(after, former_names=former)


def _with_profile(account: StoredAccount, record: AccountRecord, at: int) -> StoredAccount:
    later = {}
    for field in PROFILE_FIELDS:
        value = getattr(record, field)
        if value is not None and (field not in account.profile or (at, value) > tuple(account.profile[field])):
            later[field] = (at, value)
    return replace(account, profile={**account.profile, **later}) if later else account
