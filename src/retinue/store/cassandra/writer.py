"""Writes to the follow graph in a keyspace, in atomic groups."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from secrets import token_hex
from typing import TypeVar

from msgspec.structs import replace

from retinue.model import AccountRecord, Event, FollowRecord
from retinue.store.cassandra import graph_state
from retinue.store.cassandra.bucket_rewriter import BucketRewriter
from retinue.store.cassandra.lease import Lease
from retinue.store.cassandra.redo_log import Reads, RedoLog, last_timestamp
from retinue.store.cassandra.retry import Backoff, RetryingSession
from retinue.store.cassandra.session import Session
from retinue.store.cassandra.table_definitions import GRAPH
from retinue.store.cassandra.unit_of_work import CassandraUnitOfWork
from retinue.store.contract import Decision, NotAKey, Verdict

GROUP = 2_000  # items
# A group's changes are first written into one row, of which nodes accept at most 16 MiB.
MAX_BYTES = 4 << 20
_SECRET = "SELECT secret FROM store WHERE name = 'store'"

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class CassandraGraphWriter:
    """A `GraphWriter`. It blocks while it works. Others may write between its calls."""

    def __init__(self, session: Session, backoff: Backoff) -> None:
        self._session = RetryingSession(session, backoff)  # needs no lease
        self._lease = Lease(session, token_hex(8), backoff)
        self._leased = RetryingSession(session, backoff, self._lease.renew_if_due)
        self._redo_log = RedoLog(self._leased)
        self._work = CassandraUnitOfWork(self._leased, self._session.rows(_SECRET)[0][0])
        self._bucket_rewriter = BucketRewriter(
            self._work.buffer, self._lease.renew_if_due, self._commit, self._next_timestamp, backoff.pause
        )
        self._fencing_token = 0
        self._seen = 0  # the timestamp of the last group that the caches include; 0 if they are empty

    async def add_accounts(self, records: Sequence[AccountRecord], now: int) -> list[Verdict]:
        changes = self._work.changes
        return self._in_groups(records, self._work.prefetch_accounts, lambda record: changes.bring(record, now))

    async def add_follows(self, records: Sequence[FollowRecord], seen_at: int | None = None) -> list[Verdict]:
        changes = self._work.changes
        return self._in_groups(records, self._work.prefetch_rows, lambda record: changes.add_follow(record, seen_at))

    async def keys_of(self, names: Sequence[str]) -> list[str | None]:
        with self._lease_held():
            return [self._work.changes.key_of(name) for name in names]

    async def not_keys(self, keys: Sequence[str]) -> list[NotAKey | None]:
        with self._lease_held():
            return [self._work.changes.not_a_key(key) for key in keys]

    async def end_missing(self, follower: str, followees: Collection[str], at: int) -> int:
        with self._lease_held():
            missing = self._work.changes.missing(follower, followees, at)
        verdicts = self._in_groups(missing, lambda _: None, lambda pair: self._work.changes.end(pair, at))
        return sum(verdict is Verdict.ACCEPTED for verdict in verdicts)

    async def apply(self, events: Sequence[Event], received_at: int) -> list[Decision]:
        changes = self._work.changes
        return self._in_groups(events, self._work.prefetch_events, lambda event: changes.apply(event, received_at))

    async def run_maintenance(self) -> bool:
        """Do a short piece of maintenance. Take no lease if none is pending."""
        state = _graph_state(self._session)
        if state.first == state.next and state.timestamp == last_timestamp(self._session):
            return False
        with self._lease_held():
            is_more = self._work.changes.run_maintenance(lambda: False)
            self._end_group()
            return is_more

    async def compact(self) -> None:
        """Finish maintenance, and remove unused buckets. Nodes drop deleted data themselves."""
        while await self.run_maintenance():
            pass
        with self._lease_held():
            self._bucket_rewriter.remove_unused()

    async def settle(self) -> None:
        """Do nothing: a quorum has everything."""

    def bulk(self) -> None:
        """Return None: a cluster takes follows one by one."""

    def close(self) -> None:
        self._session.close()

    def _in_groups(
        self, items: Sequence[_Item], expect: Callable[[Sequence[_Item]], object], store: Callable[[_Item], _Result]
    ) -> list[_Result]:
        results: list[_Result] = []
        waiting = iter(items)
        while some := list(islice(waiting, GROUP)):
            with self._lease_held():
                expect(some)
                for item in some:
                    self._lease.renew_if_due()
                    results.append(store(item))
                    if self._work.buffer.changed_bytes > MAX_BYTES:
                        self._end_group()
                self._end_group()
        return results

    def _end_group(self) -> None:
        self._commit()
        self._bucket_rewriter.run()

    @contextmanager
    def _lease_held(self) -> Iterator[None]:
        """Hold the lease, with valid caches. A failure clears them."""
        self._fencing_token = self._lease.take()
        try:
            self._begin()
            yield
        except BaseException:
            self._seen = 0
            self._work.forget()
            raise
        finally:
            self._lease.release()

    def _begin(self) -> None:
        """Complete an interrupted group. Clear caches if another writer has written."""
        last = last_timestamp(self._leased)
        if last != _graph_state(self._leased).timestamp:
            self._redo_log.replay()
        if self._seen == 0 or self._seen != last:
            self._work.forget()
            self._work.begin()
        self._seen = last

    def _commit(self) -> None:
        buffer = self._work.buffer
        if not buffer.is_changed:
            return
        state = graph_state.read(buffer)
        timestamp = self._next_timestamp()
        graph_state.write(buffer, replace(state, timestamp=timestamp))
        self._redo_log.write(buffer.changes(), timestamp)
        self._work.settle()
        self._seen = timestamp

    def _next_timestamp(self) -> int:
        """Return a timestamp later than all earlier ones. Those of other lease holders count too."""
        return max(self._fencing_token, graph_state.read(self._work.buffer).timestamp + 1)


def _graph_state(session: Reads) -> graph_state.GraphState:
    found = session.rows(GRAPH.select, graph_state.KEY)
    return graph_state.decoded(found[0] if found else None)
