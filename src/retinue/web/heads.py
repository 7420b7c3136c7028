"""Heads of requests as bytes, pure: how long one is, what it announces, and one without a wish to upgrade."""

from collections.abc import Iterable, Sequence

from retinue.requests import MAX_BODY_BYTES

Headers = Sequence[tuple[bytes, bytes]]

_OF_UPGRADES = (b"upgrade", b"http2-settings")
_DIGITS = 9  # more than any length that is read


def length_of(method: bytes, target: bytes, headers: Headers) -> int:
    """The length of a complete head in bytes, without white space that says nothing."""
    line = b"%b %b HTTP/1.1\r\n" % (method, target)
    return len(line) + sum(len(name) + len(value) + len(b": \r\n") for name, value in headers) + len(b"\r\n")


def announces_too_much(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a body is announced that will be refused for its length."""
    lengths = [value for name, value in headers if name == b"content-length"]
    return any(len(length) > _DIGITS or int(length) > MAX_BODY_BYTES for length in lengths if length.isdigit())


def without_upgrade(method: bytes, target: bytes, version: str, headers: Headers) -> bytes:
    """A head that asks for the same, and stays with HTTP/1.1."""
    lines = [b"%b %b HTTP/%b" % (method, target, version.encode())]
    for name, value in headers:
        tokens = [token.strip() for token in value.split(b",")] if name == b"connection" else [value]
        kept = b", ".join(token for token in tokens if token.lower() not in _OF_UPGRADES)
        if name not in _OF_UPGRADES and (kept or name != b"connection"):
            lines.append(name + b": " + kept)
    return b"\r\n".join([*lines, b"", b""])
