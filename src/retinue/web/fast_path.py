"""The fast path: requests for a list whose head is cached, answered without parsing, tasks or SQL.

Clients send the same head again and again; only the body changes. The ASGI path tells which heads may be cached. A
request that the fast path cannot answer with a page (refusals included) leaves no trace here and takes the ASGI path.
Both give the same bytes. Knows nothing of connections.
"""

import logging
from asyncio import AbstractEventLoop, Transport
from collections.abc import Iterable

from msgspec import Struct

from retinue import errors, names
from retinue.audit.record import Auditor, page_record
from retinue.clock import Clock
from retinue.following import page_request_of
from retinue.model import RESEARCH_SCOPE, Direction, Pool
from retinue.store.contract import FastGraph
from retinue.store.quota_counters import QuotaStatus
from retinue.web.heads import relevant_part
from retinue.web.replies import Headers
from retinue.web.request_log import LogIds
from retinue.web.routes import Access
from retinue.web.trusted_proxies import TrustedProxies
from retinue.wire import parsing, rendering

MAX_HEADS = 4096
MAX_HEAD_BYTES = 2048
END_OF_HEAD = b"\r\n\r\n"

_LISTS = Pool.LISTS
_LOGGER = logging.getLogger("retinue.web")

_ANSWER = b"HTTP/1.1 200 OK\r\n%bcontent-type: application/json\r\ncontent-length: %d\r\nx-tt-logid: %b\r\n%b\r\n%b"
_QUOTA_HEADERS = b"ratelimit-limit: %d\r\nratelimit-remaining: %d\r\nratelimit-reset: %d\r\n"


class Head(Struct, frozen=True, gc=False):
    """The parts of a request head that the answer depends on."""

    direction: Direction
    endpoint: str
    authorization: bytes
    forwarded_for: tuple[bytes, ...]
    body_bytes: int


class FastPath:
    """Caches request heads, and answers requests that begin with them."""

    def __init__(
        self, graph: FastGraph, access: Access, auditor: Auditor, clock: Clock, log_ids: LogIds, proxies: TrustedProxies
    ) -> None:
        self._graph = graph
        self._remembered = access.authenticator.cached_grant
        self._charge = access.quotas.charge
        self._sink = auditor.sink
        # Logging each request takes longer than answering it.
        self._is_logging = _LOGGER.isEnabledFor(logging.INFO)
        self._clock = clock
        self._log_ids = log_ids
        self._proxies = proxies
        self._default_headers: object = None
        self._defaults = b""
        # By their bytes up to the empty line; None if no page was ever returned for a head that looked alike.
        self.heads: dict[bytes, Head | None] = {}
        self.waiting: list[tuple[Transport, bytes]] = []

    def cache_head(self, packet: bytes, headers: Iterable[tuple[bytes, bytes]], direction: Direction) -> None:
        """Cache the head in a packet that holds exactly one request.

        The ASGI path answered it with a page of a list in this direction.
        """
        head, _, body = packet.partition(END_OF_HEAD)
        is_whole = _values(headers, b"content-length") == [b"%d" % len(body)]
        if not is_whole or len(head) > MAX_HEAD_BYTES or _values(headers, b"transfer-encoding"):
            return
        authorization = _values(headers, b"authorization")
        forwarded_for = _values(headers, b"x-forwarded-for") if self._proxies.networks else ()
        cached = Head(direction, direction.value, authorization[0], tuple(forwarded_for), len(body))
        self._store(relevant_part(head), cached)
        self._store(head, cached)

    def _store(self, head: bytes, cached: Head | None) -> None:
        if len(self.heads) >= MAX_HEADS:
            self.heads.clear()
        self.heads[head] = cached

    def _find_similar(self, head: bytes) -> Head | None:
        """Return the cached head with the same relevant part."""
        if len(head) > MAX_HEAD_BYTES:
            return None
        cached = self.heads.get(relevant_part(head))
        self._store(head, cached)
        return cached

    def answer_to(self, packet: bytes, host: str, default_headers: Headers) -> bytes | None:
        """Return the response to a packet; None for the ASGI path."""
        head, end, body = packet.partition(END_OF_HEAD)
        try:
            cached = self.heads[head]
        except KeyError:
            cached = self._find_similar(head) if end else None
        if cached is None or len(body) != cached.body_bytes:
            return None
        try:
            return self.answer(cached, body, host, default_headers)
        except Exception:
            _LOGGER.exception("the fast path failed; the ASGI path answers")
            return None

    def answer(self, head: Head, body: bytes, host: str, default_headers: Headers) -> bytes | None:
        """Return the response, or None for the ASGI path."""
        started = self._clock.elapsed()
        grant = self._remembered(head.authorization, RESEARCH_SCOPE)
        query = parsing.read_plain_query(body)
        if grant is None or query is None or self._sink.is_full or self._is_logging:
            return None
        account = self._graph.find_account_nowait(names.fold(query.username))
        if account is None:
            return None
        now = self._clock.now()
        # Steps that may fail come before the charge: a request that takes the ASGI path is charged there.
        log_id, peer = self._log_ids.fresh(now), self._proxies.address(host, head.forwarded_for)
        try:
            request = page_request_of(account, query, head.direction, now)
            rows = self._graph.read_nowait(request)
            if rows is None or (not rows.count and grant.quota.list_rows is not None):
                return None  # an empty page would fit into a quota of which no row is left, and be given nevertheless
            quota_status = self._charge(grant, _LISTS, rows.count)
        except errors.Refusal:
            return None
        if quota_status is None:
            return None
        bound, count = request.bound, rows.count
        page = rendering.joined_page_body(
            rows.text, rows.oldest - 1 if count else bound, rows.has_more, head.direction, log_id
        )
        took = int((self._clock.elapsed() - started) * 1e6)
        self._sink.add(
            page_record(
                time=now,
                log_id=log_id,
                endpoint=head.endpoint,
                microseconds=took,
                peer=peer,
                client=grant.client_key,
                account=account.id,
                bound=bound,
                rows=count,
            )
        )
        if default_headers is not self._default_headers:  # uvicorn makes another list each second
            self._default_headers = default_headers
            self._defaults = b"".join([b"%b: %b\r\n" % field for field in default_headers])
        return _ANSWER % (self._defaults, len(page), log_id.encode(), _headers_of(quota_status), page)

    def send(self, transport: Transport, answer: bytes, loop: AbstractEventLoop) -> None:
        """Send a response at the end of the event loop's turn.

        A client that waits for several then wakes up once.
        """
        if not self.waiting:
            loop.call_soon(self.flush)
        self.waiting.append((transport, answer))

    def flush(self) -> None:
        """Send all waiting responses now."""
        waiting, self.waiting = self.waiting, []
        for transport, answer in waiting:
            if not transport.is_closing():  # writing would raise, and other clients are still waiting
                transport.write(answer)


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]


def _headers_of(quota_status: QuotaStatus) -> bytes:
    if quota_status.limit is None:
        return b""
    return _QUOTA_HEADERS % (quota_status.limit, quota_status.calls or 0, quota_status.reset)
