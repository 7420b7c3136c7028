"""Removal of what is too old: files of the audit log, and rows of expired tokens."""

import asyncio
import logging
from pathlib import Path

from msgspec import Struct

from retinue.audit.retention import oldest_removable
from retinue.audit.trusted_time import TrustedTime
from retinue.audit.writer import AuditWriter
from retinue.clock import Clock
from retinue.errors import StoreError, StoreUnavailable
from retinue.store.contract import AccessStore

ROUND_SECONDS = 60

_LOGGER = logging.getLogger("retinue.retention")


class Retention(Struct, frozen=True):
    """The retention policy, and all it applies to. `keep_seconds` 0: files stay for ever."""

    folder: Path
    keep_seconds: int
    trusted: TrustedTime
    audit: AuditWriter
    access: AccessStore
    clock: Clock

    async def run(self) -> None:
        """Apply the policy once a minute, until cancelled."""
        while True:
            try:
                await self.apply()
            except (OSError, StoreError, StoreUnavailable) as error:
                _LOGGER.warning("old audit files and expired tokens stay for now: %s", error)
            except Exception:  # a chore that ended without a word would be missed too late
                _LOGGER.exception("old audit files and expired tokens stay for now")
            await asyncio.sleep(ROUND_SECONDS)

    async def apply(self) -> None:
        """Remove what is old enough by trusted time."""
        self._update_time()
        self.audit.measure()
        now = self.trusted.now()
        await self.access.forget_tokens(now)  # they are refused anyway; this only keeps the store small
        while self.keep_seconds:
            file = await asyncio.to_thread(oldest_removable, self.folder, now, self.keep_seconds)
            if file is None or not await self.audit.remove(file, self.clock.now()):
                return

    def _update_time(self) -> None:
        try:
            self.trusted.update()
        except OSError as error:  # such as on a full disk, where removing files helps
            _LOGGER.warning("the time that was reached cannot be saved: %s", error)

    def finish(self) -> None:
        """Save the time that was reached."""
        try:
            self.trusted.save()
        except OSError as error:
            _LOGGER.warning("the time that was reached cannot be saved: %s", error)
