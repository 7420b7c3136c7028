"""The management application answers and records whatever it is sent; and which names it has."""

import asyncio
import json
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retinue.access.management_token import ManagementToken
from retinue.clock import VirtualClock
from retinue.errors import InputError
from retinue.faults import SHARED_BYTES, SharedFaults
from retinue.ingest.apply import ApplyResult, apply_body
from retinue.web.management import Management, management_application
from retinue.web.management_clients import client_routes
from retinue.web.management_front import Hosts, ManagementApplication, host_names
from retinue.web.request_log import PathWords
from support.service import Service

GOOD = "x" * 43
DEEP = b"[" * 200_000
KEYS = ("now", "advance", "name", "profile", "grace_seconds", "list_calls", "rate", "seed", "event", "not_before")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["hostile", "😀"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)
BODIES = (
    st.binary(max_size=30)
    | st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4).map(lambda value: json.dumps(value).encode())
    | st.sampled_from([DEEP, b'{"a":' * 100_000, b'"\\ud800"', b"1" * 5000, b'{"name":"\\ud800"}', b"\xff", b""])
)
PATHS = st.sampled_from(
    [
        *("/clock", "/faults", "/events", "/clients", "/clients/{key}", "/clients/{key}/rotate", "/clients/nobody"),
        *("/clients/{key}/suspend", "/metrics", "/usage", "/health", "/nowhere", "*", "//", "/%00", "/clients/%ff"),
    ]
)


def no_metrics() -> bytes:
    """Return a page of metrics with nothing on it."""
    return b""


def application_of(service: Service, metrics: Callable[[], bytes] = no_metrics) -> ManagementApplication:
    """Return the management application of a sandbox, on a store, in this process."""

    async def apply(body: bytes) -> ApplyResult:
        return await apply_body(service.writer, body, service.clock.now())

    async def ready() -> str:
        return ""

    management = Management(
        service.store,
        ManagementToken(GOOD.encode()),
        service.clients,
        service.public.access.quotas,
        VirtualClock(memoryview(bytearray(8))),
        service.public.log_ids,
        service.public.auditor,
        apply,
        ready,
        metrics,
        Hosts(["proxy.example"]),
        SharedFaults(memoryview(bytearray(SHARED_BYTES))),
    )
    return management_application(management, client_routes(management))


@pytest.fixture
def application(service: Service) -> ManagementApplication:
    """The application, of which nothing fails."""
    return application_of(service)


def asked(
    application: ManagementApplication, method: str, path: str, body: bytes, host: str = "localhost"
) -> tuple[int, str, Any]:
    """Return status, log_id and content of an answer to a request with the token."""
    sent: list[Any] = []
    headers = [(b"host", host.encode()), (b"authorization", b"Bearer " + GOOD.encode())]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b"", "root_path": ""}

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(application({**scope, "raw_path": path.encode(), "client": ("127.0.0.1", 1)}, receive, send))
    fields = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    content = b"".join(message["body"] for message in sent[1:])
    is_json = fields.get("content-type") == "application/json"
    return sent[0]["status"], fields["x-tt-logid"], json.loads(content) if is_json else content


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "OPTIONS", "DELETE"]), path=PATHS, body=BODIES)
def test_requests_never_fail_and_changes_are_recorded(
    service: Service, application: ManagementApplication, method: str, path: str, body: bytes
) -> None:
    """No body with the right token gets a 500, and the record has the log_id of the response."""
    service.records.clear()

    status, log_id, content = asked(application, method, path.replace("{key}", service.client_key), body)

    assert status in {200, 201, 400, 404, 405}
    assert status < 400 or {"code", "message"} == set(content["error"])
    recorded = [(record.log_id, record.status) for record in service.records]
    assert recorded == ([] if method == "GET" and status == 200 else [(log_id, status)])


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/faults"), ("POST", "/clock"), ("POST", "/clients"), ("PATCH", "/clients/{key}")]
)
def test_deep_json_is_bad_input(service: Service, application: ManagementApplication, method: str, path: str) -> None:
    """As on the public port."""
    for body in (DEEP, b'{"a":' * 100_000, b'{"name":' + DEEP):
        status, _, content = asked(application, method, path.replace("{key}", service.client_key), body)

        assert (400, "invalid_params") == (status, content["error"]["code"])


def test_internal_errors_are_answered_and_recorded(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """With the log_id under which the traceback is in the log, and without a word of what it was."""

    def broken() -> bytes:
        raise ZeroDivisionError

    status, log_id, content = asked(application_of(service, broken), "GET", "/metrics", b"")

    assert (500, "internal_error") == (status, content["error"]["code"])
    assert "ZeroDivision" not in content["error"]["message"]
    assert [(log_id, 500, "internal_error")] == [(each.log_id, each.status, each.code) for each in service.records]
    assert [f"log_id={log_id}"] == [record.getMessage() for record in caplog.records if record.exc_info]


# --- names ----------------------------------------------------------------------------------------------------------

LOOPBACK = st.integers(0, 2**24 - 1).map(lambda number: str(IPv4Address(0x7F000000 + number)))
FOREIGN = st.from_regex(
    r"[a-z0-9-]{1,9}(\.[a-z0-9-]{1,9}){0,3}\.(example|local|localhost\.com)\.?", fullmatch=True
).filter(lambda name: not name.startswith("proxy.example")) | st.sampled_from(
    ["10.0.0.1", "[2001:db8::1]", "[::ffff:10.0.0.1]", "[::]", "128.0.0.1", "localhost_"]
)


@given(address=LOOPBACK, port=st.sampled_from(["", ":", ":80", ":8643"]))
def test_every_loopback_address_is_a_name_of_the_listener(address: str, port: str) -> None:
    """With any port, as a tunnel has another one."""
    for name in (address, "localhost", "LocalHost.", "[::1]", f"[::ffff:{address}]", "proxy.example"):
        assert Hosts(["proxy.example"]).has(f"{name}{port}".encode())


@given(name=FOREIGN, port=st.sampled_from(["", ":8643"]))
def test_other_names_are_not_names_of_the_listener(name: str, port: str) -> None:
    """Not even one that begins or ends with a name of the listener, nor another address of the machine."""
    for host in (name, f"localhost.{name}", f"127.0.0.1.{name}", f"localhost@{name}", f"localhost:80:{name}"):
        assert not Hosts(["proxy.example"]).has(f"{host}{port}".encode())


def test_a_foreign_host_header_is_refused(service: Service, application: ManagementApplication) -> None:
    """It is refused for any path, also with the token; a configured name is accepted."""
    for path in ("/health", "/clients", "/nowhere"):
        status, _, content = asked(application, "GET", path, b"", "evil.example:8643")
        assert (421, "invalid_params") == (status, content["error"]["code"])
        assert content["error"]["message"].startswith("Host evil.example:8643: not a name of this listener")
    assert [421] * 3 == [record.status for record in service.records]
    assert 200 == asked(application, "GET", "/clients", b"", "proxy.example")[0]


@pytest.mark.parametrize("text", ["http://x", "x:80", "a b", "x,,y", "\x1b[1m", "*", "x/y"])
def test_an_invalid_host_name_prevents_the_start(text: str) -> None:
    """The message names it, printable."""
    with pytest.raises(InputError, match=r"^--management-hosts '[ -~]*': expected a host name or address") as caught:
        host_names(text)
    assert str(caught.value).isprintable()


WORDS = ["v2", "research", "user", "following", "oauth", "token"]


@given(words=st.lists(st.sampled_from(WORDS) | st.text(max_size=8), max_size=6))
def test_logged_paths_contain_only_known_words(words: list[str]) -> None:
    """A token or a name may stand anywhere in a path."""
    paths = PathWords(["/v2/research/user/following/", "/v2/oauth/token/"])

    shown = paths.redact("/" + "/".join(words)).split("/")

    assert set(shown) <= {"", "...", "-", "*", *WORDS}
    assert "..." not in shown[:-1]


def test_a_client_reaches_the_listener_by_its_address(application: ManagementApplication) -> None:
    """A client that knows nothing of names sends the address as Host."""

    async def ask() -> int:
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8643") as client:
            return (await client.get("/health")).status_code

    assert 200 == asyncio.run(ask())
