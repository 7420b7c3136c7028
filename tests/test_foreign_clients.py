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
from researchtikpy import get_followers, get_following, get_users_info
from researchtikpy.get_access_token import get_access_token
from researchtikpy.social_graph import (
    extract_followers,
    extract_following,
    iter_followers_responses,
    iter_following_responses,
)
from tiktok_research_api import (
    QueryUserFollowersRequest,
    QueryUserFollowingRequest,
    QueryUserInfoRequest,
    TikTokResearchAPI,
)

import walk
from running import Client, create_client, running_server
from support.networks import Network

HOST = "open.tiktokapis.com"
LISTS = ("longest", "middling", "shortest")
INFO_FIELDS = {
    "display_name",
    "bio_description",
    "avatar_url",
    "is_verified",
    "follower_count",
    "following_count",
    "likes_count",
    "video_count",
}


@pytest.fixture(scope="module")
def tiktok(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server on a network, reachable under TikTok's name; a client registered with it."""
    folder = tmp_path_factory.mktemp("tiktok")
    store = network.imported(folder)
    authority = trustme.CA()
    certificate = authority.issue_cert(HOST)
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    (folder / "server.pem").chmod(0o600)
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


def owners_of(lists: walk.Lists) -> dict[str, str]:
    """The owner of the longest list, of one of a middling length and of the shortest."""
    lengths = {len(rows): owner for owner, rows in lists.items()}
    by_length = [lengths[length] for length in sorted(lengths)]
    return {"longest": by_length[-1], "middling": by_length[len(by_length) // 2], "shortest": by_length[0]}


@pytest.fixture(scope="module", params=LISTS)
def owner(request: pytest.FixtureRequest, network: Network) -> str:
    """The owner of a following list."""
    return owners_of(network.following)[request.param]


@pytest.fixture(scope="module", params=LISTS)
def followed(request: pytest.FixtureRequest, network: Network) -> str:
    """The owner of a follower list."""
    return owners_of(network.followers)[request.param]


def pairs(rows: list[dict[str, str]]) -> list[tuple[str, str]]:
    """Rows as (username, display_name)."""
    return [(row["username"], row["display_name"]) for row in rows]


@pytest.mark.parametrize("max_count", [None, 100])
def test_tiktoks_own_wrapper_collects_whole_lists(
    tiktok: Client, network: Network, owner: str, max_count: int | None
) -> None:
    """`query_user_following` with `fetch_all_pages` gets every row once, in order."""
    api = TikTokResearchAPI(tiktok.key, tiktok.secret, qps=100_000)
    request = QueryUserFollowingRequest(owner, max_count=max_count)

    rows, cursor, has_more = api.query_user_following(request, fetch_all_pages=True)

    assert network.following[owner] == pairs(rows)
    assert not has_more
    assert cursor >= 1


@pytest.mark.parametrize("max_count", [None, 100])
def test_tiktoks_own_wrapper_collects_whole_follower_lists(
    tiktok: Client, network: Network, followed: str, max_count: int | None
) -> None:
    """`query_user_followers` with `fetch_all_pages` gets every row once, in order."""
    api = TikTokResearchAPI(tiktok.key, tiktok.secret, qps=100_000)
    request = QueryUserFollowersRequest(followed, max_count=max_count)

    rows, _, has_more = api.query_user_followers(request, fetch_all_pages=True)

    assert network.followers[followed] == pairs(rows)
    assert not has_more


def test_tiktoks_own_wrapper_gets_user_info(tiktok: Client, network: Network, owner: str, followed: str) -> None:
    """`query_user_info` gets its default fields; the counts are the lengths of the lists with the hidden accounts."""
    for name in (owner, followed):
        info = TikTokResearchAPI(tiktok.key, tiktok.secret).query_user_info(QueryUserInfoRequest(name))

        assert INFO_FIELDS == info.keys()
        assert all(counter[name] == info[count] for count, counter in network.counts.items())


def test_tiktoks_own_wrapper_puts_fields_into_the_url_as_they_are(tiktok: Client, owner: str) -> None:
    """Also with spaces behind the commas."""
    request = QueryUserInfoRequest(owner, "bio_url, display_name , is_verified")

    info = TikTokResearchAPI(tiktok.key, tiktok.secret).query_user_info(request)

    assert ["bio_url", "display_name", "is_verified"] == list(info)


def test_tiktoks_own_wrapper_raises_on_refusals(tiktok: Client, caplog: pytest.LogCaptureFixture) -> None:
    """An unknown user is an error that the wrapper logs with our code, message and log_id."""
    api = TikTokResearchAPI(tiktok.key, tiktok.secret)

    with caplog.at_level(logging.ERROR):
        assert ([], None, False) == api.query_user_following(QueryUserFollowingRequest("nobody.there"), True)
        assert ([], None, False) == api.query_user_followers(QueryUserFollowersRequest("nobody.here"), True)
        assert api.query_user_info(QueryUserInfoRequest("nobody.anywhere")) is None

    for name in ("nobody.there", "nobody.here", "nobody.anywhere"):
        assert f"invalid_params: username {name} is invalid: cannot find the user (Log ID: 20" in caplog.text


def test_researchtikpy_collects_whole_lists(token: str, network: Network, owner: str) -> None:
    """`get_following` gets every row once, in order, as a data frame."""
    frame = get_following([owner], token, verbose=False)

    assert network.following[owner] == pairs(frame.to_dict("records"))
    assert {owner} == set(frame["target_account"])


def test_researchtikpys_iterator_collects_whole_lists(token: str, network: Network, owner: str) -> None:
    """`iter_following_responses` gets every row once, in order."""
    rows: list[dict[str, str]] = []
    for response in iter_following_responses(token, owner):
        with closing(response):
            rows += extract_following(response)

    assert network.following[owner] == pairs(rows)


def test_researchtikpy_collects_whole_follower_lists(token: str, network: Network, followed: str) -> None:
    """`get_followers` gets every row once, in order, as a data frame; no more than `total_count` where it is told."""
    expected = network.followers[followed]

    frame = get_followers([followed], token, verbose=False)
    first = get_followers([followed], token, max_count=7, total_count=9, verbose=False)

    assert expected == pairs(frame.to_dict("records"))
    assert {followed} == set(frame["target_account"])
    assert expected[:9] == pairs(first.to_dict("records"))


def test_researchtikpys_iterator_collects_whole_follower_lists(token: str, network: Network, followed: str) -> None:
    """`iter_followers_responses` gets every row once, in order."""
    rows: list[dict[str, str]] = []
    for response in iter_followers_responses(token, followed):
        with closing(response):
            rows += extract_followers(response)

    assert network.followers[followed] == pairs(rows)


def test_researchtikpy_gets_user_info(token: str, network: Network) -> None:
    """`get_users_info` gets a row for each user, and one with an error for who is unknown."""
    owners = list(owners_of(network.following).values())

    *found, unknown = get_users_info([*owners, "nobody.there"], token, verbose=False).to_dict("records")

    assert [network.counts["following_count"][owner] for owner in owners] == [info["following_count"] for info in found]
    assert found[0].keys() >= INFO_FIELDS
    assert ("nobody.there", "Failed to retrieve data") == (unknown["username"], unknown["error"])


def test_researchtikpy_raises_on_refusals(token: str, owner: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A refusal ends the user's collection with our message, and the next user goes on."""
    frame = get_following(["nobody.there", owner], token)

    assert {owner} == set(frame["target_account"])
    assert "username nobody.there is invalid: cannot find the user" in capsys.readouterr().out


def test_foreign_clients_contact_no_other_host(tiktok: Client, tmp_path: Path) -> None:
    """The fixture's name resolution knows TikTok's host alone."""
    with pytest.raises(OSError, match="not to be asked"):
        socket.create_connection(("example.org", 443))
