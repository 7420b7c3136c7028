"""Counters of what clients used, for several machines that serve one keyspace.

Each machine counts in its own file, which its processes share, and gives out only what it was granted in the keyspace.
When that is spent it is granted a block more, as long as the quota has it: by a lightweight transaction on the one row
in which the grants of all machines stand. So never more is given out than the quota, and a machine that is gone for
good takes with it at most the block that it had not used up.

The short-term limit and the one of calls for tokens count each machine by itself, in its file.
"""

from retinue.model import Meter, Pool, Quota, Rate, Used
from retinue.store.cassandra.session import Row, Session
from retinue.store.cassandra.share import NOTHING, Amounts, Share, amounts_of, asked_of, is_limited, share_of, total
from retinue.store.ledger import FileLedger
from retinue.store.quota_counters import Allowance, Counted

_GRANTED = "SELECT granted FROM quota WHERE client = ? AND since = ? AND day = ?"
_GRANT = "UPDATE quota SET granted = ? WHERE client = ? AND since = ? AND day = ? IF granted = ?"


class LeasedLedger:
    """The `Ledger` of one machine. `node` names the machine together with its file: with another file it is another.

    What is asked of the keyspace is waited for. All but `admit` raise `StoreUnavailable` where that is out of reach and
    its answer is needed: for the first call of a day, and when what was granted is spent.
    """

    def __init__(self, file: FileLedger, session: Session, node: str) -> None:
        self._file = file
        self._session = session
        self._node = node
        self._shares: dict[int, Share] = {}  # by the client's number

    def used(self, meter: Meter, second: int) -> Used:
        """What was used here on a second's day, and what other machines were granted: they may have used it."""
        granted = self._granted(meter, self._file.day(meter, second))
        granted[self._node] = amounts_of(self._file.used(meter, second))
        return Used(*total(granted.values()))

    def room(self, meter: Meter, second: int, pool: Pool, quota: Quota, wanted: int) -> int:
        """How many of the wanted rows there is quota for; 0 where there is none for a call."""
        if is_limited(quota, pool):
            quota = self._share(meter, second, quota).ceiling
        return self._file.room(meter, second, pool, quota, wanted)

    def left(self, meter: Meter, second: int, pool: Pool, quota: Quota) -> Allowance:
        """What is left of a quota for this machine: what others were granted is theirs."""
        if not is_limited(quota, pool):
            return self._file.left(meter, second, pool, quota)
        share = self._share(meter, second, quota)
        return share.shown(self._file.left(meter, second, pool, share.ceiling), pool)

    def charge(self, meter: Meter, second: int, pool: Pool, rows: int, quota: Quota) -> Allowance | None:
        """Count one answer and its rows, if that passes no limit."""
        if not is_limited(quota, pool):
            return self._file.charge(meter, second, pool, rows, quota)
        share = self._share(meter, second, quota)
        left = self._file.charge(meter, second, pool, rows, share.held)
        if left is None:
            return self._charge_more(share, second, pool, rows)
        return share.shown(left, pool, share.spare)

    def admit(self, meter: Meter, second: int, rate: Rate) -> int:
        """Count a call for a token: 0, or in how many seconds it is worth trying again."""
        return self._file.admit(meter, second, rate)

    @property
    def is_recounted(self) -> bool:
        """Whether all that was counted here before the file was made has been restored."""
        return self._file.is_recounted

    @property
    def is_removed(self) -> bool:
        """Whether the file was removed while it is open."""
        return self._file.is_removed

    def set_recounted(self) -> None:
        """Note that all that was counted here before the file was made has been restored."""
        self._file.set_recounted()

    def damaged(self) -> dict[int, bytes]:
        """Return the damaged records by the number of their client."""
        return self._file.damaged()

    def restore(self, meter: Meter, second: int, counted: Counted) -> None:
        """Set a record to what was counted here up to a second of its day."""
        self._file.restore(meter, second, counted)

    def settle(self) -> None:
        """Make what was counted here survive a power loss."""
        self._file.settle()

    def statements_sent(self) -> int:
        """How many statements it has sent to the cluster."""
        return self._session.statements_sent()

    def close(self) -> None:
        """Give the file back and close all connections."""
        self._file.close()
        self._session.close()

    def _charge_more(self, share: Share, second: int, pool: Pool, rows: int) -> Allowance | None:
        """Count what passes what is held. Another process may use up first what was granted for it, hence the loop."""
        meter, asked = share.meter, asked_of(pool, rows)
        while share.fits(self._file.used(meter, second), asked):
            if self._file.left(meter, second, pool, share.ceiling).wait:
                return None
            share = self._grown(share, second, asked)
            left = self._file.charge(meter, second, pool, rows, share.held)
            if left is not None:
                return share.shown(left, pool, share.spare)
        return None

    # --- the keyspace -----------------------------------------------------------------------------------------------

    def _share(self, meter: Meter, second: int, quota: Quota) -> Share:
        """What this process knows of this machine's share, or what is in the keyspace if it knows nothing."""
        share, day = self._shares.get(meter.id), self._file.day(meter, second)
        if share is not None and share.is_of(meter, day, quota):
            return share
        return self._grown(share_of(meter, day, quota, {}, self._node), second, NOTHING)

    def _grown(self, share: Share, second: int, asked: Amounts) -> Share:
        """The share as it stands in the keyspace, larger where what is asked fits, but not into what is granted."""
        meter, day = share.meter, share.day
        granted = self._granted(meter, day)
        while True:
            share = share_of(meter, day, share.quota, granted, self._node)
            wanted = share.stretched(self._file.used(meter, second), asked)
            if wanted == share.own:
                self._shares[meter.id] = share
                return share
            granted = self._exchange(meter, day, granted, dict(granted) | {self._node: wanted})

    def _exchange(
        self, meter: Meter, day: int, before: dict[str, Amounts], after: dict[str, Amounts]
    ) -> dict[str, Amounts]:
        """Put other grants in the place of those that are known; what is granted then, whoever did it."""
        ordered = dict(sorted(after.items()))
        values = (ordered, meter.id, meter.since, day, before or None)
        is_done, found = self._session.compare_and_set(_GRANT, values)
        return ordered if is_done else _read(found)

    def _granted(self, meter: Meter, day: int) -> dict[str, Amounts]:
        """What each machine was granted of a day."""
        rows = self._session.rows(_GRANTED, (meter.id, meter.since, day))
        return _read(rows[0]) if rows else {}


def _read(row: Row) -> dict[str, Amounts]:
    """The grants in a row; none where there is no row."""
    return dict(row[0].items()) if row and row[0] else {}
