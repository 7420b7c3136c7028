"""The hot way: an ordinary request for a list whose head came before, byte for byte, answered in one plain step.

Clients send the same head again and again; only the body changes. So what a head says is remembered with its bytes when
its request was answered with a page on another way, and found again without reading it. Whatever is not ordinary,
refusals included, gets no answer here and nothing counted or recorded, and goes the other ways, which know what to do.
The answers are theirs, byte for byte. Knows nothing of connections; that is `protocol.py`'s business.
"""

import logging
from asyncio import AbstractEventLoop, Transport
from collections.abc import Iterable

from msgspec import Struct

from retinue import errors, names, requests, wire
from retinue.audit.record import Auditor, AuditRecord
from retinue.clock import Clock
from retinue.following import stretch_of
from retinue.model import RESEARCH_SCOPE, Direction, Pool
from retinue.store.base import HotGraph
from retinue.store.quota_counters import Allowance
from retinue.web.asgi import LogIds
from retinue.web.peers import Peers
from retinue.web.replies import Headers
from retinue.web.routes import LIST_PATHS, Access

MOST_HEADS = 4096
LONGEST_HEAD = 2048
END_OF_HEAD = b"\r\n\r\n"

_LISTS = Pool.LISTS
_LOGGER = logging.getLogger("retinue.web")

_ANSWER = b"HTTP/1.1 200 OK\r\n%bcontent-type: application/json\r\ncontent-length: %d\r\nx-tt-logid: %b\r\n%b\r\n%b"
_ALLOWANCE = b"ratelimit-limit: %d\r\nratelimit-remaining: %d\r\nratelimit-reset: %d\r\n"


class Head(Struct, frozen=True, gc=False):
    """What the head of a request for a list says, as far as its answer depends on it."""

    direction: Direction
    endpoint: str
    authorization: bytes
    forwarded_for: tuple[bytes, ...]
    body_bytes: int


class Hot:
    """Remembers heads, and answers requests that begin with them."""

    def __init__(
        self, graph: HotGraph, access: Access, auditor: Auditor, clock: Clock, log_ids: LogIds, peers: Peers
    ) -> None:
        self._graph = graph
        self._remembered = access.credentials.remembered
        self._charge = access.quotas.charge
        self._outbox = auditor.outbox
        # Where each request is logged, that takes longer than answering it.
        self._is_logging = _LOGGER.isEnabledFor(logging.INFO)
        self._clock = clock
        self._log_ids = log_ids
        self._peers = peers
        self._directions = {
            spelling.encode(): direction
            for direction, path in LIST_PATHS.items()
            for spelling in (path, path.rstrip("/"))
        }
        self._default_headers: object = None
        self._defaults = b""
        # By their bytes, up to the empty line that ends them.
        self.heads: dict[bytes, Head] = {}
        self.waiting: list[tuple[Transport, bytes]] = []

    def learn_from(self, packet: bytes, body: bytes, target: bytes, headers: Headers) -> None:
        """Remember the head in a packet if that was one request, which was answered with a page, and nothing else."""
        head, end, rest = packet.partition(END_OF_HEAD)
        if end and rest == body:
            self.learn(head, target, headers)

    def learn(self, head: bytes, target: bytes, headers: Headers) -> None:
        """Remember a head that was read, of a request that was answered with a page."""
        direction = self._directions.get(target)
        lengths = _values(headers, b"content-length")
        if direction is None or len(head) > LONGEST_HEAD or len(lengths) != 1 or not lengths[0].isdigit():
            return
        if _values(headers, b"transfer-encoding"):
            return
        if len(self.heads) >= MOST_HEADS:
            self.heads.clear()
        authorization = _values(headers, b"authorization")
        self.heads[head] = Head(
            direction,
            direction.value,
            authorization[0] if authorization else b"",
            tuple(_values(headers, b"x-forwarded-for")) if self._peers.networks else (),
            int(lengths[0]),
        )

    def answer_to(self, packet: bytes, host: str, default_headers: Headers) -> bytes | None:
        """Return the answer to a packet that is one request whose head is known; None if another way has to be gone."""
        head, _, body = packet.partition(END_OF_HEAD)
        known = self.heads.get(head)
        if known is None or len(body) != known.body_bytes:
            return None
        try:
            return self.answer(known, body, host, default_headers)
        except Exception:
            _LOGGER.exception("the hot way failed; another one is gone")
            return None

    def answer(self, head: Head, body: bytes, host: str, default_headers: Headers) -> bytes | None:
        """All that goes over the line to who asked from `host`; None where another way has to be gone."""
        started = self._clock.elapsed()
        grant = self._remembered(head.authorization, RESEARCH_SCOPE)
        query = requests.read_plain_query(body)
        if grant is None or query is None or self._outbox.is_full or self._is_logging:
            return None
        account = self._graph.account_at_once(names.fold(query.username))
        if account is None:
            return None
        now = self._clock.now()
        # What could fail comes before the charge: a request that goes another way is charged there.
        log_id, peer = self._log_ids.fresh(now), self._peers.address(host, head.forwarded_for)
        try:
            stretch = stretch_of(account, query, head.direction, now)
            run = self._graph.run_at_once(stretch)
            if run is None or (not run.count and grant.quota.list_rows is not None):
                return None  # an empty page would fit into a quota of which no row is left, and be given nevertheless
            allowance = self._charge(grant, _LISTS, run.count)
        except errors.Refusal:
            return None
        if allowance is None:
            return None
        bound, count = stretch.bound, run.count
        page = wire.run_body(run.text, run.oldest - 1 if count else bound, run.has_more, head.direction, log_id)
        took = int((self._clock.elapsed() - started) * 1e6)
        known = (grant.client_key, account.id, "", bound, None, count)
        self._outbox.add(AuditRecord(now, log_id, head.endpoint, 200, "ok", took, peer, *known))
        if default_headers is not self._default_headers:  # uvicorn makes another list each second
            self._default_headers = default_headers
            self._defaults = b"".join([b"%b: %b\r\n" % field for field in default_headers])
        return _ANSWER % (self._defaults, len(page), log_id.encode(), _headers_of(allowance), page)

    def send(self, transport: Transport, answer: bytes, loop: AbstractEventLoop) -> None:
        """Send an answer as soon as all that has arrived is read.

        On a busy server many answers then go out one after the other, and who waits for several is woken once.
        """
        if not self.waiting:
            loop.call_soon(self.flush)
        self.waiting.append((transport, answer))

    def flush(self) -> None:
        """Send what waits, now."""
        waiting, self.waiting = self.waiting, []
        for transport, answer in waiting:
            if not transport.is_closing():  # the client is gone; writing would raise, and others are still waiting
                transport.write(answer)


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]


def _headers_of(allowance: Allowance) -> bytes:
    if allowance.limit is None:
        return b""
    return _ALLOWANCE % (allowance.limit, allowance.calls or 0, allowance.reset)
