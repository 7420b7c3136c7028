"""What a child process is given by the supervisor: settings, its listener, and what all processes share."""

import mmap
import os
import socket

from msgspec import Struct

from retinue.clock import Clock, SystemClock, VirtualClock
from retinue.settings import Settings

_CLOCK_BYTES = 8


class Station(Struct, frozen=True):
    """Settings, and file descriptors that the child inherits. `clock` is there in a sandbox only."""

    settings: Settings
    listener: int
    audit: int
    clock: int | None = None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All that the child must inherit."""
        shared = () if self.clock is None else (self.clock,)
        return (self.listener, self.audit, *shared)

    def open_listener(self) -> socket.socket:
        """The listening socket."""
        return socket.socket(fileno=self.listener)

    def open_audit(self) -> socket.socket:
        """This role's end of the audit socket."""
        return socket.socket(fileno=self.audit)

    def open_clock(self) -> Clock:
        """The server's clock."""
        if self.clock is None:
            return SystemClock()
        return VirtualClock(memoryview(mmap.mmap(self.clock, _CLOCK_BYTES)))


def shared_clock_memory() -> int:
    """Eight bytes of zeros that processes can share, as a file descriptor."""
    descriptor = os.memfd_create("retinue-clock")
    os.truncate(descriptor, _CLOCK_BYTES)
    return descriptor
