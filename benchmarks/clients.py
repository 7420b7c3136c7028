"""Pages a second of `retinue collect`, and CPU time of HTTP libraries."""

import asyncio
import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpcore
import httpx

from running import Failed, Server, create_client, fresh_token, on_cores, retinue, running_server
from scenario import CLIENT_CORE, SERVER_CORE, Report, Scenario
from workload import Size, cached, generated

# --- retinue collect -------------------------------------------------------------------------------------------------

FOLLOWEES = 10_000
_FIRST_SECOND = 1_500_000_000


@dataclass(frozen=True, slots=True)
class CollectOptions:
    """The number of lists of 100 pages, and of concurrent reads."""

    owners: int = 1_000
    concurrency: int = 16


def measure_collect(options: CollectOptions) -> Report:
    """Let `retinue collect` read lists of 100 pages on one core."""
    graph = cached(f"lists-{options.owners}-{FOLLOWEES}", lambda folder: _make_lists(folder, options.owners))
    access = create_client(graph / "graph.db")
    environment = {"RETINUE_CLIENT_KEY": access.key, "RETINUE_CLIENT_SECRET": access.secret}
    with running_server(graph / "graph.db", "--workers", "1", core=SERVER_CORE) as server:
        return _collect(graph, server, environment, options.concurrency)


def _collect(graph: Path, server: Server, environment: dict[str, str], concurrency: int) -> Report:
    folder = graph / "collection"
    shutil.rmtree(folder, ignore_errors=True)
    names = ("--usernames", str(graph / "names.txt"), "-o", str(folder))
    limits = ("--concurrency", str(concurrency), "--calls-per-day", "10000000")
    command = [sys.executable, "-m", "retinue", "collect", *names, "--server", server.base_url, *limits]
    process = subprocess.Popen(on_cores(CLIENT_CORE, command), env=os.environ | environment)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Failed(f"retinue collect ended with exit code {process.returncode}")
    seconds, mebibytes = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    print(f"processor time {seconds:.1f} s, most memory {mebibytes:.0f} MiB, tables included")
    print(retinue("collect", "verify", folder), end="")
    return Report({"cpu_seconds": seconds, "max_mebibytes": mebibytes})


def _make_lists(folder: Path, owners: int) -> None:
    names = [f"owner{number:04}" for number in range(owners)]
    (folder / "names.txt").write_text("\n".join(names))
    with (folder / "follows.csv").open("w") as file:
        file.write("follower,followee,followed_at\n")
        for name in names:
            file.writelines(f"{name},account.{rank},{_FIRST_SECOND + 60 * rank}\n" for rank in range(FOLLOWEES))
    retinue("import", "--store", folder / "graph.db", folder / "follows.csv")
    (folder / "follows.csv").unlink()


# --- HTTP libraries --------------------------------------------------------------------------------------------------

CONNECTIONS = 16
WARM_UP = 64
_NAME = "test_user"

Ask = Callable[[], bytes]
AskLater = Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """The number of requests of each library."""

    requests: int = 4_000


@dataclass(frozen=True, slots=True)
class Page:
    """The request for a page."""

    url: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Cost:
    """A library's CPU microseconds a page, and pages a second."""

    library: str
    way: str
    cpu_microseconds: float
    pages_per_second: float


def measure_http(options: HttpOptions) -> Report:
    """Ask for one page of 100 rows repeatedly: over one connection by blocking libraries, over 16 by the others."""
    store = generated(Size(1_000, 100_000)) / "graph.db"
    with running_server(store, "--workers", "1", core=SERVER_CORE) as server:
        page = _page(server, fresh_token(server, store))
        costs = [*_blocking(page, options.requests), *asyncio.run(_concurrent(page, options.requests))]
    for each in costs:
        pace = f"{each.cpu_microseconds:>8,.0f} us of CPU a page{each.pages_per_second:>9,.0f} pages a second"
        print(f"{each.library:22}{each.way:12}{pace}")
    return Report({"costs": [asdict(each) for each in costs]})


def _page(server: Server, token: str) -> Page:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = json.dumps({"username": _NAME, "max_count": 100}).encode()
    return Page(server.list_url("followers"), body, headers)


def _blocking(page: Page, requests: int) -> list[Cost]:
    parts = urlsplit(page.url)
    costs: list[Cost] = []
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
            costs.append(_cost(name, "blocking", requests, before, began))
    return costs


async def _concurrent(page: Page, requests: int) -> list[Cost]:
    headers = dict(page.headers)
    pairs = list(headers.items())
    costs: list[Cost] = []
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
            costs.append(_cost(name, "concurrent", requests, before, began))
    return costs


async def _many(ask: AskLater, requests: int) -> None:
    async def work() -> None:
        for _ in range(requests // CONNECTIONS):
            _check(await ask())

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))


def _check(answer: bytes) -> None:
    if not answer.startswith(b'{"data":{"user_'):
        raise Failed(f"no page: {answer[:200]!r}")


def _cost(library: str, way: str, requests: int, before: float, began: float) -> Cost:
    """Return the cost of requests since two instants, in seconds."""
    name = library if library == "http.client" else f"{library} {version(library)}"
    used, seconds = time.process_time() - before, time.perf_counter() - began
    return Cost(name, way, used / requests * 1e6, requests / seconds)


SCENARIOS: Mapping[str, Scenario[Any]] = {
    "collect": Scenario(measure_collect, CollectOptions(), CollectOptions(owners=2)),
    "http": Scenario(measure_http, HttpOptions(), HttpOptions(requests=64), cores=1),
}
