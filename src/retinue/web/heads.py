"""Heads of requests as bytes, pure: how long one is, what it announces and repeats, and one without an upgrade."""

from collections.abc import Iterable, Sequence

Headers = Sequence[tuple[bytes, bytes]]

_OF_UPGRADES = (b"upgrade", b"http2-settings")
_DIGITS = 9  # more than any length that is read
_SINGULAR = (b"authorization", b"host")


def length_of(method: bytes, target: bytes, headers: Headers) -> int:
    """The length of a complete head in bytes, without white space that says nothing."""
    line = b"%b %b HTTP/1.1\r\n" % (method, target)
    return len(line) + sum(len(name) + len(value) + len(b": \r\n") for name, value in headers) + len(b"\r\n")


def announces_too_much(headers: Iterable[tuple[bytes, bytes]], limit: int) -> bool:
    """Return whether a body of more than so many bytes is announced."""
    lengths = [value for name, value in headers if name == b"content-length"]
    return any(len(length) > _DIGITS or int(length) > limit for length in lengths if length.isdigit())


def repeated(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the name of a header that stands there twice and must not; empty if there is none.

    Of two hosts or credentials a proxy in front may have read the other one.
    """
    names = [name for name, _ in headers if name in _SINGULAR]
    return next((name.decode().title() for name in _SINGULAR if names.count(name) > 1), "")


def without_upgrade(method: bytes, target: bytes, version: str, headers: Headers) -> bytes:
    """A head that asks for the same, and stays with HTTP/1.1."""
    lines = [b"%b %b HTTP/%b" % (method, target, version.encode())]
    for name, value in headers:
        tokens = [token.strip() for token in value.split(b",")] if name == b"connection" else [value]
        kept = b", ".join(token for token in tokens if token.lower() not in _OF_UPGRADES)
        if name not in _OF_UPGRADES and (kept or name != b"connection"):
            lines.append(name + b": " + kept)
    return b"\r\n".join([*lines, b"", b""])
