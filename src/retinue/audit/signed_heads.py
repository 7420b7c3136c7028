"""Signed heads of the audit log, to be kept on another machine.

A rewritten log contradicts older signed heads, even if the secret and the checkpoint were rewritten too.
"""

import hmac
from collections.abc import Iterator, Sequence
from hashlib import blake2b

import msgspec
from msgspec import Struct

from retinue.access.contract import Checkpoint
from retinue.audit.hash_chain import BEGINNING, HASH_BYTES, ChainHead
from retinue.audit.log_files import ChainStep, utc
from retinue.errors import InputError
from retinue.model import MAX_SECOND

_PERSON = b"retinue-head"
_REMOVED = b'"removed":{'
_EXPECTED = "expected the output of `retinue audit head`"


class SignedHead(Struct, frozen=True, forbid_unknown_fields=True):
    """The end of the log at a Unix second, with a signature. Hashes are in hex."""

    records: int
    hash: str
    time: int
    mac: str

    @property
    def chain_head(self) -> ChainHead:
        """The signed chain head. Raises `ValueError`."""
        return ChainHead(self.records, bytes.fromhex(self.hash))


def sign_head(head: ChainHead, time: int, secret: bytes) -> SignedHead:
    """Return a chain head with its time and signature."""
    return SignedHead(head.count, head.hash.hex(), time, _mac(head.count, head.hash.hex(), time, secret))


def is_genuine(head: SignedHead, secret: bytes) -> bool:
    """Return whether the signature is valid."""
    expected = _mac(head.records, head.hash, head.time, secret)
    return hmac.compare_digest(expected.encode(), head.mac.encode())


def parse_signed_heads(text: str, source: str) -> list[SignedHead]:
    """Return the signed heads, one per line, after any prefix. Raises `InputError`."""
    heads = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            head = _parse(line)
            if head is None:
                raise InputError(f"{source}, line {number}: is not a signed head; {_EXPECTED}")
            heads.append(head)
    if not heads:
        raise InputError(f"{source}: has no signed head; {_EXPECTED}")
    return heads


class HeadComparison:
    """Compares a log with signed heads while it is read."""

    def __init__(self, heads: Sequence[SignedHead], checkpoint: Checkpoint) -> None:
        self._heads = heads
        self._checkpoint = checkpoint
        self._signed_counts = {head.records for head in heads}
        self._hashes = {0: BEGINNING.hash, checkpoint.before_count: checkpoint.before_hash}
        self._removal_note = ""

    def add(self, step: ChainStep) -> None:
        """Add the next line of the log."""
        if step.head.count in self._signed_counts:
            self._hashes[step.head.count] = step.head.hash
        if step.is_sound and _REMOVED in step.line.content:
            record, before = step.line.record, self._checkpoint.before_count
            if (removed := record.removed) is not None and removed.last == before:
                last = f"records {removed.first} to {removed.last}, {utc(removed.oldest)} to {utc(removed.newest)}"
                self._removal_note = (
                    f"records 1 to {before} were removed for their age; last, at {utc(record.time)}, {last}"
                )

    def problems(self, last: ChainHead) -> Iterator[str]:
        """Report the signed heads that the log contradicts."""
        for head in self._heads:
            problem = self._problem_with(head, last)
            if problem:
                yield f"{_name_of(head)}: {problem}"

    def notes(self) -> Iterator[str]:
        """Report removed records, and the signed heads among them."""
        before = self._checkpoint.before_count
        if self._removal_note:
            yield self._removal_note
        elif before:
            yield f"records 1 to {before} are not retained, and no record says when they were removed"
        for head in self._heads:
            if 0 < head.records < before:
                yield f"{_name_of(head)}: the record was removed for its age and cannot be compared"

    def _problem_with(self, head: SignedHead, last: ChainHead) -> str:
        logged_hash = self._hashes.get(head.records)
        if not is_genuine(head, self._checkpoint.secret):
            return "was not signed by this store, or was changed"
        if logged_hash is not None:
            return "" if logged_hash == head.chain_head.hash else "the log has another record there: it was rewritten"
        if head.records > last.count:
            return f"the end is missing: the last record is {last.count}"
        if head.records > self._checkpoint.before_count:
            return "the record is missing"
        return "" if self._removal_note else "the record is missing, and no record says that it was removed"


def _name_of(head: SignedHead) -> str:
    return f"the head of {utc(head.time)}, record {head.records}"


def _parse(line: str) -> SignedHead | None:
    try:
        head = msgspec.json.decode(line[line.index("{") :], type=SignedHead)
        is_plausible = head.records >= 0 and 0 <= head.time <= MAX_SECOND
        return head if is_plausible and len(head.chain_head.hash) == HASH_BYTES else None
    except (ValueError, msgspec.DecodeError):
        return None


def _mac(records: int, last: str, time: int, secret: bytes) -> str:
    content = f"{records} {last} {time}".encode()
    return blake2b(content, key=secret, digest_size=HASH_BYTES, person=_PERSON).hexdigest()
