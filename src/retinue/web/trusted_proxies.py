"""The client's address behind trusted proxies. Pure.

Each proxy appends the address of its client to `X-Forwarded-For`, behind whatever the client sent. So only entries of
trusted proxies are believed, read from the right.
"""

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from msgspec import Struct

from retinue.errors import InputError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAPPED = "::ffff:"
_MAPPED_BITS = 96
_IN_BRACKETS = r"\[(?P<v6>[0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?"
_SPELLING = re.compile(rf"{_IN_BRACKETS}|(?P<v4>[0-9.]+):[0-9]{{1,5}}|(?P<bare>[0-9A-Fa-f:.]+)")


class TrustedProxies(Struct, frozen=True):
    """The proxies whose `X-Forwarded-For` is believed."""

    networks: Sequence[Network] = ()

    def address(self, direct: str, forwarded_for: Sequence[bytes]) -> str:
        """Return the address of the nearest untrusted peer.

        `direct` is the address of the connection, `forwarded_for` the value of each header in order. Reading stops at
        the first value that is not an address; then the last proxy counts.
        """
        if not self.networks:
            return direct.removeprefix(_MAPPED) if "." in direct else direct
        nearest = _address(direct)
        if nearest is None:
            return direct
        for address in _from_the_right(forwarded_for):
            if address is None or not self._is_trusted(nearest):
                break
            nearest = address
        return str(nearest)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self.networks)


NO_PROXIES = TrustedProxies()


def trusted_networks(text: str) -> tuple[Network, ...]:
    """Return the networks in `--trusted-proxies`. Raises `InputError`."""
    return tuple(_network(part.strip()) for part in text.split(",")) if text.strip() else ()


def _network(text: str) -> Network:
    try:
        network = ip_network("" if "%" in text else text)  # a zone (fe80::1%eth0) would be parsed, but ignored
    except ValueError as error:
        raise InputError(f"--trusted-proxies {text}: expected an address or a network such as 10.0.0.0/8") from error
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        return network if mapped is None else IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network


def _from_the_right(forwarded_for: Sequence[bytes]) -> Iterator[Address | None]:
    for value in reversed(forwarded_for):
        for part in reversed(value.split(b",")):
            found = _SPELLING.fullmatch(part.strip(b" \t").decode("latin-1"))
            yield _address(found["v6"] or found["v4"] or found["bare"]) if found else None


def _address(text: str) -> Address | None:
    """Return an address, IPv4 for mapped IPv6; None for other text."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
