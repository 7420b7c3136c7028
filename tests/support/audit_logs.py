"""Audit logs written without a server."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
from msgspec.structs import replace

from retinue.access.contract import Checkpoint
from retinue.audit.hash_chain import BEGINNING
from retinue.audit.log import AuditLog, RotationPolicy
from retinue.audit.record import AuditRecord

SECRET = bytes(range(32))
BIG = RotationPolicy(2**30, 2**30)


def record(number: int, time: int = 1_700_000_000) -> bytes:
    """A record as JSON."""
    return msgspec.json.encode(
        AuditRecord(
            time=time,
            log_id=f"L{number:x}",
            endpoint="following",
            status=200,
            code="ok",
            microseconds=80 + number,
            peer="127.0.0.1",
            rows=number,
        )
    )


def new_checkpoint() -> Checkpoint:
    """Return the checkpoint of a new store."""
    return Checkpoint(SECRET, 0, BEGINNING.hash, 0, BEGINNING.hash, is_open=False)


def checkpoint_after(checkpoint: Checkpoint, audit_log: AuditLog, *, is_open: bool = False) -> Checkpoint:
    """Return the checkpoint after a log was written."""
    return replace(checkpoint, count=audit_log.written.count, hash=audit_log.written.hash, is_open=is_open)


def written(folder: Path, sizes: list[int], keeping: RotationPolicy = BIG) -> Checkpoint:
    """Write a log in several runs of a coordinator, each with so many records; return the last checkpoint."""
    checkpoint, number = new_checkpoint(), 0
    for size in sizes:
        with closing(AuditLog(folder, checkpoint, keeping, lambda: 1_700_000_000)) as audit_log:
            for _ in range(size):
                number += 1
                audit_log.write([record(number)])
            checkpoint = checkpoint_after(checkpoint, audit_log)
    return checkpoint


@contextmanager
def closing_descriptor(descriptor: int) -> Iterator[int]:
    """A descriptor that is closed at the end of the block."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)
