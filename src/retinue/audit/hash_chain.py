"""The hash chain over the lines of the audit log. Pure.

A line is a JSON object from its number `n` to its `hash`: keyed BLAKE2b of the previous hash and the line up to there.
So no line can be forged, changed, removed or swapped without contradicting later hashes.
"""

import re
from hashlib import blake2b

from msgspec import Struct

HASH_BYTES = 20

_LINE = re.compile(
    rb'(\{"n":([1-9][0-9]{0,18}),(?:"(?:lost|summed)":([1-9][0-9]{0,17}),)?.*),"hash":"([0-9a-f]{40})"\}', re.DOTALL
)


class ChainHead(Struct, frozen=True, gc=False):
    """The end of a chain: number and hash of its last record."""

    count: int
    hash: bytes


BEGINNING = ChainHead(0, bytes(HASH_BYTES))


class BrokenChain(Exception):
    """A line does not continue the chain; the message says why."""


def line_of(
    record: bytes, before: ChainHead, secret: bytes, *, lost: int = 0, summed: int = 0
) -> tuple[bytes, ChainHead]:
    """Return the line of a JSON record, and the next chain head.

    A record of `lost` or `summed` records takes that many numbers.
    """
    count = before.count + (lost or summed or 1)
    span = b'"lost":%d,' % lost if lost else b'"summed":%d,' % summed if summed else b""
    body = b'{"n":%d,%b%b' % (count, span, record[1:-1])
    digest = blake2b(before.hash + body, key=secret, digest_size=HASH_BYTES)
    return b'%b,"hash":"%b"}\n' % (body, digest.hexdigest().encode()), ChainHead(count, digest.digest())


def next_head(line: bytes, before: ChainHead, secret: bytes) -> ChainHead:
    """Return the chain head after a line without its newline. Raises `BrokenChain`."""
    body, number, span, stated_hash = _parts(line)
    count = before.count + int(span or 1)
    if int(number) != count:
        raise BrokenChain(f"is record {int(number)}, but record {count} belongs here")
    digest = blake2b(before.hash + body, key=secret, digest_size=HASH_BYTES)
    if digest.hexdigest().encode() != stated_hash:
        raise BrokenChain(f"record {count} or an earlier one was changed")
    return ChainHead(count, digest.digest())


def stated_head(line: bytes) -> ChainHead:
    """Return the chain head that a line states, unverified. Raises `BrokenChain`."""
    _, number, _, stated_hash = _parts(line)
    return ChainHead(int(number), bytes.fromhex(stated_hash.decode()))


def torn_digest(fragment: bytes, secret: bytes) -> str:
    """Return the digest that a resuming record holds of a torn line."""
    return blake2b(fragment, key=secret, digest_size=HASH_BYTES).hexdigest()


def _parts(line: bytes) -> tuple[bytes, bytes, bytes | None, bytes]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise BrokenChain("is not a record")
    return match[1], match[2], match[3], match[4]
