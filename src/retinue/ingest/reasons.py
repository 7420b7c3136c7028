"""Why a record that could be read was not stored: a verdict in words that name the field and the value."""

from retinue import names
from retinue.ingest.values import BadRecord, shown, unfit
from retinue.model import AccountRecord, FollowRecord
from retinue.store.contract import Verdict


def reason_of(verdict: Verdict, record: AccountRecord | FollowRecord) -> BadRecord:
    """Return the error for a record that was rejected. Nothing of an erased account is in it."""
    if isinstance(record, AccountRecord) or verdict is Verdict.ERASED:
        return BadRecord(verdict.value)
    if verdict is Verdict.SELF_FOLLOW:
        return unfit("followee", record.followee, f"is the follower, and {verdict.value}")
    if verdict is Verdict.LIST_FULL:
        at = record.received_at if record.followed_at is None else record.followed_at
        return unfit("followed_at", at, f"cannot be placed: {verdict.value}")
    return _no_account(record)


def _no_account(record: FollowRecord) -> BadRecord:
    """A name with a fault may still be the key of an account: so with two of them either may be the reason."""
    pairs = (("follower", record.follower), ("followee", record.followee))
    faulty = [(field, name, fault) for field, name in pairs if (fault := names.fault_in_username(name))]
    if len(faulty) == 1:
        field, name, fault = faulty[0]
        return unfit(field, name, f"{fault}, and is no account's key")
    fields, words = "follower, followee", Verdict.NO_ACCOUNT.value
    values = ", ".join(shown(name) for _, name in pairs)
    return BadRecord(f"{fields}: {words}", f"{fields}: {values}: {words}")
