"""The lease of the one writer: a lightweight transaction with a time limit.

Its row also has the number of the last committed group. So a writer that has lost the lease cannot commit, whatever its
clock says.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from retinue.errors import StoreUnavailable
from retinue.store.cassandra.retry import FIRST_DELAY_SECONDS, Backoff
from retinue.store.cassandra.session import Session, TransientFailure

LEASE_SECONDS = 10
RENEW_AFTER_SECONDS = 2.0
# A piece of writes that is sent by then has ended, one way or the other, before the lease has.
STOP_AFTER_SECONDS = 4.5
GIVE_BACK_SECONDS = 2.0
_TRY_AGAIN_SECONDS = 0.01

BEGIN = "INSERT INTO commits (name, committed, applied) VALUES ('graph', 0, 0) IF NOT EXISTS"
STATE = "SELECT committed, writer, attempt, pieces, applied FROM commits WHERE name = 'graph'"
_TAKE = "UPDATE commits USING TTL ? SET holder = ? WHERE name = 'graph' IF holder = NULL"
_RENEW = "UPDATE commits USING TTL ? SET holder = ? WHERE name = 'graph' IF holder = ?"
_COMMIT = (
    "UPDATE commits SET committed = ?, writer = ?, attempt = ?, pieces = ? WHERE name = 'graph'"
    " IF holder = ? AND committed = ?"
)
_APPLIED = "UPDATE commits SET applied = ? WHERE name = 'graph' IF holder = ? AND committed = ?"
_GIVE_BACK = "UPDATE commits SET holder = NULL, applied = ? WHERE name = 'graph' IF holder = ?"


class Commits(NamedTuple):
    """The last committed group, its redo log, and the last finished group."""

    committed: int
    writer: str | None
    attempt: int | None
    pieces: int | None
    applied: int

    @property
    def is_finished(self) -> bool:
        return self.committed == self.applied


class Lease:
    """A lease on the graph.

    If a lightweight transaction times out, it may have been applied. It is repeated, and thus reads at SERIAL
    consistency: its answer names the holder.
    """

    def __init__(self, session: Session, holder: str, backoff: Backoff) -> None:
        self._session = session
        self._holder = holder
        self._backoff = backoff
        self._renewed_at = 0.0

    def take(self) -> Commits:
        """Wait for the lease; return the committed state."""
        while not self._backoff.repeat(self._try_to_take, LEASE_SECONDS):
            self._backoff.pause(_TRY_AGAIN_SECONDS)
        return self._backoff.repeat(self._commits, LEASE_SECONDS)

    def keep(self) -> None:
        """Renew the lease if it is due. Call before each piece of statements.

        Raises `StoreUnavailable` if it is lost, or may be.
        """
        age = self._backoff.elapsed() - self._renewed_at
        if age < RENEW_AFTER_SECONDS:
            return
        seconds = max(LEASE_SECONDS - age, FIRST_DELAY_SECONDS)
        try:  # to take it again, too: if others wrote meanwhile, no commit will succeed
            is_renewed = self._backoff.repeat(lambda: self._renew() or self._try_to_take(), seconds)
        except TransientFailure as error:
            raise StoreUnavailable(f"the lease for writing was not renewed in time: {error.detail}") from error
        if not is_renewed:
            raise _lost()

    def commit(self, group: int, attempt: int, pieces: int) -> None:
        """Commit a group whose redo log is stored."""
        values = (group, self._holder, attempt, pieces, self._holder, group - 1)
        done = (group, self._holder, attempt)
        self._change(_COMMIT, values, lambda now: (now.committed, now.writer, now.attempt) == done)

    def applied(self, group: int) -> None:
        self._change(_APPLIED, (group, self._holder, group), lambda now: now.applied == group)

    def give_back(self, applied: int) -> bool:
        """Release the lease; return whether that succeeded."""
        values = (applied, self._holder)
        with suppress(StoreUnavailable):
            return self._backoff.repeat(lambda: self._session.compare_and_set(_GIVE_BACK, values)[0], GIVE_BACK_SECONDS)
        return False

    def _change(self, query: str, values: tuple[object, ...], is_done: Callable[[Commits], bool]) -> None:
        """Run a lightweight transaction. Take the lease again if it is free."""

        def run() -> bool:
            self.keep()
            if self._session.compare_and_set(query, values)[0]:
                return True
            if is_done(self._commits()):  # by an earlier attempt that timed out
                return True
            return self._try_to_take() and self._session.compare_and_set(query, values)[0]

        if not self._backoff.repeat(run, LEASE_SECONDS):
            raise _lost()

    def _try_to_take(self) -> bool:
        started = self._backoff.elapsed()
        applied, found = self._session.compare_and_set(_TAKE, (LEASE_SECONDS, self._holder))
        if applied:
            self._renewed_at = started
            return True
        # An earlier attempt may have been applied although it timed out; how long ago is unknown.
        return self._holder in found and self._renew()

    def _renew(self) -> bool:
        started = self._backoff.elapsed()
        applied, _ = self._session.compare_and_set(_RENEW, (LEASE_SECONDS, self._holder, self._holder))
        if not applied:
            return False
        self._renewed_at = started
        if self._backoff.elapsed() - started > STOP_AFTER_SECONDS:
            raise TransientFailure("the answer came too late")
        return True

    def _commits(self) -> Commits:
        self.keep()
        return Commits(*self._session.rows(STATE)[0])


def _lost() -> StoreUnavailable:
    return StoreUnavailable("another writer has taken over")
