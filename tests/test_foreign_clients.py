"""Other people's clients, unmodified: TikTok's own Python wrapper and ResearchTikPy collect whole lists.

Both have `open.tiktokapis.com` built in. In the test that name resolves to a local TLS listener whose certificate
comes from an authority made for the test; the packages' code is not touched.
"""

import logging
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from researchtikpy import get_following
from researchtikpy.get_access_token import get_access_token
from researchtikpy.social_graph import extract_following, iter_following_responses
from tiktok_research_api import QueryUserFollowingRequest, TikTokResearchAPI

import nostr
from running import Client, create_client, running_server

pytestmark = nostr.present

HOST = "open.tiktokapis.com"
BIG_LIST = 5_413


@pytest.fixture(scope="module")
def tiktok(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server on the real graph, reachable under TikTok's name; a client registered with it."""
    folder = tmp_path_factory.mktemp("tiktok")
    store = nostr.imported(folder)
    authority = trustme.CA()
    certificate = authority.issue_cert(HOST)
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    client = create_client(store)
    tls = ("--tls-cert", folder / "server.pem", "--tls-key", folder / "server.pem")
    with running_server(store, *tls) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", str(folder / "authority.pem"))
        patch.setattr(socket, "getaddrinfo", resolver(urlsplit(server.base_url).port or 0))
        yield client


def resolver(port: int) -> Any:
    """A name resolution in which TikTok's host is the local listener, and no other host is anywhere."""
    real = socket.getaddrinfo

    def getaddrinfo(host: str | bytes | None, service: Any, *rest: Any, **named: Any) -> Any:
        if host == HOST:
            return real("127.0.0.1", port, *rest, **named)
        raise socket.gaierror(f"{host!r} is not to be asked")

    return getaddrinfo


@pytest.fixture(scope="module")
def token(tiktok: Client) -> str:
    """A token, fetched with ResearchTikPy."""
    token: str = get_access_token(tiktok.key, tiktok.secret)["access_token"]
    return token


def owners() -> list[str]:
    """The owner of the longest list, of a middling one and of a short one."""
    lists = sorted(nostr.expected_lists().items(), key=lambda item: len(item[1]))
    if not lists:
        return ["absent"]
    assert BIG_LIST == len(lists[-1][1])
    return [lists[-1][0], lists[len(lists) // 2][0], lists[0][0]]


def pairs(rows: list[dict[str, str]]) -> list[tuple[str, str]]:
    """Rows as (username, display_name)."""
    return [(row["username"], row["display_name"]) for row in rows]


@pytest.mark.parametrize("owner", owners())
@pytest.mark.parametrize("max_count", [None, 100])
def test_tiktoks_own_wrapper_collects_whole_lists(tiktok: Client, owner: str, max_count: int | None) -> None:
    """`query_user_following` with `fetch_all_pages` gets every row once, in order."""
    api = TikTokResearchAPI(tiktok.key, tiktok.secret, qps=100_000)
    request = QueryUserFollowingRequest(owner, max_count=max_count)

    rows, cursor, has_more = api.query_user_following(request, fetch_all_pages=True)

    assert nostr.expected_lists()[owner] == pairs(rows)
    assert not has_more
    assert cursor >= 1


def test_tiktoks_own_wrapper_hears_of_refusals(tiktok: Client, caplog: pytest.LogCaptureFixture) -> None:
    """An unknown user is an error that the wrapper logs with our code, message and log_id."""
    api = TikTokResearchAPI(tiktok.key, tiktok.secret)

    with caplog.at_level(logging.ERROR):
        assert ([], None, False) == api.query_user_following(QueryUserFollowingRequest("nobody.there"), True)

    assert "invalid_params: username nobody.there is invalid: cannot find the user (Log ID: 20" in caplog.text


@pytest.mark.parametrize("owner", owners())
def test_researchtikpy_collects_whole_lists(token: str, owner: str) -> None:
    """`get_following` gets every row once, in order, as a data frame."""
    frame = get_following([owner], token, verbose=False)

    assert nostr.expected_lists()[owner] == pairs(frame.to_dict("records"))
    assert {owner} == set(frame["target_account"])


@pytest.mark.parametrize("owner", owners())
def test_researchtikpys_iterator_collects_whole_lists(token: str, owner: str) -> None:
    """`iter_following_responses` gets every row once, in order."""
    rows: list[dict[str, str]] = []
    for response in iter_following_responses(token, owner):
        with closing(response):
            rows += extract_following(response)

    assert nostr.expected_lists()[owner] == pairs(rows)


def test_researchtikpy_hears_of_refusals(token: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A refusal ends the user's collection with our message, and the next user goes on."""
    frame = get_following(["nobody.there", owners()[2]], token)

    assert {owners()[2]} == set(frame["target_account"])
    assert "username nobody.there is invalid: cannot find the user" in capsys.readouterr().out


def test_no_other_host_is_asked(tiktok: Client, tmp_path: Path) -> None:
    """The fixture's name resolution knows TikTok's host alone."""
    with pytest.raises(OSError, match="not to be asked"):
        socket.create_connection(("example.org", 443))
