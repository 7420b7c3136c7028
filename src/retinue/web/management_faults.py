"""Faults in the management API, for all workers of a sandbox."""

from collections.abc import Mapping

from msgspec import DecodeError, json, structs
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from retinue import faults
from retinue.errors import InputError
from retinue.faults import Faults, SharedFaults
from retinue.web.management import Handler, answer, body_of

_NO_SANDBOX = "There are no faults on purpose; only `retinue serve --sandbox` has them."


def fault_routes(shared: SharedFaults | None) -> Mapping[str, Mapping[str, Handler]]:
    """Return handlers by path and method; `shared` is None without a sandbox."""

    async def show(_request: Request) -> Response:
        return answer(_shown(_required(shared)))

    async def put(request: Request) -> Response:
        required = _required(shared)
        required.put(_read(await body_of(request), required.standing.faults.seed))
        return answer(_shown(required))

    return {"/faults": {"GET": show, "PUT": put}}


def _required(shared: SharedFaults | None) -> SharedFaults:
    if shared is None:
        raise HTTPException(404, _NO_SANDBOX)
    return shared


def _shown(shared: SharedFaults) -> dict[str, object]:
    standing = shared.standing.faults
    return {"profile": faults.profile_of(standing), **structs.asdict(standing)}


def _read(body: bytes, seed: int) -> Faults:
    try:
        values = json.decode(body, type=dict[str, object])
    except DecodeError as error:
        raise InputError(f"faults: expected a JSON object: {error}") from None
    named = values.pop("profile", None)
    return faults.changed(faults.profile("documented" if named is None else str(named), seed=seed), values)
