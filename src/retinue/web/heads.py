"""Request heads as bytes. Pure."""

import re
from collections.abc import Iterable, Sequence

Headers = Sequence[tuple[bytes, bytes]]

_OF_UPGRADES = (b"upgrade", b"http2-settings")
_UNIQUE = (b"authorization", b"host")

# The headers that the parser, uvicorn or the answer to a request for a list depends on.
_RELEVANT = (
    rb"authorization|connection|content-length|expect|host|http2-settings|proxy-connection|transfer-encoding|upgrade|"
    rb"x-forwarded-for"
)
# Only well-formed lines that are not folded: others may change how the rest is parsed.
_IRRELEVANT_LINE = re.compile(rb"\r\n(?!(?:%b):)[a-z0-9-]+:[ -~]*(?=\r\n[^ \t]|\Z)" % _RELEVANT, re.IGNORECASE)


def values_of(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """Return the values of all headers with a lower-case name."""
    return [value for key, value in headers if key == name]


def first_value(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes:
    """Return the first value of a lower-case name; empty if absent."""
    return next((value for key, value in headers if key == name), b"")


def relevant_part(head: bytes) -> bytes:
    """Return a head without lines that no response depends on."""
    return _IRRELEVANT_LINE.sub(b"", head)


def length_of(method: bytes, target: bytes, headers: Headers) -> int:
    """Return the length of a head in bytes, without optional whitespace."""
    line = b"%b %b HTTP/1.1\r\n" % (method, target)
    return len(line) + sum(len(name) + len(value) + len(b": \r\n") for name, value in headers) + len(b"\r\n")


def repeated(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the name of a repeated header; empty if none is.

    A proxy in front may have used the other one of two hosts or credentials.
    """
    names = [name for name, _ in headers if name in _UNIQUE]
    return next((name.decode().title() for name in _UNIQUE if names.count(name) > 1), "")


def without_upgrade(method: bytes, target: bytes, version: str, headers: Headers) -> bytes:
    """Return the same head without its request to upgrade."""
    lines = [b"%b %b HTTP/%b" % (method, target, version.encode())]
    for name, value in headers:
        tokens = [token.strip() for token in value.split(b",")] if name == b"connection" else [value]
        kept = b", ".join(token for token in tokens if token.lower() not in _OF_UPGRADES)
        if name not in _OF_UPGRADES and (kept or name != b"connection"):
            lines.append(name + b": " + kept)
    return b"\r\n".join([*lines, b"", b""])
