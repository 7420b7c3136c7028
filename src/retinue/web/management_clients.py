"""Clients over the management listener: register, show, change, rotate, suspend, resume, revoke; and what they used."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct, json
from starlette.requests import Request
from starlette.responses import Response

from retinue.access.clients import GRACE_SECONDS, Registered, Shown, shown
from retinue.model import Client, ClientChange
from retinue.web.management import Handler, Management, answer, body_of

_CREATED = 201


class _Rotation(Struct, forbid_unknown_fields=True):
    """How to rotate a secret."""

    grace_seconds: int = GRACE_SECONDS


def client_routes(house: Management) -> Mapping[str, Mapping[str, Handler]]:
    """Handlers by path and method; all need the token."""
    return {
        "/clients": {"GET": _all(house), "POST": _create(house)},
        "/clients/{key}": {
            "GET": _one(house, lambda key, _body: house.clients.get(key)),
            "PATCH": _one(house, lambda key, body: house.clients.change(key, json.decode(body, type=ClientChange))),
        },
        "/clients/{key}/rotate": {"POST": _rotate(house)},
        "/clients/{key}/suspend": {"POST": _one(house, lambda key, _body: house.clients.suspend(key))},
        "/clients/{key}/resume": {"POST": _one(house, lambda key, _body: house.clients.resume(key))},
        "/clients/{key}/revoke": {"POST": _one(house, lambda key, _body: house.clients.revoke(key))},
        "/usage": {"GET": _usage(house)},
    }


def _shown(house: Management, client: Client) -> Shown:
    return shown(client, house.quotas.used_today(client), house.clock.now())


def _with_secret(house: Management, registered: Registered) -> dict[str, Any]:
    """A client with its new secret: the only answer that ever has it."""
    seen = json.decode(json.encode(_shown(house, registered.client)))
    return {"client_key": registered.client.key, "client_secret": registered.secret, **seen}


def _all(house: Management) -> Handler:
    async def handler(_request: Request) -> Response:
        return answer([_shown(house, client) for client in await house.clients.all()])

    return handler


def _create(house: Management) -> Handler:
    async def handler(request: Request) -> Response:
        wanted = json.decode(await body_of(request), type=ClientChange)
        return answer(_with_secret(house, await house.clients.create(wanted)), _CREATED)

    return handler


def _one(house: Management, act: Callable[[str, bytes], Awaitable[Client]]) -> Handler:
    async def handler(request: Request) -> Response:
        client = await act(request.path_params["key"], await body_of(request))
        return answer(_shown(house, client))

    return handler


def _rotate(house: Management) -> Handler:
    async def handler(request: Request) -> Response:
        rotation = json.decode(await body_of(request) or b"{}", type=_Rotation)
        registered = await house.clients.rotate(request.path_params["key"], rotation.grace_seconds)
        return answer(_with_secret(house, registered))

    return handler


def _usage(house: Management) -> Handler:
    async def handler(_request: Request) -> Response:
        day = f"{datetime.fromtimestamp(house.clock.now(), UTC):%Y-%m-%d}"
        used = {client.key: house.quotas.used_today(client) for client in await house.clients.all()}
        return answer({"day": day, "clients": used})

    return handler
