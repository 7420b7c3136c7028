"""The fast path: requests for a list whose head is cached, answered without parsing, tasks or SQL.

Clients send the same head again and again; only the body changes. The ASGI path tells which heads may be cached. Pages,
unknown and private accounts and spent quotas are answered here; any other request leaves no trace and takes the ASGI
path. Both give the same bytes. Knows nothing of connections.
"""

import logging
from asyncio import AbstractEventLoop, Transport
from collections.abc import Iterable

from msgspec import Struct

from retinue import errors
from retinue.audit.record import Auditor, RequestContext, RequestOutcome, page_record
from retinue.clock import Clock
from retinue.following import page_request_of
from retinue.model import RESEARCH_SCOPE, Account, Direction, Pool, Query, TokenGrant
from retinue.quota.counters import QuotaStatus
from retinue.store.contract import EncodedRows, FastGraph
from retinue.web.heads import relevant_part, values_of
from retinue.web.replies import Headers, encode_reply, error_reply
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


class _Call(Struct, frozen=True, gc=False):
    """A request with a valid token. `started` is in seconds of `Clock.elapsed`."""

    head: Head
    query: Query
    grant: TokenGrant
    started: float
    now: int
    log_id: str
    peer: str
    default_headers: Headers


class FastPath:
    """Caches request heads, and answers requests that begin with them."""

    def __init__(
        self, graph: FastGraph, access: Access, auditor: Auditor, clock: Clock, log_ids: LogIds, proxies: TrustedProxies
    ) -> None:
        self._graph = graph
        self._cached_grant = access.authenticator.cached_grant
        self._quotas = access.quotas
        self._auditor = auditor
        # Logging each request takes longer than answering it.
        self._is_logging = _LOGGER.isEnabledFor(logging.INFO)
        self._clock = clock
        self._log_ids = log_ids
        self._proxies = proxies
        self._default_headers: object = None
        self._defaults = b""
        # Keyed by the bytes up to the empty line. None: no similar head was ever authorized.
        self.heads: dict[bytes, Head | None] = {}
        self.waiting: list[tuple[Transport, bytes]] = []

    def cache_head(self, packet: bytes, headers: Iterable[tuple[bytes, bytes]], direction: Direction) -> None:
        """Cache the head in a packet that holds exactly one request.

        The ASGI path has authorized it as a request for a list in this direction.
        """
        head, _, body = packet.partition(END_OF_HEAD)
        is_whole = values_of(headers, b"content-length") == [b"%d" % len(body)]
        if not is_whole or len(head) > MAX_HEAD_BYTES or values_of(headers, b"transfer-encoding"):
            return
        authorization = values_of(headers, b"authorization")
        forwarded_for = values_of(headers, b"x-forwarded-for") if self._proxies.networks else ()
        cached = Head(direction, direction.value, authorization[0], tuple(forwarded_for), len(body))
        self._store(relevant_part(head), cached)
        self._store(head, cached)

    def _store(self, head: bytes, cached: Head | None) -> None:
        if len(self.heads) >= MAX_HEADS:
            self.heads.clear()
        self.heads[head] = cached

    def _find_similar(self, head: bytes) -> Head | None:
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
        except errors.Refusal:
            return None
        except Exception:
            _LOGGER.exception("the fast path failed; the ASGI path answers")
            return None

    def answer(self, head: Head, body: bytes, host: str, default_headers: Headers) -> bytes | None:
        """Return the response, or None for the ASGI path."""
        started = self._clock.elapsed()
        grant = self._cached_grant(head.authorization, RESEARCH_SCOPE)
        query = parsing.read_plain_query(body)
        if grant is None or query is None or self._auditor.is_full or self._is_logging:
            return None
        now = self._clock.now()
        # Steps that may fail come before the charge: a request that takes the ASGI path is charged there.
        peer = self._proxies.address(host, head.forwarded_for)
        call = _Call(head, query, grant, started, now, self._log_ids.fresh(now), peer, default_headers)
        account = None
        try:
            account = self._graph.find_account_nowait(query.username)
            if account is None:
                return None
            request = page_request_of(account, query, head.direction, now)
            rows = self._graph.read_nowait(request)
            if rows is None or (not rows.count and grant.quota.list_rows is not None):
                return None  # an empty page would be served even after the rows of the quota are spent
            quota_status = self._quotas.charge(grant, _LISTS, rows.count)
        except (errors.UnknownAccount, errors.PrivateAccount, errors.WithheldAccount) as refusal:
            return self._refuse(call, account, refusal)
        if quota_status is None:
            return self._refuse(call, account, None)
        return self._page(call, account, request.bound, rows, quota_status)

    def _page(self, call: _Call, account: Account, bound: int, rows: EncodedRows, quota_status: QuotaStatus) -> bytes:
        head, log_id, count = call.head, call.log_id, rows.count
        page = rendering.joined_page_body(
            rows.text, rows.oldest - 1 if count else bound, rows.has_more, head.direction, log_id
        )
        self._auditor.sink.add(
            page_record(
                time=call.now,
                log_id=log_id,
                endpoint=head.endpoint,
                microseconds=int((self._clock.elapsed() - call.started) * 1e6),
                peer=call.peer,
                client=call.grant.client_key,
                account=account.id,
                bound=bound,
                rows=count,
            )
        )
        default_headers = call.default_headers
        if default_headers is not self._default_headers:  # uvicorn makes another list each second
            self._default_headers = default_headers
            self._defaults = b"".join([b"%b: %b\r\n" % field for field in default_headers])
        return _ANSWER % (self._defaults, len(page), log_id.encode(), _headers_of(quota_status), page)

    def _refuse(self, call: _Call, account: Account | None, refusal: errors.Refusal | None) -> bytes | None:
        """Return the error of the quota, or of the account, if any."""
        context = RequestContext(client=call.grant.client_key, is_list=True, bound=call.query.cursor)
        try:
            self._quotas.remaining_rows(call.grant, _LISTS, call.query.max_count)
        except (errors.RateLimitExceeded, errors.QuotaExceeded) as exceeded:
            refusal = exceeded
        else:
            context.name, context.account = call.query.username, None if account is None else account.id
        if refusal is None:
            return None
        reply = error_reply(refusal, call.log_id)
        answer = encode_reply(reply, call.default_headers)
        code, took = rendering.spec_of(refusal).code, int((self._clock.elapsed() - call.started) * 1e6)
        outcome = RequestOutcome(call.log_id, call.head.endpoint, reply.status, code, took, call.peer)
        self._auditor.record(context, outcome)
        return answer

    def send(self, transport: Transport, answer: bytes, loop: AbstractEventLoop) -> None:
        """Send a response at the end of the event loop's turn. A client that waits for several then wakes up once."""
        if not self.waiting:
            loop.call_soon(self.flush)
        self.waiting.append((transport, answer))

    def flush(self) -> None:
        """Send all waiting responses now."""
        waiting, self.waiting = self.waiting, []
        for transport, answer in waiting:
            if not transport.is_closing():  # writing would raise, and other clients are still waiting
                transport.write(answer)


def _headers_of(quota_status: QuotaStatus) -> bytes:
    if quota_status.limit is None:
        return b""
    return _QUOTA_HEADERS % (quota_status.limit, quota_status.calls or 0, quota_status.reset)
