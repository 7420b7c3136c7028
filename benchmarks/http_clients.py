"""What a page costs the one who asks for it, by HTTP library: processor time of this process alone.

A generated graph is served, and one page of 100 rows is asked for again and again: over one connection by libraries
that block, over several at once by those for event loops. Nothing is decoded. What it was chosen by: `docs/why.md`.
"""

import argparse
import asyncio
import http.client
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from urllib.parse import urlsplit

import aiohttp
import httpcore
import httpx

from graphs import Size, generated
from process_tree import require_cores
from running import Failed, Server, fresh_token, running_server

SERVER_CORE = 0
CONNECTIONS = 16
WARM_UP = 64
_NAME = "test_user"

Ask = Callable[[], bytes]
AskLater = Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Page:
    """What is asked for."""

    url: str
    body: bytes
    headers: Mapping[str, str]


def main() -> int:
    """Serve, ask, report; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4_000)
    requests = parser.parse_args().requests
    try:
        require_cores(SERVER_CORE)
        graph = generated(Size(1_000, 100_000))
        store = graph / "graph.db"
        with running_server(store, "--workers", "1", core=SERVER_CORE) as server:
            page = _page(server, fresh_token(server, store))
            _blocking(page, requests)
            asyncio.run(_at_once(page, requests))
    except Failed as failure:
        sys.stderr.write(f"http_clients: {failure}\n")
        return 1
    return 0


def _page(server: Server, token: str) -> Page:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = json.dumps({"username": _NAME, "max_count": 100}).encode()
    return Page(server.list_url("followers"), body, headers)


def _blocking(page: Page, requests: int) -> None:
    parts = urlsplit(page.url)
    with ExitStack() as opened:
        standard = http.client.HTTPConnection(parts.hostname or "", parts.port)
        opened.callback(standard.close)
        core, whole = opened.enter_context(httpcore.ConnectionPool()), opened.enter_context(httpx.Client())
        headers = dict(page.headers)
        pairs = list(headers.items())

        def by_standard() -> bytes:
            standard.request("POST", parts.path, page.body, headers)
            return standard.getresponse().read()

        asks: dict[str, Ask] = {
            "http.client": by_standard,
            "httpcore": lambda: core.request("POST", page.url, headers=pairs, content=page.body).content,
            "httpx": lambda: whole.post(page.url, headers=headers, content=page.body).content,
        }
        for name, ask in asks.items():
            for _ in range(WARM_UP):
                _check(ask())
            before, began = time.process_time(), time.perf_counter()
            for _ in range(requests):
                ask()
            _print(name, "blocking", requests, time.process_time() - before, time.perf_counter() - began)


async def _at_once(page: Page, requests: int) -> None:
    headers = dict(page.headers)
    pairs = list(headers.items())
    async with AsyncExitStack() as opened:
        session = await opened.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS))
        )
        core = await opened.enter_async_context(httpcore.AsyncConnectionPool(max_connections=CONNECTIONS))
        limits = httpx.Limits(max_connections=CONNECTIONS)
        whole = await opened.enter_async_context(httpx.AsyncClient(limits=limits))

        async def by_aiohttp() -> bytes:
            async with session.post(page.url, data=page.body, headers=headers) as response:
                return await response.read()

        async def by_core() -> bytes:
            return (await core.request("POST", page.url, headers=pairs, content=page.body)).content

        async def by_httpx() -> bytes:
            return (await whole.post(page.url, headers=headers, content=page.body)).content

        asks: dict[str, AskLater] = {"aiohttp": by_aiohttp, "httpcore": by_core, "httpx": by_httpx}
        for name, ask in asks.items():
            await _many(ask, WARM_UP)
            before, began = time.process_time(), time.perf_counter()
            await _many(ask, requests)
            _print(name, "at once", requests, time.process_time() - before, time.perf_counter() - began)


async def _many(ask: AskLater, requests: int) -> None:
    async def work() -> None:
        for _ in range(requests // CONNECTIONS):
            _check(await ask())

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))


def _check(answer: bytes) -> None:
    if not answer.startswith(b'{"data":{"user_'):
        raise Failed(f"no page: {answer[:200]!r}")


def _print(name: str, how: str, requests: int, used: float, seconds: float) -> None:
    edition = "" if name == "http.client" else version(name)
    cost, pace = used / requests * 1e6, requests / seconds
    print(f"{name:12}{edition:10}{how:10}{cost:>8,.0f} us of CPU a page{pace:>9,.0f} pages a second")


if __name__ == "__main__":
    sys.exit(main())
