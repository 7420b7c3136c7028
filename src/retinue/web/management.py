"""The management application: what operators ask, on a listener of its own, never on the public one.

Health and version are open to whoever reaches the listener; what changes the graph needs the management token.
"""

from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from typing import Any

from msgspec import json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from retinue.access.management import ManagementToken
from retinue.errors import StoreUnavailable
from retinue.ingest.live import Outcome
from retinue.store.base import AccessStore

MAX_EVENTS_BYTES = 8 * 1024 * 1024
RETRY_SECONDS = 1

_CODES = {401: "access_token_invalid", 404: "unsupported_path", 405: "unsupported_path", 413: "invalid_params"}
_NO_TOKEN = "The management token is absent or wrong."  # noqa: S105 - a message
_TOO_LONG = f"The body is longer than {MAX_EVENTS_BYTES} bytes; send the events in parts."

ApplyEvents = Callable[[bytes], Awaitable[Outcome]]


def management_application(
    store: str, access: AccessStore, token: ManagementToken, apply_events: ApplyEvents
) -> Starlette:
    """Health and version of one server, and events for its graph."""

    async def health(_request: Request) -> Response:
        try:
            await access.find_client("")
        except StoreUnavailable:
            return JSONResponse({"status": "store unavailable"}, status_code=503)
        return JSONResponse({"status": "ok"})

    async def about(_request: Request) -> Response:
        return JSONResponse({"version": version("retinue"), "store": store})

    async def events(request: Request) -> Response:
        if not token.is_in(request.headers.get("authorization", "").encode("latin-1")):
            raise HTTPException(401, _NO_TOKEN, {"WWW-Authenticate": "Bearer"})
        outcome = await apply_events(await _body(request))
        return Response(json.encode(outcome), media_type="application/json")

    return Starlette(
        routes=[Route("/health", health), Route("/version", about), Route("/events", events, methods=["POST"])],
        exception_handlers=_HANDLERS,
    )


async def _body(request: Request) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > MAX_EVENTS_BYTES:
        raise HTTPException(413, _TOO_LONG)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_EVENTS_BYTES:
            raise HTTPException(413, _TOO_LONG)
    return bytes(body)


def _refused(_request: Request, error: HTTPException) -> Response:
    code = _CODES.get(error.status_code, "invalid_params")
    return _failure(error.status_code, code, error.detail, error.headers)


def _unavailable(_request: Request, error: StoreUnavailable) -> Response:
    message = f"The store is out of reach or busy: {error.detail}"
    return _failure(503, "internal_error", message, {"Retry-After": str(RETRY_SECONDS)})


def _gone(_request: Request, _error: ClientDisconnect) -> Response:
    return Response(status_code=400)  # nobody is there to read it


def _fault(_request: Request, _error: Exception) -> Response:
    return _failure(500, "internal_error", "Something failed that should not; the server's log has more.", None)


def _failure(status: int, code: str, message: str, headers: Mapping[str, str] | None) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


_HANDLERS: dict[Any, Any] = {
    HTTPException: _refused,
    StoreUnavailable: _unavailable,
    ClientDisconnect: _gone,
    Exception: _fault,
}
