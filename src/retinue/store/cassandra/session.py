"""Talking to the cluster. Only this file knows the driver, and translates its errors.

Every statement is prepared on first use and may be repeated: reads change nothing, writes carry their own timestamps.
So the driver sends a slow read to a second node too. `retry.py` repeats after a `TransientFailure`.
"""

import asyncio
import re
import ssl
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

from cassandra import (
    ConsistencyLevel,
    DriverException,
    OperationTimedOut,
    ReadFailure,
    ReadTimeout,
    Unavailable,
    WriteFailure,
    WriteTimeout,
    WriteType,
)
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.connection import ConnectionException
from cassandra.policies import (
    ConstantReconnectionPolicy,
    ConstantSpeculativeExecutionPolicy,
    DCAwareRoundRobinPolicy,
    RetryPolicy,
    TokenAwarePolicy,
)
from cassandra.protocol import ErrorMessage, IsBootstrappingErrorMessage, OverloadedErrorMessage
from cassandra.query import BatchStatement, BatchType, tuple_factory

from retinue.errors import InputError, StoreError, StoreUnavailable
from retinue.key_pair import read_key_pair
from retinue.store.cassandra.location import Location
from retinue.store.cassandra.statements import Row, Statement, batched

# A page takes milliseconds; after a refusal the client tries again.
READ_SECONDS = 0.8
BULK_SECONDS = 5.0  # of writers, whose statements wait behind each other
CONNECT_SECONDS = 10.0  # busy nodes and clients take their time
# Reads that take longer, far longer than an ordinary one, are sent to another node too.
SPECULATE_AFTER_SECONDS = 0.1
RECONNECT_SECONDS = 0.5
MOST_CROSSINGS = 10
# In flight; more would only wait in the nodes' queues.
READS_AT_ONCE = 128
BATCHES_AT_ONCE = 32

# Nodes or connections are too slow or too few. Whether a write that failed so was stored is unknown.
_TRANSIENT = (
    *(WriteTimeout, WriteFailure, ReadTimeout, OperationTimedOut, Unavailable, NoHostAvailable, ConnectionException),
    *(OverloadedErrorMessage, IsBootstrappingErrorMessage),
)
_ERRORS = (DriverException, ErrorMessage, *_TRANSIENT)

_TABLE = re.compile(r"\b(FROM|INTO|UPDATE) (\w+)\b(?!\.)")


class ReadRefused(StoreUnavailable):
    """Nodes would have to pass too many deleted rows."""


class TransientFailure(StoreUnavailable):
    """Nodes were too slow or too few. A write may have been stored."""


class Session:
    """A connection pool. Tables need `enter` first.

    Blocking calls are for writers, `fetch` is for event loops.
    """

    def __init__(self, location: Location, reads_at_once: int = READS_AT_ONCE) -> None:
        self.location = location
        self._reads_at_once = reads_at_once
        self.counts = {"reads": 0, "writes": 0}
        self._prepared: dict[str, Any] = {}
        self._preparing = Lock()
        self._cluster = _cluster(location)
        try:
            self._session = self._cluster.connect()
        except NoHostAvailable as error:
            self._cluster.shutdown()
            raise StoreError(f"{location}: no node can be reached: {_first(error)}") from error
        except DriverException as error:
            self._cluster.shutdown()
            raise StoreError(f"{location}: {error}") from error

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        self.counts["reads"] += 1
        with _translated():
            return list(self._session.execute(self._bound(query, values), execution_profile="read"))

    def stream(self, query: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """Run one long read in bounded memory."""
        self.counts["reads"] += 1
        with _translated():
            yield from self._session.execute(self._bound(query, values), execution_profile="scan")

    async def fetch(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        """Run one short read without blocking."""
        self.counts["reads"] += 1
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Row]] = loop.create_future()
        with _translated():
            future = self._session.execute_async(self._bound(query, values), execution_profile="read")
            future.add_callbacks(
                lambda rows: _tell(loop, answer, rows or [], None),
                lambda error: _tell(loop, answer, [], error),
            )
            return await answer

    def rows_of_all(self, statements: Iterable[Statement]) -> list[list[Row]]:
        """Run many short reads at once; return their rows in order."""
        waiting = list(statements)
        self.counts["reads"] += len(waiting)
        bound = (self._bound(statement.query, statement.values) for statement in waiting)
        return [list(rows or ()) for rows in self._run_all(bound, self._reads_at_once)]

    def write(self, query: str, values: Sequence[Any] = ()) -> None:
        self.write_all([Statement(query, values)])

    def write_all(self, statements: Iterable[Statement]) -> None:
        """Run many writes in any order. On return, a quorum has stored all."""
        self.write_batches(batched(statements))

    def write_batches(
        self, batches: Iterable[list[Statement]], before_each: Callable[[], object] = lambda: None
    ) -> None:
        """Run batches of writes in any order. On return, a quorum has stored all.

        `before_each` runs before each batch, and may raise an error.
        """
        self._run_all(map(self._batch, batches), BATCHES_AT_ONCE, before_each)

    def compare_and_set(self, query: str, values: Sequence[Any] = ()) -> tuple[bool, Row]:
        """Run a lightweight transaction.

        Return whether it was applied, else the values that its conditions met.
        """
        self.counts["writes"] += 1
        with _translated():
            found = self._session.execute(self._bound(query, values), execution_profile="bulk").one()
        return bool(found[0]), tuple(found[1:])

    def run_as_is(self, query: str) -> list[Row]:
        """Run a statement that cannot be prepared."""
        with _translated():
            return list(self._session.execute(query, execution_profile="scan", timeout=60))

    def enter(self) -> None:
        self._session.set_keyspace(self.location.keyspace)

    def statements_sent(self) -> int:
        return sum(self.counts.values())

    def close(self) -> None:
        self._cluster.shutdown()

    def _bound(self, query: str, values: Sequence[Any]) -> Any:
        statement = self._prepared.get(query)
        if statement is None:
            with self._preparing:
                # Nodes complain of prepared statements that do not name the keyspace.
                named = _TABLE.sub(rf'\1 "{self.location.keyspace}".\2', query)
                statement = self._prepared[query] = self._session.prepare(named)
                statement.is_idempotent = True
        return statement.bind(values)

    def _run_all(
        self, waiting: Iterable[Any], at_once: int, before_each: Callable[[], object] = lambda: None
    ) -> list[Any]:
        """Send one after the other. On return all have ended, even after a failure."""
        results: list[Any] = []
        failures: list[Exception] = []
        pending: deque[Any] = deque()

        def settle_until(count: int) -> None:
            while len(pending) > count:
                try:
                    results.append(pending.popleft().result())
                except Exception as error:  # noqa: BLE001 - raised below, when all have ended
                    failures.append(error)

        with _translated():
            try:
                for each in waiting:
                    before_each()
                    pending.append(self._session.execute_async(each, execution_profile="bulk"))
                    settle_until(at_once - 1)
                    if failures:
                        break
            finally:
                settle_until(0)
            if failures:
                lasting = (error for error in failures if not isinstance(error, _TRANSIENT))
                raise next(lasting, failures[0])
        return results

    def _batch(self, statements: list[Statement]) -> Any:
        self.counts["writes"] += len(statements)
        if len(statements) == 1:
            return self._bound(statements[0].query, statements[0].values)
        batch = BatchStatement(BatchType.UNLOGGED)
        batch.is_idempotent = True
        for statement in statements:
            batch.add(self._bound(statement.query, statement.values))
        return batch


def _tell(
    loop: asyncio.AbstractEventLoop, answer: asyncio.Future[list[Row]], rows: list[Row], error: Exception | None
) -> None:
    """Pass a result from the driver's thread to the event loop."""

    def settle() -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(rows)
        else:
            answer.set_exception(error)

    with suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(settle)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except ReadFailure as error:
        raise ReadRefused(f"{type(error).__name__}: {_first(error)}") from error
    except _TRANSIENT as error:
        raise TransientFailure(f"{type(error).__name__}: {_first(error)}") from error
    except _ERRORS as error:
        raise StoreUnavailable(f"{type(error).__name__}: {_first(error)}") from error


def _first(error: Exception) -> str:
    said = getattr(error, "errors", None)
    if isinstance(said, dict) and said:
        node, reason = next(iter(said.items()))
        return f"{node}: {reason}"
    return str(error)


class _TryAgain(RetryPolicy):  # type: ignore[misc]  # the driver ships no types
    """The driver's retry policy, which also repeats conflicting lightweight transactions.

    The cluster reports these as timeouts. The next transaction on the row finishes them.
    """

    def on_write_timeout(self, query: Any, *, write_type: int, retry_num: int, **said: Any) -> Any:
        """Retry a few times, within the statement's own time."""
        if write_type == WriteType.CAS and retry_num < MOST_CROSSINGS:
            return self.RETRY, None  # at the same consistency
        return super().on_write_timeout(query, write_type=write_type, retry_num=retry_num, **said)


def _cluster(location: Location) -> Any:
    consistency = getattr(ConsistencyLevel, location.consistency)
    local = location.consistency.startswith("LOCAL")

    def profile(seconds: float, **more: Any) -> ExecutionProfile:
        return ExecutionProfile(
            load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(local_dc=location.datacenter)),
            consistency_level=consistency,
            serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL if local else ConsistencyLevel.SERIAL,
            request_timeout=seconds,
            row_factory=tuple_factory,
            retry_policy=_TryAgain(),
            **more,
        )

    speculative = ConstantSpeculativeExecutionPolicy(SPECULATE_AFTER_SECONDS, 2)
    return Cluster(
        location.hosts,
        port=location.port,
        execution_profiles={
            EXEC_PROFILE_DEFAULT: profile(CONNECT_SECONDS),
            "read": profile(READ_SECONDS, speculative_execution_policy=speculative),
            "scan": profile(60.0),
            "bulk": profile(BULK_SECONDS),
        },
        auth_provider=PlainTextAuthProvider(location.user, location.password) if location.user else None,
        ssl_context=_tls(location),
        connect_timeout=CONNECT_SECONDS,
        control_connection_timeout=CONNECT_SECONDS,
        reconnection_policy=ConstantReconnectionPolicy(RECONNECT_SECONDS, None),
        compression=False,
        protocol_version=4,  # spoken by ScyllaDB too
    )


def _tls(location: Location) -> ssl.SSLContext | None:
    if not location.tls_ca:
        return None
    try:
        context = ssl.create_default_context(cafile=location.tls_ca)
        if location.tls_cert:
            read_key_pair(Path(location.tls_cert), Path(location.tls_key)).load_into(context)
    except (OSError, InputError) as error:
        raise StoreError(f"{location}: the certificates cannot be read: {error}") from error
    return context
