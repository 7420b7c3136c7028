"""The configuration that a child process gets from the supervisor."""

import mmap
import os

from msgspec import Struct

from retinue.clock import Clock, SystemClock, VirtualClock
from retinue.faults import SHARED_BYTES, Faults, SharedFaults
from retinue.key_pair import KeyPair
from retinue.settings import Settings

# Exit codes of a child.
FAILED = 1
LOST_RECORDS = 3  # the child lost audit records

_CLOCK_BYTES = 8


class SharedSandbox(Struct, frozen=True):
    """The memory that all processes of a sandbox share, as file descriptors: its clock and its faults."""

    clock: int
    faults: int


class ChildConfig(Struct, frozen=True):
    """Settings, and file descriptors that the child inherits.

    They are its listener, its end of the audit socket, and the counters of audit records. `worker` is the number of a
    worker.
    """

    settings: Settings
    listener: int
    audit: int
    counters: int
    sandbox: SharedSandbox | None = None
    key_pair: KeyPair | None = None
    worker: int = 0

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All file descriptors that the child must inherit."""
        shared = () if self.sandbox is None else (self.sandbox.clock, self.sandbox.faults)
        return (self.listener, self.audit, self.counters, *shared)

    def open_clock(self) -> Clock:
        """Return the server's clock."""
        if self.sandbox is None:
            return SystemClock()
        return VirtualClock(_shared_memory(self.sandbox.clock, _CLOCK_BYTES))

    def open_faults(self) -> SharedFaults | None:
        """Return the faults of a sandbox."""
        if self.sandbox is None:
            return None
        return SharedFaults(_shared_memory(self.sandbox.faults, SHARED_BYTES))


def new_sandbox(faults: Faults) -> SharedSandbox:
    """Return a sandbox with these faults, on the machine's time."""
    sandbox = SharedSandbox(_zeros("retinue-clock", _CLOCK_BYTES), _zeros("retinue-faults", SHARED_BYTES))
    SharedFaults(_shared_memory(sandbox.faults, SHARED_BYTES)).set(faults)
    return sandbox


def _zeros(name: str, count: int) -> int:
    descriptor = os.memfd_create(name)
    os.truncate(descriptor, count)
    return descriptor


def _shared_memory(descriptor: int, count: int) -> memoryview:
    return memoryview(mmap.mmap(descriptor, count))
