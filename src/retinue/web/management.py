"""The management API: Starlette routes for operators, on a listener of its own.

Health, readiness and version are open to all clients; the rest needs the management token. `management_front.py`
calls it and records requests.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

from msgspec import DecodeError, Struct, json, structs
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from retinue import faults
from retinue.access.authentication import BASIC_HINT, is_basic
from retinue.access.clients import Clients
from retinue.access.management_token import ManagementToken
from retinue.access.quotas import Quotas
from retinue.audit.record import Auditor
from retinue.clock import Clock, VirtualClock
from retinue.errors import InputError, NoSuchClient, StoreUnavailable
from retinue.faults import SharedFaults
from retinue.ingest.apply import ApplyResult
from retinue.web.management_front import CODES, OTHER_CODE, Hosts, ManagementApplication, failure_body
from retinue.web.request_log import LogIds, PathWords

MAX_EVENTS_BYTES = 8 * 1024 * 1024
RETRY_SECONDS = 1
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_NO_TOKEN = "The management token is absent or wrong."  # noqa: S105 - a message
_TOO_LONG = f"The body is longer than {MAX_EVENTS_BYTES} bytes; send the events in parts."

Handler = Callable[[Request], Awaitable[Response]]


class Management(Struct, frozen=True):
    """The dependencies of the management API.

    `ready` returns why the server cannot answer; empty if it can. Only a sandbox has `faults`.
    """

    store: str
    token: ManagementToken
    clients: Clients
    quotas: Quotas
    clock: Clock
    log_ids: LogIds
    auditor: Auditor
    apply_events: Callable[[bytes], Awaitable[ApplyResult]]
    ready: Callable[[], Awaitable[str]]
    metrics: Callable[[], bytes]
    hosts: Hosts = Hosts()
    faults: SharedFaults | None = None


def management_application(
    management: Management, more_routes: Mapping[str, Mapping[str, Handler]]
) -> ManagementApplication:
    """Return the application. `more_routes` has handlers that need the token, by path and method."""
    guarded: dict[str, Mapping[str, Handler]] = {
        "/events": {"POST": partial(_events, management)},
        "/metrics": {"GET": partial(_metrics, management)},
        "/clock": dict.fromkeys(("GET", "POST"), partial(_clock, management)),
        "/faults": dict.fromkeys(("GET", "PUT"), partial(_faults, management)),
        **more_routes,
    }
    open_to_all: dict[str, Handler] = {
        "/health": _health,
        "/ready": partial(_ready, management),
        "/version": partial(_version, management),
    }
    api = Starlette(
        routes=[
            *(Route(path, handler) for path, handler in open_to_all.items()),
            *(Route(path, _by_method(management.token, of), methods=list(of)) for path, of in guarded.items()),
        ],
        exception_handlers=_HANDLERS,
    )
    api.router.redirect_slashes = False
    words = PathWords([*open_to_all, *guarded])
    return ManagementApplication(api, words, management.hosts, management.clock, management.log_ids, management.auditor)


async def body_of(request: Request) -> bytes:
    """Return the body of a request. Raises `HTTPException` if it is too long."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > MAX_EVENTS_BYTES:
        raise HTTPException(413, _TOO_LONG)
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_EVENTS_BYTES:
            raise HTTPException(413, _TOO_LONG)
    return bytes(body)


def answer(value: Any, status: int = 200) -> Response:
    """Return a value as JSON."""
    return Response(json.encode(value), status, media_type="application/json")


# --- handlers -------------------------------------------------------------------------------------------------------


def _by_method(token: ManagementToken, handlers: Mapping[str, Handler]) -> Handler:
    async def handler(request: Request) -> Response:
        authorization = request.headers.get("authorization", "").encode("latin-1")
        if not token.is_in(authorization):
            message = f"{_NO_TOKEN} {BASIC_HINT}" if is_basic(authorization) else _NO_TOKEN
            raise HTTPException(401, message, {"WWW-Authenticate": "Bearer"})
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return handler


async def _health(_request: Request) -> Response:
    return answer({"status": "ok"})


async def _ready(management: Management, _request: Request) -> Response:
    reason = await management.ready()
    return answer({"status": reason or "ready"}, 503 if reason else 200)


async def _version(management: Management, _request: Request) -> Response:
    return answer({"version": version("retinue"), "store": management.store})


async def _events(management: Management, request: Request) -> Response:
    outcome = await management.apply_events(await body_of(request))
    return answer(outcome.report())


async def _metrics(management: Management, _request: Request) -> Response:
    return Response(management.metrics(), media_type=METRICS_TYPE)


class _Setting(Struct, forbid_unknown_fields=True):
    """A change of the clock, to a second or by some seconds."""

    now: int | None = None
    advance: int | None = None


async def _clock(management: Management, request: Request) -> Response:
    clock = management.clock
    if request.method == "POST":
        if not isinstance(clock, VirtualClock):
            raise HTTPException(404, "The clock is the machine's; only `retinue serve --sandbox` has one to set.")
        setting = json.decode(await body_of(request), type=_Setting)
        clock.advance(_seconds_ahead(setting, clock.now()))
    return answer({"now": clock.now(), "is_virtual": isinstance(clock, VirtualClock)})


def _seconds_ahead(setting: _Setting, now: int) -> int:
    if (setting.now is None) == (setting.advance is None):
        raise InputError("clock: give `now` (a Unix second) or `advance` (seconds)")
    seconds = setting.advance if setting.advance is not None else (setting.now or 0) - now
    if seconds < 0:
        raise InputError(f"clock: goes forward only; it is {now} now")
    if now + seconds > _LAST_SECOND:
        raise InputError(f"clock: expected at most {_LAST_SECOND}")
    return seconds


_LAST_SECOND = 253_402_300_799 - 366 * 86_400  # log_ids have four digits for the year


async def _faults(management: Management, request: Request) -> Response:
    shared = management.faults
    if shared is None:
        raise HTTPException(404, "Fault injection is not available; start the server with --sandbox.")
    if request.method == "PUT":
        shared.set(_read_faults(await body_of(request), shared.active.faults.seed))
    active = shared.active.faults
    return answer({"profile": faults.profile_name(active), **structs.asdict(active)})


def _read_faults(body: bytes, seed: int) -> faults.Faults:
    try:
        values = json.decode(body, type=dict[str, object])
    except DecodeError as error:
        raise InputError(f"faults: expected a JSON object: {error}") from None
    named = values.pop("profile", None)
    return faults.with_values(faults.profile("documented" if named is None else str(named), seed=seed), values)


# --- errors ---------------------------------------------------------------------------------------------------------


async def _refused(_request: Request, error: HTTPException) -> Response:
    return _failure(error.status_code, error.detail, error.headers)


async def _bad_input(_request: Request, error: Exception) -> Response:
    return _failure(400, "body: nested too deeply" if isinstance(error, RecursionError) else str(error))


async def _no_such_client(_request: Request, error: NoSuchClient) -> Response:
    return Response(failure_body(OTHER_CODE, str(error)), 404, media_type="application/json")


async def _unavailable(_request: Request, error: StoreUnavailable) -> Response:
    message = f"The store is out of reach or busy: {error.detail}"
    return _failure(503, message, {"Retry-After": str(RETRY_SECONDS)})


async def _gone(_request: Request, _error: ClientDisconnect) -> Response:
    return Response(status_code=499)  # nothing receives it; the status is recorded


def _failure(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    body = failure_body(CODES.get(status, OTHER_CODE), message)
    return Response(body, status, headers, media_type="application/json")


_HANDLERS: dict[Any, Any] = {
    HTTPException: _refused,
    NoSuchClient: _no_such_client,
    StoreUnavailable: _unavailable,
    ClientDisconnect: _gone,
    **dict.fromkeys((InputError, DecodeError, UnicodeDecodeError, RecursionError), _bad_input),
}
