"""The keeper's side of the audit: takes records, writes the log, moves its anchor in the store, lets old files go."""

import asyncio
import logging
from collections.abc import Sequence

import msgspec
from msgspec import structs

from retinue.access.audit import Record
from retinue.access.tally import Tally
from retinue.access.trail import Trail, without_oldest
from retinue.store.base import Anchor, AuditStore

ANCHOR_SECONDS = 1.0

_LOGGER = logging.getLogger("retinue.audit")
_encode = msgspec.json.Encoder().encode


class AuditKeeping:
    """Writes the audit log and keeps it anchored. It is an `Outbox` for the keeper's own records."""

    def __init__(self, trail: Trail, anchor: Anchor, store: AuditStore, tally: Tally) -> None:
        self._trail = trail
        self._anchor = anchor
        self._store = store
        self._tally = tally
        self.is_full = False

    @property
    def count(self) -> int:
        """How many records were ever written."""
        return self._trail.written.count

    async def begin(self) -> None:
        """Say in the store that records may come after the last that it knows of."""
        if self._trail.fault:
            _LOGGER.error("the audit log is not as it was left: %s; see `retinue audit verify`", self._trail.fault)
        await self._move(is_open=True)

    def add(self, record: Record) -> None:
        """Take a record of the keeper's own."""
        try:
            self.take([_encode(record)])
        except OSError:
            _LOGGER.exception("the audit log cannot be written for now")

    def take(self, records: Sequence[bytes]) -> None:
        """Write records. Raises `OSError`; then they are kept for `flush`."""
        self._tally.add(records)
        self.is_full = True
        self._trail.write(records)
        self.is_full = False

    def flush(self) -> None:
        """Write what could not be written before. Raises `OSError`."""
        self._trail.flush()
        self.is_full = False

    async def settle(self) -> None:
        """Make the log durable up to now, then let the store know; and let go what is too old."""
        if self._trail.leave_removed_file():
            _LOGGER.error("a file of the audit log was removed; see `retinue audit verify`")
        if self._trail.written.count != self._anchor.count:
            await self._move(is_open=True)
        expired = self._trail.expired()
        if expired is not None:
            path, last = expired
            if last is not None:
                self._anchor = without_oldest(self._anchor, last)
                await self._store.move_audit_anchor(self._anchor)
            path.unlink(missing_ok=True)

    async def finish(self, *, is_complete: bool) -> None:
        """Close the log. Only if all came and is written does the store take what is there for the end."""
        try:
            self._trail.flush()
        except OSError as error:
            _LOGGER.error("%d audit records are lost: they could not be written: %s", self._trail.unwritten, error)  # noqa: TRY400 - no fault of ours
            is_complete = False
        await self._move(is_open=not is_complete)
        self._trail.close()

    async def _move(self, *, is_open: bool) -> None:
        last = self._trail.written
        await asyncio.to_thread(self._trail.sync)
        anchor = structs.replace(self._anchor, count=last.count, hash=last.hash, is_open=is_open)
        await self._store.move_audit_anchor(anchor)
        self._anchor = anchor
