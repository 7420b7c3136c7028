"""Clients and their usage in the management API."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct, json
from starlette.requests import Request
from starlette.responses import Response

from retinue.access.clients import GRACE_SECONDS, ClientView, Registered, view_of
from retinue.model import ClientChange, RegisteredClient
from retinue.web.management import Handler, Management, answer, body_of

_CREATED = 201


class _Rotation(Struct, forbid_unknown_fields=True):
    """The body of a rotation."""

    grace_seconds: int = GRACE_SECONDS


def client_routes(management: Management) -> Mapping[str, Mapping[str, Handler]]:
    """Return handlers by path and method; all need the token."""
    return {
        "/clients": {"GET": _all(management), "POST": _create(management)},
        "/clients/{key}": {
            "GET": _one(management, lambda key, _body: management.clients.get(key)),
            "PATCH": _one(
                management, lambda key, body: management.clients.change(key, json.decode(body, type=ClientChange))
            ),
        },
        "/clients/{key}/rotate": {"POST": _rotate(management)},
        "/clients/{key}/suspend": {"POST": _one(management, lambda key, _body: management.clients.suspend(key))},
        "/clients/{key}/resume": {"POST": _one(management, lambda key, _body: management.clients.resume(key))},
        "/clients/{key}/revoke": {"POST": _one(management, lambda key, _body: management.clients.revoke(key))},
        "/usage": {"GET": _usage(management)},
    }


def _shown(management: Management, client: RegisteredClient) -> ClientView:
    return view_of(client, management.quotas.usage_today(client), management.clock.now())


def _with_secret(management: Management, registered: Registered) -> dict[str, Any]:
    """Return a client with its new secret, which no other response has."""
    seen = json.decode(json.encode(_shown(management, registered.client)))
    return {"client_key": registered.client.key, "client_secret": registered.secret, **seen}


def _all(management: Management) -> Handler:
    async def handler(_request: Request) -> Response:
        return answer([_shown(management, client) for client in await management.clients.all()])

    return handler


def _create(management: Management) -> Handler:
    async def handler(request: Request) -> Response:
        wanted = json.decode(await body_of(request), type=ClientChange)
        return answer(_with_secret(management, await management.clients.create(wanted)), _CREATED)

    return handler


def _one(management: Management, act: Callable[[str, bytes], Awaitable[RegisteredClient]]) -> Handler:
    async def handler(request: Request) -> Response:
        client = await act(request.path_params["key"], await body_of(request))
        return answer(_shown(management, client))

    return handler


def _rotate(management: Management) -> Handler:
    async def handler(request: Request) -> Response:
        rotation = json.decode(await body_of(request) or b"{}", type=_Rotation)
        registered = await management.clients.rotate(request.path_params["key"], rotation.grace_seconds)
        return answer(_with_secret(management, registered))

    return handler


def _usage(management: Management) -> Handler:
    async def handler(_request: Request) -> Response:
        day = f"{datetime.fromtimestamp(management.clock.now(), UTC):%Y-%m-%d}"
        used = {client.key: management.quotas.usage_today(client) for client in await management.clients.all()}
        return answer({"day": day, "clients": used})

    return handler
