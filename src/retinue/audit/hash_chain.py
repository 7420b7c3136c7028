"""The chain that binds the records of the audit log, pure: each line ends with a hash of itself and of all before it.

A line is a JSON object that begins with its number `n` and ends with `hash`: keyed BLAKE2b, under the store's secret,
of the hash before it and of the line up to there. So nobody without the secret can make a line, and nobody can change,
remove or swap one without the hashes of all later ones, and the one in the store, giving it away.

A line with `lost` or `summed` stands for that many records, which could not be written or were summed up: it takes all
of their numbers.
"""

import re
from hashlib import blake2b

from msgspec import Struct

HASH_BYTES = 20

_LINE = re.compile(
    rb'(\{"n":([1-9][0-9]{0,18}),(?:"(?:lost|summed)":([1-9][0-9]{0,17}),)?.*),"hash":"([0-9a-f]{40})"\}', re.DOTALL
)


class ChainHead(Struct, frozen=True, gc=False):
    """A place in the chain: the number of a record, which is how many there are up to it, and its hash."""

    count: int
    hash: bytes


BEGINNING = ChainHead(0, bytes(HASH_BYTES))


class BrokenChain(Exception):
    """A line is not the one that belongs after a link; the message says how it differs."""


def line_of(
    record: bytes, before: ChainHead, secret: bytes, *, lost: int = 0, summed: int = 0
) -> tuple[bytes, ChainHead]:
    """The line of a record (a JSON object with at least one field), with its newline, and its link.

    With `lost` or `summed` it stands for so many records.
    """
    count = before.count + (lost or summed or 1)
    span = b'"lost":%d,' % lost if lost else b'"summed":%d,' % summed if summed else b""
    body = b'{"n":%d,%b%b' % (count, span, record[1:-1])
    digest = blake2b(before.hash + body, key=secret, digest_size=HASH_BYTES)
    return b'%b,"hash":"%b"}\n' % (body, digest.hexdigest().encode()), ChainHead(count, digest.digest())


def next_head(line: bytes, before: ChainHead, secret: bytes) -> ChainHead:
    """The link of a line (without its newline) that follows another. Raises `BrokenChain`."""
    found = _LINE.fullmatch(line)
    if found is None:
        raise BrokenChain("is no record")
    count = before.count + int(found[3] or 1)
    if int(found[2]) != count:
        raise BrokenChain(f"is record {int(found[2])}, but record {count} belongs here")
    digest = blake2b(before.hash + found[1], key=secret, digest_size=HASH_BYTES)
    if digest.hexdigest().encode() != found[4]:
        raise BrokenChain(f"record {count} or what came before it was changed")
    return ChainHead(count, digest.digest())


def head_in(line: bytes) -> ChainHead:
    """The link that a line says it has. Raises `BrokenChain` where it is no record."""
    found = _LINE.fullmatch(line)
    if found is None:
        raise BrokenChain("is no record")
    return ChainHead(int(found[2]), bytes.fromhex(found[4].decode()))


def torn_digest(fragment: bytes, secret: bytes) -> str:
    """By this a later record vouches for a line of which a crash has left only the beginning."""
    return blake2b(fragment, key=secret, digest_size=HASH_BYTES).hexdigest()
