"""Who may write the graph: one at a time. A lightweight transaction gives the lease, and time takes it back.

The holder stops writing well before its lease ends by its own clock. Should it write later all the same, because it was
stopped in between, its timestamps lose against those of the next holder.
"""

from collections.abc import Callable
from contextlib import suppress

from retinue.errors import StoreUnavailable
from retinue.store.cassandra.session import Session

LEASE_SECONDS = 10
RENEW_AFTER_SECONDS = 2.0
# A piece of writes that is sent by then has ended, one way or the other, before the lease has.
STOP_AFTER_SECONDS = 4.5
_TRY_AGAIN_SECONDS = 0.01

_TAKE = "INSERT INTO lease (name, holder) VALUES (?, ?) IF NOT EXISTS USING TTL ?"
_RENEW = "UPDATE lease USING TTL ? SET holder = ? WHERE name = ? IF holder = ?"
_GIVE_BACK = "DELETE FROM lease WHERE name = ? IF holder = ?"
_FENCE = "SELECT writetime(holder) FROM lease WHERE name = ?"


class Lease:
    """A lease on the graph. `elapsed` and `pause` are in seconds."""

    def __init__(
        self, session: Session, holder: str, elapsed: Callable[[], float], pause: Callable[[float], object]
    ) -> None:
        self._session = session
        self._holder = holder
        self._elapsed = elapsed
        self._pause = pause
        self._renewed_at = 0.0
        self._name = "graph"

    def take(self) -> int:
        """Wait for the lease; the fence: a timestamp later than all of earlier holders."""
        while not self._try_to_take():
            self._pause(_TRY_AGAIN_SECONDS)
        return int(self._session.rows(_FENCE, (self._name,))[0][0])

    def keep(self) -> None:
        """Call before each piece of writes. Raises `StoreUnavailable` where the lease was lost, or may end too soon."""
        now = self._elapsed()
        if now - self._renewed_at < RENEW_AFTER_SECONDS:
            return
        applied, _ = self._session.compare_and_set(_RENEW, (LEASE_SECONDS, self._holder, self._name, self._holder))
        if not applied:
            raise StoreUnavailable("another writer has taken over")
        self._renewed_at = now
        if self._elapsed() - now > STOP_AFTER_SECONDS:
            raise StoreUnavailable("the lease for writing was not renewed in time")

    def give_back(self) -> None:
        """Let others write. Where nobody can be told it ends by itself."""
        with suppress(StoreUnavailable):
            self._session.compare_and_set(_GIVE_BACK, (self._name, self._holder))

    def _try_to_take(self) -> bool:
        now = self._elapsed()
        applied, found = self._session.compare_and_set(_TAKE, (self._name, self._holder, LEASE_SECONDS))
        if not applied and self._holder not in found:
            return False
        self._renewed_at = now
        if not applied:  # an earlier try of ours was applied, though nobody said so
            self._renewed_at = now - LEASE_SECONDS
            self.keep()
        return True
