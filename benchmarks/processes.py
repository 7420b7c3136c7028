"""CPU time, memory and disk space, from /proc."""

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from running import Failed

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_WATCH_SECONDS = 0.1


def tree(*roots: int) -> list[int]:
    """Return processes and all their descendants that still run."""
    found: list[int] = []
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        try:
            tasks = list(Path(f"/proc/{pid}/task").iterdir())
            waiting += [int(child) for task in tasks for child in (task / "children").read_text().split()]
        except OSError:  # it has just ended
            continue
        found.append(pid)
    return found


def cpu_seconds(*roots: int) -> float:
    """Return the CPU seconds of processes and all their descendants.

    The kernel adds a child's time to its parent only after the child has ended, so none is counted twice.
    """
    return sum(map(_ticks, tree(*roots))) / _TICKS_PER_SECOND


def proportional_bytes(*roots: int) -> int:
    """Return resident memory (PSS): the pages that processes share are divided among them."""
    return sum(map(_pss, tree(*roots)))


def resident_bytes(*roots: int) -> int:
    """Return resident memory (RSS), shared memory counted once."""
    found = [_resident(pid) for pid in tree(*roots)]
    return sum(own for own, _ in found) + max((shared for _, shared in found), default=0)


def unlinked_bytes(*roots: int) -> int:
    """Return the disk space of files that are open but deleted."""
    links = (link for pid in tree(*roots) for link in Path(f"/proc/{pid}/fd").glob("*"))
    sizes: dict[tuple[int, int], int] = {}
    for link in links:
        try:
            if str(link.readlink()).endswith("(deleted)"):
                status = link.stat()
                sizes[status.st_dev, status.st_ino] = status.st_blocks * 512
        except OSError:  # it has just been closed
            continue
    return sum(sizes.values())


def require_cores(*cores: int) -> None:
    """Raise `Failed` if a core is missing."""
    if missing := set(cores) - os.sched_getaffinity(0):
        raise Failed(f"needs a core for the server and one for the client; there is no core {min(missing)}")


@dataclass
class Peak:
    """The highest value of a measure while it was watched."""

    value: int = 0


@contextmanager
def watched(*measures: Callable[[], int]) -> Iterator[tuple[Peak, ...]]:
    """Keep the highest value of each measure during the block."""
    peaks = tuple(Peak() for _ in measures)
    has_ended = threading.Event()

    def watch() -> None:
        while not has_ended.wait(_WATCH_SECONDS):
            for peak, measure in zip(peaks, measures, strict=True):
                peak.value = max(peak.value, measure())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        has_ended.set()
        thread.join()


def folder_bytes(folder: Path) -> int:
    """Return the disk space of the files below a folder."""
    return sum(_blocks(Path(place) / name) for place, _, names in os.walk(folder) for name in names)


def _blocks(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except OSError:  # it was removed meanwhile
        return 0


def _ticks(pid: int) -> int:
    # proc(5): the name in parentheses may hold anything; utime, stime, cutime and cstime are the 12th to 15th field
    # after it.
    fields = _text(pid, "stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:15]))


def _resident(pid: int) -> tuple[int, int]:
    """Return a process's own and shared bytes."""
    found = dict(re.findall(r"^Rss(Anon|File|Shmem):\s+(\d+) kB$", _text(pid, "status"), re.MULTILINE))
    own, files, shared = (int(found.get(name, 0)) * 1024 for name in ("Anon", "File", "Shmem"))
    return own + files, shared


def _pss(pid: int) -> int:
    found = re.search(r"^Pss:\s+(\d+) kB$", _text(pid, "smaps_rollup"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _text(pid: int, name: str) -> str:
    """Return a file of a process, or "" after its end."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""
