"""The free space of the audit log: below its size limit, and on its disk."""

import errno
import logging
import os
from pathlib import Path

from msgspec import Struct

from retinue.audit.log_files import files_of

# Free shares of the limit or of the disk. Only a part of a large disk counts.
LOW_SHARE = 0.2
CRITICAL_SHARE = 0.05
MAX_COUNTED_DISK_BYTES = 10 * 1024**3

_MIB = 1024 * 1024
_LOGGER = logging.getLogger("retinue.audit")


class LogSpace(Struct, frozen=True):
    """Bytes of the log, its limit (0: none), and its disk."""

    log_bytes: int
    max_bytes: int
    free_bytes: int
    disk_bytes: int

    @property
    def is_exhausted(self) -> bool:
        """Whether the log has reached its limit."""
        return bool(self.max_bytes) and self.log_bytes >= self.max_bytes

    @property
    def warning(self) -> str:
        """A warning for the server's log; empty if enough space is free."""
        return self._shortage(LOW_SHARE)

    @property
    def is_critical(self) -> bool:
        """Whether the server should be taken out of service."""
        return bool(self._shortage(CRITICAL_SHARE))

    def _shortage(self, share: float) -> str:
        if self.max_bytes and self.max_bytes - self.log_bytes <= share * self.max_bytes:
            sizes = f"{self.log_bytes // _MIB} MiB of at most {self.max_bytes // _MIB}"
            return f"the audit log has {sizes} (--audit-max-mib)"
        if self.free_bytes <= share * min(self.disk_bytes, MAX_COUNTED_DISK_BYTES):
            return f"the disk of the audit log has only {self.free_bytes // _MIB} MiB left"
        return ""


def measure(folder: Path, max_bytes: int) -> LogSpace:
    """Measure the log and its disk. Raises `OSError` or `StoreError`."""
    log_bytes = 0
    for path in files_of(folder):
        try:
            log_bytes += path.stat().st_size
        except FileNotFoundError:
            continue  # removed in the meantime
    disk = os.statvfs(folder)
    return LogSpace(log_bytes, max_bytes, disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)


class SpaceMonitor:
    """Watches the space of a log while it is written."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._is_warned = False
        self._measured_at = 0  # in bytes written since the start
        self.space = measure(folder, max_bytes)

    def update(self, written: int) -> None:
        """Measure again, after `written` bytes; warn if space is short."""
        self.space, self._measured_at = measure(self._folder, self._max_bytes), written
        warning = self.space.warning
        if warning and not self._is_warned:
            _LOGGER.warning("%s; requests are refused when it cannot be written", warning)
        self._is_warned = bool(warning)

    def require(self, written: int) -> None:
        """Raise `OSError` if the limit is reached after `written` bytes."""
        if not self._max_bytes or self.space.log_bytes + written - self._measured_at < self._max_bytes:
            return
        self.update(written)  # files may have been removed since
        if self.space.is_exhausted:
            raise OSError(errno.ENOSPC, f"the audit log has reached --audit-max-mib {self._max_bytes // _MIB}")
