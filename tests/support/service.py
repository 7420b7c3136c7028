"""Retinue in one process for tests: a real store, the real application, a clock that stands still."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from retinue import wiring
from retinue.audit.record import Auditor, AuditRecord
from retinue.model import AccountRecord, ClientChange, Event, FollowRecord, Visibility
from retinue.store.contract import Decision, GraphReader, Verdict
from retinue.store.open import open_store
from retinue.store.sqlite.graph import SqliteGraph
from retinue.store.sqlite.served_graph import SqliteServedGraph
from retinue.web.asgi import Application
from retinue.wire import rendering
from support.frozen_clock import FrozenClock

FOLLOWING = "/v2/research/user/following/"
FOLLOWERS = "/v2/research/user/followers/"
INFO = "/v2/research/user/info/"
TOKEN = "/v2/oauth/token/"


class Records(list[AuditRecord]):
    """An audit sink that keeps all records, unless it is told that it is full."""

    is_full = False

    def add(self, record: AuditRecord) -> None:
        """Take a record."""
        self.append(record)


async def _at_once() -> None:
    """No pause at all."""


class Service:
    """A store with the application on top, asked without a socket."""

    def __init__(self, store: Path, clock: FrozenClock) -> None:
        self.store = str(store)
        self.clock = clock
        opened = open_store(self.store)
        opened.create()
        self.writer = opened.writer(clock)
        self.graph = opened.served_graph(clock, rendering.ROW_ENCODING, cache_mib=8)
        self.access = opened.access()
        self.counters = opened.quotas()
        self.clients = wiring.clients(self.access, clock)
        self.authenticator = wiring.authenticator(self.access, clock)
        self.records = Records()
        self.pauses: list[float] = []
        self.pause: Callable[[], Awaitable[Any]] = _at_once
        self.public = wiring.Public(
            wiring.gated(self.access, self.counters, clock, self._pause),
            Auditor(self.records, asyncio.run(self.access.audit_checkpoint()).secret, clock),
            clock,
            wiring.log_ids(clock),
        )
        self.application = self.application_on(self.graph)
        self.fast_path = wiring.fast_path(self.graph, self.public)
        self.client_key, self.secret = self.register()
        self.token = self.fresh_token()

    @property
    def sqlite_connection(self) -> Any:
        """The connection that reads the graph, for tests that look at statements."""
        return self.slow_graph.connection

    @property
    def slow_graph(self) -> SqliteGraph[bytes]:
        """The slow twin of the graph."""
        assert isinstance(self.graph, SqliteServedGraph)
        return self.graph.graph

    def application_on(self, graph: GraphReader[bytes]) -> Application:
        """The application, on a graph of the test's own."""
        return wiring.public_application(graph, self.public)

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await self.pause()

    def register(self, **wanted: Any) -> tuple[str, str]:
        """A new client's key and secret."""
        registered = asyncio.run(self.clients.create(ClientChange(**{"name": "test", **wanted})))
        return registered.client.key, registered.secret

    def fresh_token(self) -> str:
        """A new token of the service's own client."""
        return asyncio.run(self._issue())

    async def _issue(self) -> str:
        return await self.authenticator.issue_token(await self.authenticator.authenticate(self.client_key, self.secret))

    def add_account(
        self, username: str, display_name: str = "", visibility: Visibility = Visibility.PUBLIC, **profile: Any
    ) -> None:
        """Create or change an account."""
        record = AccountRecord(username, display_name=display_name, visibility=visibility, **profile)
        asyncio.run(self.writer.add_accounts([record], self.clock.now()))

    def follow(self, follower: str, *followees: tuple[str, int]) -> Sequence[Verdict]:
        """Store the follows of one account in the given order."""
        return self.add_follows(*((follower, followee, at) for followee, at in followees))

    def add_follows(self, *follows: tuple[str, str, int]) -> Sequence[Verdict]:
        """Store (follower, followee, second) in the given order."""
        now = self.clock.now()
        records = [FollowRecord(follower, followee, at, now) for follower, followee, at in follows]
        return asyncio.run(self.writer.add_follows(records))

    def apply(self, *events: Event) -> Sequence[Decision]:
        """Apply events, which name accounts by key."""
        return asyncio.run(self.writer.apply(events, self.clock.now()))

    def post(self, path: str, content: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
        """One POST."""
        return self.request("POST", path, content, headers or {})

    def ask(self, body: Any, path: str = FOLLOWING) -> httpx.Response:
        """One query with a good token, for a following list unless told. A dict goes out as JSON, bytes as they are."""
        content = body if isinstance(body, bytes) else httpx.Request("POST", "http://x", json=body).content
        return self.post(path, content, {"Authorization": f"Bearer {self.token}"})

    def request(self, method: str, path: str, content: bytes, headers: dict[str, str]) -> httpx.Response:
        """One request."""

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.application)
            async with httpx.AsyncClient(transport=transport, base_url="http://retinue") as client:
                return await client.request(method, path, content=content, headers=headers)

        return asyncio.run(send())

    def close(self) -> None:
        """Close the store's files."""
        for part in (self.writer, self.graph, self.access, self.counters):
            part.close()


def problems_of(store: str | Path) -> list[str]:
    """Return the problems that `check` finds in a store."""

    async def examine() -> list[str]:
        checker = open_store(str(store)).checker(FrozenClock(), rendering.ROW_ENCODING)
        try:
            return [problem async for problem in checker.problems()]
        finally:
            checker.close()

    return asyncio.run(examine())
