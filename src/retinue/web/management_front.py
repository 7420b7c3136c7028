"""The front of the management API: it answers and records every request.

Successful reads are not recorded, because monitoring sends many. While the audit log cannot be written, requests that
would need a record are refused.
"""

import asyncio
import logging
import re
from collections.abc import Iterable
from ipaddress import ip_address

from msgspec import Struct, json

from retinue import errors
from retinue.audit.record import Auditor, RequestContext, RequestOutcome
from retinue.clock import Clock
from retinue.web import heads
from retinue.web.replies import Asgi, Headers, Message, Receive, Reply, Scope, Send, refusal_headers, send_reply
from retinue.web.request_log import LogIds, PathWords
from retinue.wire import rendering

CODES = {
    401: "access_token_invalid",
    404: "unsupported_path",
    405: "unsupported_path",
    499: "client_gone",
    500: "internal_error",
    503: "internal_error",
}
OTHER_CODE = "invalid_params"

_FULL = "The audit log cannot be written, and nothing is done that is not recorded."
_READS = frozenset({"GET", "HEAD"})
_FIRST_ERROR = 400
_UNAVAILABLE = 503
_GONE = 499
_UNREAD = {"method": "-", "path": "-", "headers": ()}
_PORT = re.compile(r":[0-9]{0,5}\Z")
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")
_LOCAL = "localhost"
_LOGGER = logging.getLogger("retinue.web")


class Hosts:
    """The allowed names: localhost, loopback addresses, configured names; with any port.

    A guard against DNS rebinding: a web page may resolve its own name to 127.0.0.1 and send requests to the listener as
    to its own server. The browser still sends the page's name as Host.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset(names) | {_LOCAL}

    def has(self, host: bytes) -> bool:
        """Return whether a Host header is allowed. Browsers always send one."""
        name = _PORT.sub("", host.decode("latin-1").lower())
        return not host or name.removesuffix(".") in self._names or is_loopback(name)


def host_names(text: str) -> tuple[str, ...]:
    """Return the names in `--management-hosts`. Raises `InputError`."""
    names = tuple(part.strip().lower() for part in text.split(",")) if text.strip() else ()
    for name in names:
        if not _NAME.fullmatch(name):
            raise errors.InputError(
                f"--management-hosts {name!a}: expected a host name or address, without scheme and port"
            )
    return names


def is_loopback(name: str) -> bool:
    """Return whether a host name or address is this machine's loopback."""
    if name == _LOCAL:
        return True
    try:
        address = ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


class ManagementApplication(Struct, frozen=True):
    """The ASGI application of the management listener. `api` does the work, `words` are those of its paths."""

    api: Asgi
    words: PathWords
    hosts: Hosts
    clock: Clock
    log_ids: LogIds
    auditor: Auditor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as an ASGI application."""
        started, log_id = self.clock.elapsed(), self.log_ids.fresh()
        try:
            reply = await self._reply(scope, receive)
        except errors.Refusal as refusal:
            reply = _refused(refusal)
        except asyncio.CancelledError:  # the server is stopping, and has waited long enough for this request
            reply = _refused(errors.Overloaded())
        except Exception:
            _LOGGER.exception("log_id=%s", log_id)
            reply = _refused(errors.InternalFault())
        self._record(scope, log_id, reply.status, started)
        await send_reply(send, _with_log_id(reply, log_id))

    def refuse(self, scope: Scope, refusal: errors.Refusal) -> Reply:
        """Return the response to a request that is refused unread."""
        started, log_id = self.clock.elapsed(), self.log_ids.fresh()
        reply = _refused(refusal)
        self._record({**_UNREAD, **scope}, log_id, reply.status, started)
        return _with_log_id(reply, log_id)

    def gone(self, scope: Scope) -> None:
        """Record a request whose client disconnected before it was answered."""
        self._record(scope, self.log_ids.fresh(), _GONE, self.clock.elapsed())

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        headers = scope["headers"]
        if name := heads.repeated(headers):
            raise errors.RepeatedHeader(name)
        host = heads.first_value(headers, b"host")
        if not self.hosts.has(host):
            raise errors.MisdirectedRequest(host.decode("latin-1"))
        if self.auditor.is_full and scope["method"] not in _READS:
            return _reply_of(_UNAVAILABLE, failure_body("internal_error", _FULL), [(b"retry-after", b"1")])
        return await _collected(self.api, scope, receive)

    def _record(self, scope: Scope, log_id: str, status: int, started: float) -> None:
        method, path = scope["method"], scope["path"]
        is_done = status < _FIRST_ERROR
        if self.auditor.is_full or (method in _READS and (is_done or status == _UNAVAILABLE)):
            return
        context = RequestContext()
        context.action = f"{method} {path if is_done else self.words.redact(path)}"
        code = "ok" if is_done else CODES.get(status, OTHER_CODE)
        peer = (scope.get("client") or ("",))[0]
        microseconds = int((self.clock.elapsed() - started) * 1e6)
        self.auditor.record(context, RequestOutcome(log_id, "management", status, code, microseconds, peer))


def failure_body(code: str, message: str) -> bytes:
    """Return the body of an error."""
    return json.encode({"error": {"code": code, "message": message}})


def _refused(refusal: errors.Refusal) -> Reply:
    spec = rendering.spec_of(refusal)
    body = failure_body(spec.code, rendering.message_of(refusal))
    return _reply_of(spec.status, body, refusal_headers(refusal, spec))


def _reply_of(status: int, body: bytes, headers: Headers) -> Reply:
    usual = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    return Reply(status, [*usual, *headers], body)


def _with_log_id(reply: Reply, log_id: str) -> Reply:
    return Reply(reply.status, [*reply.headers, (b"x-tt-logid", log_id.encode())], reply.body)


async def _collected(api: Asgi, scope: Scope, receive: Receive) -> Reply:
    started: Message = {"status": 500, "headers": []}
    body = b""

    async def collect(message: Message) -> None:
        nonlocal started, body
        if message["type"] == "http.response.start":
            started = message
        else:
            body += message.get("body", b"")

    await api(scope, receive, collect)
    return Reply(started["status"], list(started["headers"]), body)
