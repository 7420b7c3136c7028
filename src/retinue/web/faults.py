"""Fault injection: an ASGI application in front of the public one.

`retinue/faults.py` draws the fault of a call. A fault that costs quota changes the response of the real application;
other faults do not call it. So the audit log records a changed call as it was charged, but not a call that was lost
without a charge.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Struct, json, structs

from retinue import errors
from retinue.access.authentication import Authenticator
from retinue.clock import Clock
from retinue.faults import Failure, FaultInjector, InjectedFaults
from retinue.following import Following
from retinue.model import RESEARCH_SCOPE, TOKEN_SECONDS, Direction, Query, Row
from retinue.web.asgi import Application, whole_message
from retinue.web.heads import first_value
from retinue.web.replies import DISCONNECT, Headers, Message, Receive, Reply, Scope, Send, send_reply
from retinue.web.routes import LIST_PATHS, PROFILE_PATH, REVOKE_PATH, TOKEN_PATH
from retinue.wire import parsing, rendering

_LOGGER = logging.getLogger("retinue.web")
_OK = 200
_FIRST_ERROR = 400
_LIST_KEYS = {Direction.FOLLOWING: "user_following", Direction.FOLLOWERS: "user_followers"}
_DIRECTIONS = {path: direction for direction, path in LIST_PATHS.items()}
_OAUTH = frozenset({TOKEN_PATH, REVOKE_PATH})
_AFFECTED_PATHS = _OAUTH | {PROFILE_PATH, *_DIRECTIONS}

_SWALLOWED = (Failure.GATEWAY_TIMEOUT, Failure.CLOSED_CONNECTION)
_HTML = (
    b"<html>\r\n<head><title>504 Gateway Time-out</title></head>\r\n<body>504 Gateway Time-out</body>\r\n</html>\r\n"
)
_GATEWAY_TIMEOUT = Reply(504, [(b"content-type", b"text/html"), (b"content-length", b"%d" % len(_HTML))], _HTML)


class _Call(Struct, frozen=True):
    """A call with a fault; only lists have a `direction`."""

    scope: Scope
    message: Message
    injected: InjectedFaults
    direction: Direction | None
    is_oauth: bool

    async def receive(self) -> Message:
        """Return the body in one ASGI message."""
        return self.message


class FaultyApplication(Struct, frozen=True):
    """Answers like the public application, except for drawn faults."""

    application: Application
    following: Following[bytes]
    authenticator: Authenticator
    clock: Clock
    injector: FaultInjector
    pause: Callable[[float], Awaitable[None]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as an ASGI application."""
        path = scope["path"].removesuffix("/") + "/"
        injected = self.injector.next() if scope["method"] == "POST" and path in _AFFECTED_PATHS else None
        if injected is None:
            await self.application(scope, receive, send)
            return
        try:
            # Closing a connection with unread bytes resets it, which may lose the response.
            call = _Call(scope, await whole_message(receive), injected, _DIRECTIONS.get(path), path in _OAUTH)
            await self.pause(injected.faults.delay_seconds)
            reply = await self._reply(call)
        except asyncio.CancelledError:  # the server is stopping and does not wait for delays
            reply = self.application.refuse(scope, errors.Overloaded())
        except Exception:
            _LOGGER.exception("fault injection failed")
            reply = self.application.refuse(scope, errors.InternalFault())
        if reply is not None:
            await _send_damaged(scope, injected.failure, reply, send)

    async def _reply(self, call: _Call) -> Reply | None:
        """Return the response; None if the client disconnected."""
        failure = call.injected.failure
        if failure in _SWALLOWED:
            if call.injected.faults.failures_cost_quota:
                await self._answer(call)
            return _GATEWAY_TIMEOUT
        refusal = await self._refusal(call)
        reply = await self._answer(call) if refusal is None else self._refused(call, refusal)
        if reply is None:
            return None
        if failure is Failure.SERVER_ERROR:
            reply = _server_error(reply, is_oauth=call.is_oauth)
        if call.is_oauth and reply.status >= _FIRST_ERROR and call.injected.faults.token_errors_with_200:
            reply = Reply(_OK, reply.headers, reply.body)
        return reply

    async def _refusal(self, call: _Call) -> errors.Refusal | None:
        """Return the error to raise before the application is called, if any."""
        faults, failure = call.injected.faults, call.injected.failure
        if failure is Failure.SERVER_ERROR and not faults.failures_cost_quota:
            return errors.InternalFault()
        if call.is_oauth:
            return None
        try:
            age = await self._age_of_token(call.scope["headers"])
        except errors.Refusal:
            return None  # the application returns the error
        if failure is Failure.REFUSED_TOKEN or age < faults.fresh_token_seconds:
            return errors.InvalidToken()
        if failure is Failure.RATE_LIMIT:
            return errors.RateLimitExceeded(None, faults.retry_after_seconds)
        return errors.QuotaExceeded(None, 0, 0) if faults.quota_spent else None

    async def _age_of_token(self, headers: Headers) -> int:
        grant = await self.authenticator.authorize(first_value(headers, b"authorization"), RESEARCH_SCOPE)
        return self.clock.now() - (grant.expires_at - TOKEN_SECONDS)

    def _refused(self, call: _Call, refusal: errors.Refusal) -> Reply:
        reply = self.application.refuse(call.scope, refusal)
        if isinstance(refusal, errors.RateLimitExceeded) and not refusal.reset:
            return structs.replace(reply, headers=_without(reply.headers, b"retry-after"))
        return reply

    async def _answer(self, call: _Call) -> Reply | None:
        """Return the application's response, maybe changed, maybe to another query."""
        if call.direction is None:
            return await self.application.reply(call.scope, call.receive)
        query = _query_in(call.message)
        if query is None:
            return await self.application.reply(call.scope, call.receive)
        body = json.encode(_changed_query(query, call.injected))
        instead = structs.replace(call, message={**call.message, "body": body})
        reply = await self.application.reply(call.scope, instead.receive)
        if reply is None or reply.status != _OK:
            return reply
        try:
            return await self._changed(reply, query, call.direction, call.injected)
        except errors.Refusal as refusal:  # the account was erased or hidden since the first lookup
            return self._refused(call, refusal)

    async def _changed(self, reply: Reply, query: Query, direction: Direction, injected: InjectedFaults) -> Reply:
        content, key = json.decode(reply.body), _LIST_KEYS[direction]
        data: dict[str, Any] = content["data"]
        if injected.faults.list_end_rows:
            left = await self._rows_before_end(data[key], query, direction, injected.faults.list_end_rows)
            if left <= len(data[key]):
                data[key], data["has_more"] = data[key][:left], False
        if injected.is_stuck and data["has_more"]:
            now = self.clock.now()
            data["cursor"] = now if query.cursor is None else min(query.cursor, now)
        if injected.faults.missing_empty_lists and not data[key]:
            del data[key]
        return _with_body(reply, json.encode(content))

    async def _rows_before_end(self, rows: list[Any], query: Query, direction: Direction, end: int) -> int:
        """Return how many rows of a page are among the newest `end`."""
        if not rows:
            return 0
        account = await self.following.account(query.username)
        first_page = structs.replace(query, max_count=end, cursor=None)
        shown = (await self.following.page(account, first_page, direction)).rows
        newest = [row.username for row in json.decode(b"[%b]" % b",".join(shown), type=list[Row])]
        first = rows[0]["username"]
        return end - newest.index(first) if first in newest else 0


async def _send_damaged(scope: Scope, failure: Failure | None, reply: Reply, send: Send) -> None:
    if failure is Failure.BROKEN_BODY:
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        half = reply.body[: len(reply.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
    elif failure is not Failure.CLOSED_CONNECTION:
        await send_reply(send, reply)
        return
    scope["extensions"][DISCONNECT]["call"]()


# --- requests -------------------------------------------------------------------------------------------------------


def _query_in(message: Message) -> Query | None:
    if message["type"] == "http.disconnect" or message.get("more_body", False):
        return None
    try:
        return parsing.read_query(message["body"])
    except errors.Refusal:
        return None


def _changed_query(query: Query, injected: InjectedFaults) -> Query:
    """Rewrite the query: its correct answer is the faulty answer. So the cursor stays exact."""
    max_count = max(1, int(query.max_count * injected.fullness))
    return structs.replace(query, max_count=max_count, cursor=None if injected.is_repeated else query.cursor)


# --- replies --------------------------------------------------------------------------------------------------------


def _server_error(reply: Reply, *, is_oauth: bool) -> Reply:
    """Replace a response by an internal error with the same log_id."""
    log_id = first_value(reply.headers, b"x-tt-logid").decode()
    body = (rendering.oauth_error_body if is_oauth else rendering.error_body)(errors.InternalFault(), log_id)
    kept = [field for field in reply.headers if field[0] in {b"content-type", b"content-length", b"x-tt-logid"}]
    return _with_body(Reply(rendering.ERRORS[errors.InternalFault].status, kept, body), body)


def _with_body(reply: Reply, body: bytes) -> Reply:
    length = (b"content-length", b"%d" % len(body))
    return Reply(reply.status, [*_without(reply.headers, b"content-length"), length], body)


def _without(headers: Headers, name: bytes) -> Headers:
    return [field for field in headers if field[0] != name]
