"""Audit logs written without a server."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
from msgspec.structs import replace

from retinue.audit.hash_chain import BEGINNING
from retinue.audit.log import Keeping, Trail
from retinue.audit.record import Record
from retinue.store.base import Anchor

SECRET = bytes(range(32))
BIG = Keeping(2**30, 2**30)


def record(number: int, time: int = 1_700_000_000) -> bytes:
    """A record as JSON."""
    return msgspec.json.encode(
        Record(time, f"L{number:x}", "following", 200, "ok", 80 + number, "127.0.0.1", rows=number)
    )


def new_anchor() -> Anchor:
    """What a store that was just made knows."""
    return Anchor(SECRET, 0, BEGINNING.hash, 0, BEGINNING.hash, is_open=False)


def anchored(anchor: Anchor, trail: Trail, *, is_open: bool = False) -> Anchor:
    """What the store is told of a trail."""
    return replace(anchor, count=trail.written.count, hash=trail.written.hash, is_open=is_open)


def written(folder: Path, sizes: list[int], keeping: Keeping = BIG) -> Anchor:
    """A log of several lives of a coordinator, each with so many records; the anchor after the last."""
    anchor, number = new_anchor(), 0
    for size in sizes:
        with closing(Trail(folder, anchor, keeping, lambda: 1_700_000_000)) as trail:
            for _ in range(size):
                number += 1
                trail.write([record(number)])
            anchor = anchored(anchor, trail)
    return anchor


@contextmanager
def closing_descriptor(descriptor: int) -> Iterator[int]:
    """A descriptor that is closed at the end of the block."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)
