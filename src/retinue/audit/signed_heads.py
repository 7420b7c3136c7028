"""Signed heads of the audit log: what others keep, so that the log can be compared with it later.

A head is one line of JSON: how many records there are, the hash of the last, the time, and a keyed hash of these. The
hash of the last record stands for all records before it, so a history that was rewritten does not fit an older head,
even if the secret and the store's own knowledge of the log were rewritten with it.
"""

import hmac
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from hashlib import blake2b

import msgspec
from msgspec import Struct

from retinue.audit.hash_chain import BEGINNING, HASH_BYTES, ChainHead
from retinue.audit.record import AuditRecord
from retinue.errors import InputError
from retinue.store.contract import Checkpoint

_LAST_SECOND = 253_402_300_799  # of the year 9999
_PERSON = b"retinue-head"


class SignedHead(Struct, frozen=True, forbid_unknown_fields=True):
    """The end of the log at a time (Unix seconds): number of records, hash of the last in hex, and the signature."""

    records: int
    hash: str
    time: int
    mac: str

    @property
    def link(self) -> ChainHead:
        """The place in the chain that the head vouches for. Raises `ValueError`."""
        return ChainHead(self.records, bytes.fromhex(self.hash))


def signed_head(link: ChainHead, time: int, secret: bytes) -> SignedHead:
    """Return the head of a log that ends with a link."""
    return SignedHead(link.count, link.hash.hex(), time, _mac(link.count, link.hash.hex(), time, secret))


def is_genuine(head: SignedHead, secret: bytes) -> bool:
    """Return whether a head was made with the secret, as it is."""
    expected = _mac(head.records, head.hash, head.time, secret)
    return hmac.compare_digest(expected.encode(), head.mac.encode())


def parse_signed_heads(text: str, source: str) -> list[SignedHead]:
    """Return the heads in a text, one in each line, after whatever a log may put before it. Raises `InputError`."""
    heads = list(_heads(text, source))
    if not heads:
        raise InputError(f"{source}: holds no head; expected what `retinue audit head` prints")
    return heads


class Compared:
    """A log as far as it was read, compared with heads and with what it says of its own removed files."""

    def __init__(self, heads: Sequence[SignedHead], checkpoint: Checkpoint) -> None:
        self._heads = heads
        self._checkpoint = checkpoint
        self._wanted = {head.records for head in heads}
        self._hashes = {0: BEGINNING.hash, checkpoint.before_count: checkpoint.before_hash}
        self._removal: AuditRecord | None = None  # the record of the last removal

    def add(self, link: ChainHead, removal: AuditRecord | None) -> None:
        """Go on to the next record, which may say that files were removed."""
        if link.count in self._wanted:
            self._hashes[link.count] = link.hash
        if (
            removal is not None
            and removal.removed is not None
            and removal.removed.last == self._checkpoint.before_count
        ):
            self._removal = removal

    def problems(self, last: ChainHead) -> Iterator[str]:
        """Say which heads the log does not fit, given its last record."""
        for head in self._heads:
            problem = self._problem_with(head, last)
            if problem:
                yield f"the head of {_utc(head.time)}, record {head.records}: {problem}"

    def notes(self) -> Iterator[str]:
        """Say what was removed for its age, and which heads cannot be compared because of that."""
        before = self._checkpoint.before_count
        if before and self._removal is None:
            yield f"records 1 to {before} are not kept, and no record says when they were removed"
        elif self._removal is not None and self._removal.removed is not None:
            removed = self._removal.removed
            last_file = f"records {removed.first} to {removed.last}, {_utc(removed.oldest)} to {_utc(removed.newest)}"
            yield f"records 1 to {before} were removed for their age; last, at {_utc(self._removal.time)}, {last_file}"
        for head in self._heads:
            if 0 < head.records < before:
                yield (
                    f"the head of {_utc(head.time)}, record {head.records}: the record was removed for its age and "
                    "cannot be compared"
                )

    def _problem_with(self, head: SignedHead, last: ChainHead) -> str:
        found = self._hashes.get(head.records)
        if not is_genuine(head, self._checkpoint.secret):
            return "was not made by this store, or was changed"
        if found is not None:
            return "" if found == head.link.hash else "the log has another record there: it was rewritten"
        if head.records > last.count:
            return f"the end is missing: the last record is {last.count}"
        if head.records > self._checkpoint.before_count:
            return "the record is missing"
        return "" if self._removal is not None else "the record is missing, and no record says that it was removed"


def _heads(text: str, source: str) -> Iterator[SignedHead]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        head = _head(line)
        if head is None:
            raise InputError(f"{source}, line {number}: is no head; expected what `retinue audit head` prints")
        yield head


def _head(line: str) -> SignedHead | None:
    try:
        head = msgspec.json.decode(line[line.index("{") :], type=SignedHead)
        is_possible = head.records >= 0 and 0 <= head.time <= _LAST_SECOND
        return head if is_possible and len(head.link.hash) == HASH_BYTES else None
    except (ValueError, msgspec.DecodeError):
        return None


def _mac(records: int, last: str, time: int, secret: bytes) -> str:
    content = f"{records} {last} {time}".encode()
    return blake2b(content, key=secret, digest_size=HASH_BYTES, person=_PERSON).hexdigest()


def _utc(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%SZ}"
