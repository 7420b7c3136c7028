"""The lease on writing the graph: one writer at a time.

A lightweight transaction takes the lease, and it expires by itself. The holder stops writing well before that by its
own clock. Later writes lose against those of the next holder.
"""

from contextlib import suppress

from retinue.errors import StoreUnavailable
from retinue.store.cassandra.retry import Backoff
from retinue.store.cassandra.session import Session, TransientFailure

LEASE_SECONDS = 10
RENEW_AFTER_SECONDS = 2.0
# A piece of writes sent by then has succeeded or failed before the lease ends.
STOP_AFTER_SECONDS = 4.5
RELEASE_SECONDS = 2.0
_TRY_AGAIN_SECONDS = 0.01

_TAKE = "INSERT INTO lease (name, holder) VALUES (?, ?) IF NOT EXISTS USING TTL ?"
_RENEW = "UPDATE lease USING TTL ? SET holder = ? WHERE name = ? IF holder = ?"
_RELEASE = "DELETE FROM lease WHERE name = ? IF holder = ?"
_FENCING_TOKEN = "SELECT writetime(holder) FROM lease WHERE name = ?"


class Lease:
    """A lease on the graph.

    A lightweight transaction that times out may have been applied. It is repeated at SERIAL consistency, and a lease
    that this writer holds already counts as taken.
    """

    def __init__(self, session: Session, holder: str, backoff: Backoff) -> None:
        self._session = session
        self._holder = holder
        self._backoff = backoff
        self._renewed_at = 0.0
        self._name = "graph"

    def take(self) -> int:
        """Wait for the lease; return its fencing token: a timestamp later than all of earlier holders."""
        while not self._backoff.repeat(self._try_to_take, LEASE_SECONDS):
            self._backoff.pause(_TRY_AGAIN_SECONDS)
        return self._backoff.repeat(self._fencing_token, LEASE_SECONDS)

    def renew_if_due(self) -> None:
        """Renew the lease if it is due. Call it before each piece of writes.

        Raises `StoreUnavailable` if the lease was or may have been lost.
        """
        age = self._backoff.elapsed() - self._renewed_at
        if age < RENEW_AFTER_SECONDS:
            return
        try:
            is_renewed = self._backoff.repeat(self._renew, LEASE_SECONDS - age)
        except TransientFailure as error:
            raise StoreUnavailable(f"the lease for writing was not renewed in time: {error.detail}") from error
        if not is_renewed:
            raise StoreUnavailable("another writer has taken over")

    def release(self) -> None:
        """Let others write. If the cluster cannot be reached, the lease ends by itself."""
        with suppress(StoreUnavailable):
            self._backoff.repeat(
                lambda: self._session.compare_and_set(_RELEASE, (self._name, self._holder)), RELEASE_SECONDS
            )

    def _try_to_take(self) -> bool:
        started = self._backoff.elapsed()
        applied, found = self._session.compare_and_set(_TAKE, (self._name, self._holder, LEASE_SECONDS))
        if applied:
            self._renewed_at = started
            return True
        # An earlier attempt may have been applied although it timed out; how long ago is unknown.
        return self._holder in found and self._renew()

    def _renew(self) -> bool:
        started = self._backoff.elapsed()
        applied, _ = self._session.compare_and_set(_RENEW, (LEASE_SECONDS, self._holder, self._name, self._holder))
        if not applied:
            return False
        self._renewed_at = started
        if self._backoff.elapsed() - started > STOP_AFTER_SECONDS:
            raise TransientFailure("the answer came too late")
        return True

    def _fencing_token(self) -> int:
        self.renew_if_due()
        return int(self._session.rows(_FENCING_TOKEN, (self._name,))[0][0])
