"""The management application: what operators ask, on a listener of its own, never on the public one."""

from importlib.metadata import version

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


def management_application(store: str) -> Starlette:
    """Health and version of one server."""

    async def health(_request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def about(_request: Request) -> JSONResponse:
        return JSONResponse({"version": version("retinue"), "store": store})

    return Starlette(routes=[Route("/health", health), Route("/version", about)])
