"""The client address behind trusted proxies."""

import asyncio
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retinue.audit.record import Auditor
from retinue.errors import InputError
from retinue.web.asgi import Application, Request, Route
from retinue.web.request_log import LogIds
from retinue.web.trusted_proxies import Address, TrustedProxies, trusted_networks
from support.frozen_clock import FrozenClock
from support.service import Records

TRUSTED = trusted_networks("10.0.0.0/8, 192.0.2.7,fd00::/8 , ::1,::ffff:198.51.100.0/120")
PROXIES = ["10.0.0.1", "10.255.255.255", "192.0.2.7", "198.51.100.9", "fd00::1", "::1"]
PEERS = TrustedProxies(TRUSTED)


def is_trusted(address: Address) -> bool:
    """Whether one of the networks above has it."""
    return any(address in network for network in TRUSTED)


@st.composite
def spelled(draw: st.DrawFn, addresses: st.SearchStrategy[str]) -> tuple[str, str]:
    """An address, and one of the ways in which proxies write it."""
    address = draw(addresses)
    if ":" in address:
        ways = [address, f"[{address}]", f"[{address}]:8080", IPv6Address(address).exploded, address.upper()]
    else:
        ways = [address, f"{address}:8080", f"::ffff:{address}", f"[::FFFF:{address}]:1"]
    return address, draw(st.sampled_from(ways))


ADDRESSES = st.ip_addresses().filter(lambda address: getattr(address, "ipv4_mapped", None) is None)
CLIENTS = spelled(ADDRESSES.filter(lambda address: not is_trusted(address)).map(str))
CHAINS = st.lists(st.tuples(spelled(st.sampled_from(PROXIES)), st.booleans()), max_size=4)
FORGED = st.lists(
    st.lists(
        st.sampled_from([proxy.encode() for proxy in [*PROXIES, "8.8.8.8", "unknown", "", "::ffff:9.9.9.9", "[::1"]])
        | st.binary(max_size=8),
        max_size=4,
    ).map(b",".join),
    max_size=3,
)


@given(client=CLIENTS, chain=CHAINS, forged=FORGED)
def test_a_client_cannot_choose_its_address(
    client: tuple[str, str], chain: list[tuple[tuple[str, str], bool]], forged: list[bytes]
) -> None:
    """Through any chain of trusted proxies its own address counts, whatever it wrote into the header itself.

    Each proxy adds whom it was asked by, to the last header or as another one.
    """
    headers = list(forged)
    asked_by = client
    for proxy, adds_a_header in chain:
        if adds_a_header or not headers:
            headers.append(asked_by[1].encode())
        else:
            headers[-1] += b", " + asked_by[1].encode()
        asked_by = proxy

    assert client[0] == PEERS.address(asked_by[0], headers)


@given(direct=ADDRESSES.map(str), forged=FORGED)
def test_forwarded_for_is_ignored_without_trusted_proxies(direct: str, forged: list[bytes]) -> None:
    """The other end of the connection does; IPv4 that comes through IPv6 is IPv4."""
    assert direct == TrustedProxies().address(direct, forged)
    if isinstance(ip_address(direct), IPv4Address):
        assert direct == TrustedProxies().address(f"::ffff:{direct}", forged) == PEERS.address(f"::ffff:{direct}", [])


@pytest.mark.parametrize(
    ("direct", "forwarded_for", "expected"),
    [
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [b""], "10.0.0.1"),
        ("10.0.0.1", [b"10.0.0.3,10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", [b"10.0.0.4", b"10.0.0.3,10.0.0.2"], "10.0.0.4"),
        ("10.0.0.1", [b"8.8.8.8, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [b"8.8.8.8, unknown"], "10.0.0.1"),
        ("10.0.0.1", [b"8.8.8.8,"], "10.0.0.1"),
        ("10.0.0.1", [b"8.8.8.8\t"], "8.8.8.8"),
        ("10.0.0.1", [b"2001:DB8:0::1"], "2001:db8::1"),
        ("10.0.0.1", [b"fe80::1%evil"], "10.0.0.1"),
        ("10.0.0.1", [b"8.8.8.8:x"], "10.0.0.1"),
        ("10.0.0.1", [b"1.1.1.1", b"8.8.8.8:"], "10.0.0.1"),
        ("10.0.0.1", [b"256.1.1.1"], "10.0.0.1"),
        ("10.0.0.1", ["²²².1.1.1".encode("latin-1")], "10.0.0.1"),
        ("::ffff:10.0.0.1", [b"::ffff:a00:2"], "10.0.0.2"),
        ("", [b"8.8.8.8"], ""),
    ],
)
def test_forwarded_for_headers_give_the_client_address(direct: str, forwarded_for: list[bytes], expected: str) -> None:
    """The leftmost where all are trusted; what is no address ends the way."""
    assert expected == PEERS.address(direct, forwarded_for)


@pytest.mark.parametrize("text", ["10.0.0.0/8,", "10.0.0.1/8", "proxy", "10.0.0.0/33", "::1%eth0", "10.0.0.1:80"])
def test_invalid_networks_are_refused(text: str) -> None:
    """With its name."""
    with pytest.raises(InputError, match=r"--trusted-proxies .*: expected an address or a network"):
        trusted_networks(text)


def test_an_empty_setting_trusts_no_proxy() -> None:
    """An empty setting means no trusted proxy."""
    assert () == trusted_networks("") == trusted_networks(" ")


@pytest.mark.parametrize(
    ("peers", "client", "expected"),
    [
        (PEERS, ("10.0.0.1", 5), "8.8.8.8"),
        (PEERS, ("10.0.0.1", None), "8.8.8.8"),
        (PEERS, ("9.9.9.9", 5), "9.9.9.9"),
        (TrustedProxies(), ("10.0.0.1", 5), "10.0.0.1"),
        (PEERS, None, ""),
    ],
)
def test_the_peer_is_recorded(peers: TrustedProxies, client: tuple[str, int] | None, expected: str) -> None:
    """A request knows its own connection and headers, and the application its proxies."""
    records = Records()

    async def handler(_request: Request) -> bytes:
        return b"{}"

    async def receive() -> dict[str, Any]:
        raise NotImplementedError

    clock = FrozenClock()
    auditor = Auditor(records, bytes(32), clock)
    application = Application({"/": Route(handler, "x")}, LogIds(clock, bytes), auditor, clock, peers)
    headers = [(b"x-forwarded-for", b"6.6.6.6, x"), (b"host", b"x"), (b"x-forwarded-for", b"8.8.8.8, 10.0.0.9")]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers, "client": client}
    reply = asyncio.run(application.reply(scope, receive))

    assert reply is not None
    assert (200, [expected]) == (reply.status, [record.peer for record in records])
