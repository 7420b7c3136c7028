"""Clients and their usage in the management API."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from msgspec import Struct, json
from starlette.requests import Request
from starlette.responses import Response

from retinue.access.clients import GRACE_SECONDS, ClientView, Registered, view_of
from retinue.model import ClientChange, RegisteredClient
from retinue.web.management import Handler, Management, answer, body_of


class _Rotation(Struct, forbid_unknown_fields=True):
    grace_seconds: int = GRACE_SECONDS


def client_routes(management: Management) -> Mapping[str, Mapping[str, Handler]]:
    """Return handlers by path and method; all need the token."""
    clients = management.clients

    def act(acting: Callable[[str, bytes], Awaitable[RegisteredClient]]) -> Handler:
        return partial(_act, management, acting)

    return {
        "/clients": {"GET": partial(_all, management), "POST": partial(_create, management)},
        "/clients/{key}": {
            "GET": act(lambda key, _body: clients.get(key)),
            "PATCH": act(lambda key, body: clients.change(key, json.decode(body, type=ClientChange))),
        },
        "/clients/{key}/rotate": {"POST": partial(_rotate, management)},
        "/clients/{key}/suspend": {"POST": act(lambda key, _body: clients.suspend(key))},
        "/clients/{key}/resume": {"POST": act(lambda key, _body: clients.resume(key))},
        "/clients/{key}/revoke": {"POST": act(lambda key, _body: clients.revoke(key))},
        "/usage": {"GET": partial(_usage, management)},
    }


def _shown(management: Management, client: RegisteredClient) -> ClientView:
    return view_of(client, management.quotas.usage_today(client), management.clock.now())


def _with_secret(management: Management, registered: Registered) -> dict[str, Any]:
    """Return a client with its new secret, which no other response has."""
    seen = json.decode(json.encode(_shown(management, registered.client)))
    return {"client_key": registered.client.key, "client_secret": registered.secret, **seen}


async def _all(management: Management, _request: Request) -> Response:
    return answer([_shown(management, client) for client in await management.clients.all()])


async def _create(management: Management, request: Request) -> Response:
    wanted = json.decode(await body_of(request), type=ClientChange)
    return answer(_with_secret(management, await management.clients.create(wanted)), 201)


async def _act(
    management: Management, act: Callable[[str, bytes], Awaitable[RegisteredClient]], request: Request
) -> Response:
    client = await act(request.path_params["key"], await body_of(request))
    return answer(_shown(management, client))


async def _rotate(management: Management, request: Request) -> Response:
    rotation = json.decode(await body_of(request) or b"{}", type=_Rotation)
    registered = await management.clients.rotate(request.path_params["key"], rotation.grace_seconds)
    return answer(_with_secret(management, registered))


async def _usage(management: Management, _request: Request) -> Response:
    day = f"{datetime.fromtimestamp(management.clock.now(), UTC):%Y-%m-%d}"
    used = {client.key: management.quotas.usage_today(client) for client in await management.clients.all()}
    return answer({"day": day, "clients": used})
