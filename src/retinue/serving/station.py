"""What a child process is given by the supervisor: settings, its listener, and what all processes share."""

import mmap
import os
import socket

from msgspec import Struct

from retinue.audit.record_counters import RecordCounters
from retinue.clock import Clock, SystemClock, VirtualClock
from retinue.faults import SHARED_BYTES, Faults, SharedFaults
from retinue.key_pair import KeyPair
from retinue.settings import Settings

# Exit codes of a child.
FAILED = 1
LOST_RECORDS = 3  # it had to leave audit records behind

_CLOCK_BYTES = 8


class Sandbox(Struct, frozen=True):
    """What all processes of a sandbox share: the memory of its clock and that of its faults, as file descriptors."""

    clock: int
    faults: int


class Station(Struct, frozen=True):
    """Settings, and file descriptors that the child inherits."""

    settings: Settings
    listener: int
    audit: int
    counters: int
    sandbox: Sandbox | None = None
    key_pair: KeyPair | None = None
    worker: int = 0  # which of the workers it is

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All that the child must inherit."""
        shared = () if self.sandbox is None else (self.sandbox.clock, self.sandbox.faults)
        return (self.listener, self.audit, self.counters, *shared)

    def open_listener(self) -> socket.socket:
        """The listening socket."""
        return socket.socket(fileno=self.listener)

    def open_audit(self) -> socket.socket:
        """This role's end of the audit socket."""
        return socket.socket(fileno=self.audit)

    def open_counters(self) -> RecordCounters:
        """The counters of audit records."""
        return RecordCounters(self.counters)

    def open_clock(self) -> Clock:
        """The server's clock."""
        if self.sandbox is None:
            return SystemClock()
        return VirtualClock(_shared_memory(self.sandbox.clock, _CLOCK_BYTES))

    def open_faults(self) -> SharedFaults | None:
        """The faults of a sandbox; None where there is none."""
        if self.sandbox is None:
            return None
        return SharedFaults(_shared_memory(self.sandbox.faults, SHARED_BYTES))


def new_sandbox(faults: Faults) -> Sandbox:
    """A sandbox whose clock is the machine's so far, with these faults."""
    sandbox = Sandbox(_zeros("retinue-clock", _CLOCK_BYTES), _zeros("retinue-faults", SHARED_BYTES))
    SharedFaults(_shared_memory(sandbox.faults, SHARED_BYTES)).set(faults)
    return sandbox


def _zeros(name: str, count: int) -> int:
    """So many bytes of zeros that processes can share, as a file descriptor."""
    descriptor = os.memfd_create(name)
    os.truncate(descriptor, count)
    return descriptor


def _shared_memory(descriptor: int, count: int) -> memoryview:
    return memoryview(mmap.mmap(descriptor, count))
