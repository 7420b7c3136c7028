"""Audit records, one for each request. All of them are built here.

A record never holds a token, secret or name: only the account number, or an HMAC of an unknown name.
"""

import hmac
from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec
from msgspec import Struct

from retinue import names
from retinue.clock import Clock

# The endpoint of records that the log adds itself.
_OWN_ENDPOINT = "coordinator"


class RemovedRecords(Struct, frozen=True, gc=False):
    """The records in a removed file: numbers, last hash in hex, times."""

    first: int
    last: int
    hash: str
    oldest: int
    newest: int


class AuditRecord(Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A request. `name` is an HMAC in hex, `client` a client key, `action` the method and path of management.

    `statements` were sent to a cluster since the last record. With `summed` it stands for that many refusals. With
    `torn`, `lost` or `removed` it is no request: the log resumed after a crash, records were lost between `since` and
    `time`, or an old file was removed.
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
    removed: RemovedRecords | None = None

    @property
    def is_request(self) -> bool:
        """Whether it records a request or a sum of refusals."""
        return not self.torn and not self.lost and self.removed is None

    @property
    def stands_for(self) -> int:
        """The number of records that it stands for."""
        return self.lost or self.summed or 1


encode_record = msgspec.json.Encoder().encode
decode_record = msgspec.json.Decoder(AuditRecord).decode


class RequestContext(Struct, gc=False):
    """Facts about a request from its handler. `name` is the username as sent."""

    action: str = ""
    client: str = ""
    account: int | None = None
    name: str = ""
    is_list: bool = False
    bound: int | None = None
    as_of: int | None = None
    rows: int = 0


class RequestOutcome(Struct, frozen=True, gc=False):
    """The result of a request. `code` is the error code of the response, or ok."""

    log_id: str
    endpoint: str
    status: int
    code: str
    microseconds: int
    peer: str


class AuditSink(Protocol):
    """The destination of a process's audit records."""

    @property
    def is_full(self) -> bool:
        """Whether requests must be refused."""
        ...

    def add(self, record: AuditRecord) -> None:
        """Accept a record."""
        ...


class Auditor:
    """Records requests in a sink. `statements` returns how many were sent to a cluster."""

    def __init__(self, sink: AuditSink, secret: bytes, clock: Clock, statements: Callable[[], int] = lambda: 0) -> None:
        self.sink = sink
        self._secret = secret
        self._clock = clock
        self._statements = statements
        self._recorded_statements = 0

    @property
    def is_full(self) -> bool:
        """Whether requests must be refused."""
        return self.sink.is_full

    def record(self, context: RequestContext, outcome: RequestOutcome) -> None:
        """Record a request that has its response."""
        now = self._clock.now()
        bound = context.bound
        if context.is_list and (bound is None or bound > now):
            bound = now
        is_unknown_name = context.account is None and context.name
        before, self._recorded_statements = self._recorded_statements, self._statements()
        self.sink.add(
            AuditRecord(
                time=now,
                log_id=outcome.log_id,
                endpoint=outcome.endpoint,
                status=outcome.status,
                code=outcome.code,
                microseconds=outcome.microseconds,
                peer=outcome.peer,
                client=context.client,
                account=context.account,
                name=name_hmac(self._secret, context.name) if is_unknown_name else "",
                bound=bound,
                as_of=context.as_of,
                rows=context.rows,
                action=context.action,
                statements=self._recorded_statements - before,
            )
        )


def page_record(
    *,
    time: int,
    log_id: str,
    endpoint: str,
    microseconds: int,
    peer: str,
    client: str,
    account: int,
    bound: int,
    rows: int,
) -> AuditRecord:
    """Return the record of a page of a current list."""
    return AuditRecord(
        time=time,
        log_id=log_id,
        endpoint=endpoint,
        status=200,
        code="ok",
        microseconds=microseconds,
        peer=peer,
        client=client,
        account=account,
        bound=bound,
        rows=rows,
    )


# Return a record of the log itself. Its `code` is resumed, lost or removed.
log_record = partial(AuditRecord, log_id="", endpoint=_OWN_ENDPOINT, status=0, microseconds=0, peer="")


def name_hmac(secret: bytes, name: str) -> str:
    """Return the HMAC of a name, the same for all spellings."""
    return hmac.digest(secret, b"name:" + names.fold(name).encode(), "sha256").hex()[:32]
