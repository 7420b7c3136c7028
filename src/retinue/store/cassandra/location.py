"""The location of a store in a cluster, from `--store cassandra://...`. Pure.

cassandra://user:password@host:port,host,host/keyspace?consistency=LOCAL_QUORUM&datacenter=dc1&tls_ca=ca.pem
"""

from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from msgspec import Struct

from retinue.errors import InputError

SCHEME = "cassandra"
DEFAULT_PORT = 9042
CONSISTENCIES = ("LOCAL_QUORUM", "QUORUM", "EACH_QUORUM", "LOCAL_ONE", "ONE", "TWO", "THREE", "ALL")
_OPTIONS = ("consistency", "datacenter", "tls_ca", "tls_cert", "tls_key")
_MAX_KEYSPACE = 48


class Location(Struct, frozen=True):
    """A keyspace of a cluster. Without `user` there is no authentication, without `tls_ca` no TLS."""

    hosts: tuple[str, ...]
    port: int
    keyspace: str
    user: str = ""
    password: str = ""
    consistency: str = "LOCAL_QUORUM"
    datacenter: str = ""
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""

    def __str__(self) -> str:
        """Return the location without the password."""
        return f"{SCHEME}://{','.join(self.hosts)}:{self.port}/{self.keyspace}"


def is_location(store: str) -> bool:
    """Return whether a `--store` value names a cluster."""
    return store.startswith(f"{SCHEME}://")


def parse(store: str) -> Location:
    """Return the location in a `--store` value. Raises `InputError`, which never repeats the password."""
    parts = urlsplit(store)
    account, _, hosts = parts.netloc.rpartition("@")
    user, _, password = account.partition(":")
    names, ports = zip(*(_host(host) for host in hosts.split(",")), strict=True)
    named_ports = {port for port in ports if port is not None}
    if len(named_ports) > 1:
        raise InputError(f"--store {SCHEME}://: all hosts listen on one port; found {sorted(named_ports)}")
    return Location(
        names,
        named_ports.pop() if named_ports else DEFAULT_PORT,
        _keyspace(parts.path.removeprefix("/")),
        unquote(user),
        unquote(password),
        **_options(dict(parse_qsl(parts.query, keep_blank_values=True))),
    )


def _host(text: str) -> tuple[str, int | None]:
    name, separator, port = text.rpartition(":")
    if not separator or text.endswith("]"):
        name, port = text, ""
    name = name.removeprefix("[").removesuffix("]")
    if not name:
        raise InputError(f"--store {SCHEME}://: names no host; expected {SCHEME}://host[:port][,host...]/keyspace")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise InputError(f"--store {SCHEME}://: {port!r} is not a port")
    return name, int(port) if port else None


def _keyspace(name: str) -> str:
    plain = name.isascii() and name.replace("_", "a").isalnum() and name[:1].isalpha() and name == name.lower()
    if not plain or len(name) > _MAX_KEYSPACE:
        raise InputError(
            f"--store {SCHEME}://.../{name}: a keyspace is a lower-case letter, then letters, digits and _,"
            f" at most {_MAX_KEYSPACE} characters"
        )
    return name


def _options(given: Mapping[str, str]) -> dict[str, str]:
    unknown = sorted(set(given) - set(_OPTIONS))
    if unknown:
        raise InputError(f"--store {SCHEME}://: unknown option {unknown[0]!r}; there are {', '.join(_OPTIONS)}")
    options = dict(given)
    if "consistency" in options:
        options["consistency"] = options["consistency"].upper()
        if options["consistency"] not in CONSISTENCIES:
            raise InputError(f"--store {SCHEME}://: consistency is one of {', '.join(CONSISTENCIES)}")
    if bool(options.get("tls_cert")) != bool(options.get("tls_key")):
        raise InputError(f"--store {SCHEME}://: tls_cert and tls_key belong together")
    return options
