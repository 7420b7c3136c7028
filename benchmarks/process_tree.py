"""What the processes of a server use, from /proc: processor time and memory of one process and all its descendants."""

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
    """The processes and all that they started, directly or not, as far as they still run."""
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
    """Processor time of them all up to now, in user and kernel mode, of descendants that have ended too.

    A process's own figures hold those of its children only when these have ended and were waited for, so none is
    counted twice.
    """
    return sum(map(_ticks, tree(*roots))) / _TICKS_PER_SECOND


def shared_out_bytes(*roots: int) -> int:
    """Resident memory (PSS): what several processes share is divided among them, so that the sum is real memory."""
    return sum(map(_pss, tree(*roots)))


def resident_bytes(*roots: int) -> int:
    """Resident memory (RSS), with shared memory counted once: cheaper to read than PSS, for watching."""
    found = [_resident(pid) for pid in tree(*roots)]
    return sum(own for own, _ in found) + max((shared for _, shared in found), default=0)


def unlinked_bytes(*roots: int) -> int:
    """What files take on disk that have no name any more, but are open."""
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
    """Raises `Failed` where one of them is missing, so that servers and those who ask would share a core."""
    if missing := set(cores) - os.sched_getaffinity(0):
        raise Failed(f"needs two cores, one for the server and one for who asks; there is no core {min(missing)}")


@dataclass
class Peak:
    """The most that something was while it was watched."""

    value: int = 0


@contextmanager
def watched(*measures: Callable[[], int]) -> Iterator[tuple[Peak, ...]]:
    """Measure again and again while the block runs, on a thread, and keep the highest of each."""
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
    """What the files below a folder take on disk now."""
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
    """Bytes of its own or of files, and bytes shared with other processes."""
    found = dict(re.findall(r"^Rss(Anon|File|Shmem):\s+(\d+) kB$", _text(pid, "status"), re.MULTILINE))
    own, files, shared = (int(found.get(name, 0)) * 1024 for name in ("Anon", "File", "Shmem"))
    return own + files, shared


def _pss(pid: int) -> int:
    found = re.search(r"^Pss:\s+(\d+) kB$", _text(pid, "smaps_rollup"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _text(pid: int, name: str) -> str:
    """A file of a process; nothing where it has just ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""
