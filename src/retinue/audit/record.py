"""What is remembered of each request: one record, made when its answer is known. Never a token, secret or name.

The account asked for is recorded by the store's own number, which means nothing once the account is erased; a name
that no account has, by an HMAC under a secret of the store. Where records go is `log.py`'s business.
"""

import hmac
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from retinue import names
from retinue.clock import Clock


class RemovedFile(Struct, frozen=True, gc=False):
    """Records that retention removed: numbers of the first and last, the hash of the last in hex, and their times."""

    first: int
    last: int
    hash: str
    oldest: int
    newest: int


class AuditRecord(Struct, frozen=True, gc=False, omit_defaults=True):
    """One request. `time` and `bound` are Unix seconds, `name` is an HMAC in hex, `client` a client key;
    `action` is what was asked of the management listener; `statements` were sent to a cluster since the record before.

    With `torn` it is no request: the log goes on after a crash that left a line unfinished (`chain.torn_digest`).
    With `lost` it is none either: so many records, made between `since` and `time`, could not be written.
    With `removed` it is none either: a file of the log was removed because of its age.
    With `summed` it stands for so many refusals between `since` and `time`, and between `first_log_id` and `log_id`.
    """

    time: int
    log_id: str
    endpoint: str
    status: int
    code: str
    microseconds: int
    peer: str
    client: str = ""
    account: int | None = None
    name: str = ""
    bound: int | None = None
    as_of: int | None = None
    rows: int = 0
    action: str = ""
    torn: str = ""
    statements: int = 0
    lost: int = 0
    since: int = 0
    summed: int = 0
    first_log_id: str = ""
    removed: RemovedFile | None = None

    @property
    def is_request(self) -> bool:
        """Whether it is the record of a request."""
        return not self.torn and not self.lost and self.removed is None

    @property
    def stands_for(self) -> int:
        """How many records it stands for, itself or in their place."""
        return self.lost or self.summed or 1


class RequestContext:
    """What of its record is learned while a request is being answered. `name` is the name asked for, as it was sent."""

    __slots__ = ("account", "action", "as_of", "bound", "client", "is_list", "name", "rows")

    def __init__(self) -> None:
        self.action = ""
        self.client = ""
        self.account: int | None = None
        self.name = ""
        self.is_list = False
        self.bound: int | None = None
        self.as_of: int | None = None
        self.rows = 0


class RequestOutcome(Struct, frozen=True, gc=False):
    """How a request ended. `code` is the error code of the answer, or ok."""

    log_id: str
    endpoint: str
    status: int
    code: str
    microseconds: int
    peer: str


class AuditSink(Protocol):
    """Where a process puts its records."""

    @property
    def is_full(self) -> bool:
        """Whether no more can be kept safe; then requests have to be refused."""
        ...

    def add(self, record: AuditRecord) -> None:
        """Take a record."""
        ...


class Auditor:
    """Makes records and puts them into an outbox. `statements`: how many this process has sent to a cluster."""

    def __init__(
        self, outbox: AuditSink, secret: bytes, clock: Clock, statements: Callable[[], int] = lambda: 0
    ) -> None:
        self.outbox = outbox
        self._secret = secret
        self._clock = clock
        self._statements = statements
        self._recorded = 0  # of these

    @property
    def is_full(self) -> bool:
        """Whether requests have to be refused because they could not be recorded."""
        return self.outbox.is_full

    def record(self, entry: RequestContext, outcome: RequestOutcome) -> None:
        """AuditRecord a request that has its answer."""
        now = self._clock.now()
        bound = entry.bound
        if entry.is_list and (bound is None or bound > now):
            bound = now
        name = ""
        if entry.account is None and entry.name:
            name = name_hmac(self._secret, entry.name)
        statements = self._statements()
        before, self._recorded = self._recorded, statements
        self.outbox.add(
            AuditRecord(
                now,
                outcome.log_id,
                outcome.endpoint,
                outcome.status,
                outcome.code,
                outcome.microseconds,
                outcome.peer,
                entry.client,
                entry.account,
                name,
                bound,
                entry.as_of,
                entry.rows,
                entry.action,
                statements=statements - before,
            )
        )


def name_hmac(secret: bytes, name: str) -> str:
    """How a name that no account has is recorded: the same for all its spellings."""
    return hmac.digest(secret, b"name:" + names.fold(name).encode(), "sha256").hex()[:32]
