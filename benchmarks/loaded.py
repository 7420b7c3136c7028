"""One measured run of a server at full load, together with what could spoil it.

Two things can: other programs of this machine that take its cores, and connections that fell unevenly on the workers
(a connection stays with the worker that accepted it, and wrk opens few). Both are in the figures of every run, so that
a run that was disturbed is seen to be.
"""

import resource
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from running import Cores, Server
from traffic import Traffic, drive

DISTURBED_CORES = 0.15  # what other programs took, from which on a run says little
_TICKS_PER_SECOND = 100  # of /proc/stat, whatever the kernel's own are
_BUSY_FIELDS = (0, 1, 2, 5, 6)  # proc(5): user, nice, system, irq, softirq


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run."""

    requests_per_second: float
    cpu_microseconds_per_request: float
    p99_milliseconds: float
    server_cores: float  # how many cores' worth of time the server used
    other_cores: float  # and all other programs but wrk
    busiest_percent: float  # the busiest worker's part of what all workers used


def run(server: Server, traffic: Traffic, seconds: int, core: Cores) -> Run:
    """Ask for so many seconds, from some cores."""
    started, busy, asking = perf_counter(), _busy_seconds(), _asking_seconds()
    before, used_before = server.worker_seconds(), server.cpu_seconds()
    outcome = drive(server, traffic, seconds, core=core)
    used = server.cpu_seconds() - used_before
    workers = [after - before[pid] for pid, after in server.worker_seconds().items()]
    others = _busy_seconds() - busy - used - (_asking_seconds() - asking)
    wall = perf_counter() - started
    return Run(
        requests_per_second=outcome.requests / outcome.seconds,
        cpu_microseconds_per_request=used / outcome.requests * 1e6,
        p99_milliseconds=outcome.p99_milliseconds,
        server_cores=used / outcome.seconds,
        other_cores=max(0.0, others / wall),
        busiest_percent=100 * max(workers) / sum(workers),
    )


def _busy_seconds() -> float:
    """What all programs have used of all cores."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    return sum(int(fields[place]) for place in _BUSY_FIELDS) / _TICKS_PER_SECOND


def _asking_seconds() -> float:
    """What programs used that we started and that have ended: wrk."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
