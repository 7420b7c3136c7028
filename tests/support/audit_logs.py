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
from retinue.store.base import Checkpoint

SECRET = bytes(range(32))
BIG = Keeping(2**30, 2**30)


def record(number: int, time: int = 1_700_000_000) -> bytes:
    """A record as JSON."""
    return msgspec.json.encode(
        Record(time, f"L{number:x}", "following", 200, "ok", 80 + number, "127.0.0.1", rows=number)
    )


def new_checkpoint() -> Checkpoint:
    """What a store that was just made knows."""
    return Checkpoint(SECRET, 0, BEGINNING.hash, 0, BEGINNING.hash, is_open=False)


def checkpoint_after(checkpoint: Checkpoint, trail: Trail, *, is_open: bool = False) -> Checkpoint:
    """What the store is told of a trail."""
    return replace(checkpoint, count=trail.written.count, hash=trail.written.hash, is_open=is_open)


def written(folder: Path, sizes: list[int], keeping: Keeping = BIG) -> Checkpoint:
    """A log of several lives of a keeper, each with so many records; the checkpoint after the last."""
    checkpoint, number = new_checkpoint(), 0
    for size in sizes:
        with closing(Trail(folder, checkpoint, keeping, lambda: 1_700_000_000)) as trail:
            for _ in range(size):
                number += 1
                trail.write([record(number)])
            checkpoint = checkpoint_after(checkpoint, trail)
    return checkpoint


@contextmanager
def closing_descriptor(descriptor: int) -> Iterator[int]:
    """A descriptor that is closed at the end of the block."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)
