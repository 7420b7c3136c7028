"""The management application: what operators ask, on a listener of its own, never on the public one."""

from importlib.metadata import version

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from retinue.errors import StoreUnavailable
from retinue.store.base import AccessStore


def management_application(store: str, access: AccessStore) -> Starlette:
    """Health and version of one server."""

    async def health(_request: Request) -> JSONResponse:
        try:
            await access.find_client("")
        except StoreUnavailable:
            return JSONResponse({"status": "store unavailable"}, status_code=503)
        return JSONResponse({"status": "ok"})

    async def about(_request: Request) -> JSONResponse:
        return JSONResponse({"version": version("retinue"), "store": store})

    return Starlette(routes=[Route("/health", health), Route("/version", about)])
