"""Any request gets JSON in one of the two error forms with a log_id, and never a 500."""

import asyncio
import http.client
import json
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, urlsplit

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from retinue.model import FollowEvent, FollowRecord
from retinue.store.open import open_store
from retinue.web.openapi import document
from retinue.wire.parsing import PROFILE_FIELDS
from running import fresh_token, running_server
from support.frozen_clock import FrozenClock
from support.random_requests import BODIES, HEADERS
from support.service import FOLLOWERS, FOLLOWING, INFO, TOKEN
from support.thorough import examples

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_700_000_000
LOG_ID = re.compile(r"\d{14}[0-9A-F]{20}")
PROFILE = f"{INFO}?fields=display_name,follower_count"
KEYS = {
    FOLLOWING: {"user_following", "cursor", "has_more"},
    FOLLOWERS: {"user_followers", "cursor", "has_more"},
    PROFILE: {"display_name", "follower_count"},
}

schema = schemathesis.openapi.from_dict(document())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Base URL and token of a running server with a list in its store."""
    store: Path = tmp_path_factory.mktemp("robust") / "graph.db"
    open_store(str(store)).create()
    with closing(open_store(str(store)).writer(FrozenClock())) as writer:
        pairs = [pair for n in range(200) for pair in (("0", f"f{n}"), (f"f{n}", "0"))]
        asyncio.run(writer.add_follows([FollowRecord(*pair, NOW - n, NOW) for n, pair in enumerate(pairs)]))
        asyncio.run(writer.apply([FollowEvent(*pair, NOW, is_follow=False) for pair in pairs[:20]], NOW))
    with running_server(store) as server:
        yield server.base_url, fresh_token(server, store)


@schema.include(path_regex="/research/").parametrize()
@settings(max_examples=examples(150), suppress_health_check=list(HealthCheck))
def test_responses_follow_the_openapi_document(case: "schemathesis.Case[Any]", served: tuple[str, str]) -> None:
    """Valid and invalid requests made of our own OpenAPI document get what the document says."""
    require_as_documented(case, served)


@schema.include(path_regex="/oauth/").parametrize()
@settings(max_examples=examples(20), suppress_health_check=list(HealthCheck))
def test_slow_failures_follow_the_openapi_document(case: "schemathesis.Case[Any]", served: tuple[str, str]) -> None:
    """The same where an answer to a wrong secret takes its time."""
    require_as_documented(case, served)


def require_as_documented(case: "schemathesis.Case[Any]", served: tuple[str, str]) -> None:
    """Send a request that schemathesis made; the answer must be one that the document has."""
    base_url, token = served
    response = case.call(base_url=base_url, headers={"Authorization": f"Bearer {token}"})

    # A well-formed request may still name an unknown account; the document does not say which exist. Whether a
    # malformed one was accepted is checked against the request that was sent: its mistake may be in a parameter that
    # is ignored, or in a header that every request here gets anyway.
    case.validate_response(response, excluded_checks=[positive_data_acceptance, negative_data_rejection])
    if response.status_code == 200:
        assert is_well_formed(
            case.operation.path, response.request.url or "", cast("str | bytes", response.request.body or b"")
        )
    if case.meta is not None and case.meta.generation.mode is schemathesis.GenerationMode.POSITIVE:
        words = ("cannot find the user", "Client key or secret is incorrect.")
        assert response.status_code == 200 or any(word in response.text for word in words), (
            response.request.body,
            response.text,
        )


def is_well_formed(path: str, url: str, body: str | bytes) -> bool:
    """Whether a request that was sent is one that the document allows."""
    operation = schema.raw_schema["paths"][path]["post"]
    forms = operation["requestBody"]["content"]
    content = body.encode() if isinstance(body, str) else body
    try:
        form, value = "application/json", json.loads(content)
    except ValueError:
        pairs = parse_qsl(content.decode(), keep_blank_values=True)
        form, value = "application/x-www-form-urlencoded", dict(pairs)
    fields = [name for key, value in parse_qsl(urlsplit(url).query) if key == "fields" for name in value.split(",")]
    is_asked_well = path != INFO or (bool(fields) and {name.strip() for name in fields} <= set(PROFILE_FIELDS))
    return is_asked_well and jsonschema_rs.is_valid(forms[form]["schema"], value)


def is_ours(status: int, headers: dict[str, str], content: bytes, path: str = FOLLOWING) -> bool:
    """Whether an answer has the path's form of success, or one of our two forms of refusals."""
    body: dict[str, Any] = json.loads(content)
    log_id = body["error"]["log_id"] if isinstance(body.get("error"), dict) else body.get("log_id", "")
    if status == 200:
        shape = {"data", "error"} == body.keys() and KEYS[path] == body["data"].keys()
    else:
        shape = body.get("data") == {} or {"error", "error_description", "log_id"} == body.keys()
    return (
        shape
        and headers["content-type"] == "application/json"
        and LOG_ID.fullmatch(log_id) is not None
        and headers["x-tt-logid"] == log_id
    )


def answer(base_url: str, sent: bytes) -> tuple[int, dict[str, str], bytes] | None:
    """Return the response to raw bytes, or None if the server waits for more."""
    address = urlsplit(base_url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(connection)
        try:
            response.begin()
        except (http.client.RemoteDisconnected, ConnectionResetError):
            return None
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, response.read()


@settings(max_examples=examples(1200))
@given(body=BODIES, path=st.sampled_from([*KEYS, TOKEN]))
def test_any_body_is_answered_in_our_form(served: tuple[str, str], body: bytes, path: str) -> None:
    """With a good token and a right path, whatever the body: a page or a refusal, never a fault of ours."""
    base_url, token = served
    head = f"POST {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"

    found = answer(base_url, head.encode() + body)

    assert found is not None
    assert found[0] in {200, 400, 401}
    assert is_ours(*found, path)


@settings(max_examples=examples(600))
@given(query=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=60))
def test_any_query_string_is_answered_in_our_form(served: tuple[str, str], query: str) -> None:
    """Lists do not mind what it holds; profiles want their fields in it."""
    base_url, token = served
    head = f"HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Length: 16\r\n\r\n"
    for path in (FOLLOWING, FOLLOWERS, INFO):
        found = answer(base_url, f"POST {path}?{query} {head}".encode() + b'{"username":"0"}')

        assert found is not None
        assert (400 if path == INFO else 200) == found[0]
        assert is_ours(*found, path)


@settings(max_examples=examples(600))
@given(
    method=st.sampled_from([b"POST", b"GET", b"OPTIONS", b"FOO", b""]) | st.binary(max_size=6),
    path=st.sampled_from([*map(str.encode, (*KEYS, TOKEN)), b"*", b"/%zz", b"/%ff", b"//", b""])
    | st.binary(max_size=20),
    headers=HEADERS,
    body=st.binary(max_size=50),
)
def test_any_bytes_are_answered_in_our_form(
    served: tuple[str, str], method: bytes, path: bytes, headers: bytes, body: bytes
) -> None:
    """Any bytes get JSON in our form, or a closed connection, and never a 500."""
    found = answer(served[0], method + b" " + path + b" HTTP/1.1\r\n" + headers + b"\r\n" + body)

    if found is not None:
        assert found[0] in {400, 401, 404, 405, 413}
        assert is_ours(*found)
