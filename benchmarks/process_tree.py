"""What the processes of a server use, from /proc: processor time and memory of one process and all its descendants."""

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from running import Failed

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_WATCH_SECONDS = 0.05


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
    """Resident memory (RSS): cheap to read, but counts shared memory once for each process."""
    return sum(map(_rss, tree(*roots)))


def pin(core: int, *roots: int) -> None:
    """Let all their threads run on one core only."""
    for pid in tree(*roots):
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {core})


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


def folder_bytes(folders: Iterable[Path]) -> int:
    """What the files below some folders take on disk now."""
    return sum(_blocks(path) for folder in folders for path in folder.rglob("*"))


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


def _rss(pid: int) -> int:
    fields = _text(pid, "statm").split()
    return int(fields[1]) * _PAGE_BYTES if fields else 0


def _pss(pid: int) -> int:
    found = re.search(r"^Pss:\s+(\d+) kB$", _text(pid, "smaps_rollup"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _text(pid: int, name: str) -> str:
    """A file of a process; nothing where it has just ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""
