"""A disk that fails at the n-th call of Python or SQLite for files below one folder.

Run as a program it is a fork server: it has imported everything, and runs commands in copies of itself, each with a
fault of its own. Files opened by Python go through `_pyio`, which is written in Python and calls `os` for everything.
"""

import _pyio  # type: ignore[import-not-found]
import builtins
import errno
import gc
import io
import json
import mmap
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import apsw

sys.path.insert(0, str(Path(__file__).parent.parent))  # as a program this file has another folder there
from support.forked import import_everything

_RANDOM = re.compile(r"[0-9a-f]{16}|tmp[a-z0-9_]{8}")
_GROWS = {"open", "write", "pwrite", "ftruncate", "posix_fallocate", "mkdir", "xOpen", "xWrite"}


@dataclass(frozen=True)
class Fault:
    """The n-th call fails (0: none does). `lasts`: the disk is full from then on, after half of a write."""

    nth: int = 0
    number: int = errno.EIO
    lasts: bool = False


class Disk:
    """Counts calls, and fails as told."""

    def __init__(self, folder: Path, fault: Fault) -> None:
        self.seen: list[str] = []
        self.callers: list[tuple[int, ...]] = []  # of each call, the lines that lead to it
        self._folder = f"{folder}/"
        self._fault = fault

    def has(self, path: Any) -> bool:
        """Whether a path is below the folder."""
        return not isinstance(path, int) and str(Path(os.fsdecode(path)).absolute()).startswith(self._folder)

    def fails(self, call: str, path: Any) -> bool:
        """Count a call; return whether it fails."""
        name = str(Path(os.fsdecode(path)).absolute()).removeprefix(self._folder)
        self.seen.append(f"{call} {_RANDOM.sub('*', name)}")
        self.callers.append(_lines())
        now = len(self.seen)
        return now == self._fault.nth or (self._fault.lasts and 0 < self._fault.nth < now and call in _GROWS)

    def meet(self, call: str, path: Any) -> None:
        """Note a call. Raises `OSError`."""
        if self.fails(call, path):
            raise OSError(self._fault.number, os.strerror(self._fault.number), os.fsdecode(path))

    def half(self, length: int) -> int:
        """How many bytes of a write still find room: half of them if it is the one that fills the disk."""
        is_the_one = self._fault.lasts and len(self.seen) + 1 == self._fault.nth
        return length // 2 if is_the_one else 0


def _lines() -> tuple[int, ...]:
    """Return the number of the line that runs in each frame."""
    return tuple(frame.f_lineno for frame, _ in traceback.walk_stack(None))


@contextmanager
def failing(folder: Path, fault: Fault) -> Iterator[Disk]:
    """Let the disk fail for this process. SQLite connections must be opened and closed inside."""
    disk = Disk(folder, fault)
    vfs = _FailingVfs(disk)
    replaced = _replacements(disk)
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    for owner, name, replacement in replaced:
        setattr(owner, name, replacement)
    try:
        yield disk
    finally:
        for owner, name, original in before:
            setattr(owner, name, original)
        vfs.unregister()


def _replacements(disk: Disk) -> list[tuple[Any, str, Any]]:
    descriptors = {name: _on_descriptor(disk, name) for name in ("pwrite", "fsync", "ftruncate", "posix_fallocate")}
    names = {name: _on_names(disk, name) for name in ("rename", "replace", "link", "mkdir")}
    calls = {**descriptors, **names, "write": _write(disk), "open": _open(disk)}
    opens = [(io, "open", _pyio.open), (builtins, "open", _pyio.open)]
    types = [(mmap, "mmap", _map_of(disk)), (apsw, "Connection", _Connection)]
    return [*((os, name, call) for name, call in calls.items()), *opens, *types]


def _path_of(descriptor: Any) -> str:
    number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
    return str(Path(f"/proc/self/fd/{number}").readlink()).removesuffix(" (deleted)")


def _on_descriptor(disk: Disk, name: str) -> Callable[..., Any]:
    original = getattr(os, name)

    def call(descriptor: Any, *values: Any) -> Any:
        path = _path_of(descriptor)
        if disk.has(path):
            disk.meet(name, path)
        return original(descriptor, *values)

    return call


def _write(disk: Disk) -> Callable[..., Any]:
    write = os.write

    def call(descriptor: int, content: Any) -> int:
        path = _path_of(descriptor)
        if disk.has(path):
            if half := disk.half(memoryview(content).nbytes):
                disk.seen.append(f"write {path}")
                disk.callers.append(_lines())
                return write(descriptor, memoryview(content).cast("B")[:half])
            disk.meet("write", path)
        return write(descriptor, content)

    return call


def _open(disk: Disk) -> Callable[..., Any]:
    opened = os.open

    def call(path: Any, flags: int, *values: Any, **named: Any) -> int:
        if flags & os.O_CREAT and disk.has(path) and not Path(path).exists():
            disk.meet("open", path)
        return opened(path, flags, *values, **named)

    return call


def _on_names(disk: Disk, name: str) -> Callable[..., Any]:
    original = getattr(os, name)

    def call(path: Any, *values: Any, **named: Any) -> Any:
        if disk.has(path) and not (name == "mkdir" and Path(path).exists()):
            disk.meet(name, values[0] if name != "mkdir" else path)
        return original(path, *values, **named)

    return call


def _map_of(disk: Disk) -> type[mmap.mmap]:
    class Map(mmap.mmap):
        """A map whose flush may fail."""

        path: str

        def __new__(cls, descriptor: int, *values: Any, **named: Any) -> Any:
            made = super().__new__(cls, descriptor, *values, **named)
            made.path = _path_of(descriptor)
            return made

        def flush(self, *values: int) -> None:
            if disk.has(self.path):
                disk.meet("msync", self.path)
            super().flush(*values)

    return Map


class _Connection(apsw.Connection):
    def close(self, *values: Any) -> None:
        # Pages that cannot be moved from the log to the file while closing stay in the log; SQLite minds that as little
        # as we do; but apsw would raise an error of a VFS in Python.
        with suppress(apsw.FullError, apsw.IOError):
            super().close(*values)


class _FailingVfs(apsw.VFS):
    """SQLite's default VFS while it is registered."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        super().__init__("failing", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None or not self._disk.has(path):
            return apsw.VFSFile("unix", name, flags)
        if flags[0] & apsw.SQLITE_OPEN_CREATE and not Path(path).exists() and self._disk.fails("xOpen", path):
            raise apsw.CantOpenError("the disk fails")
        return _FailingFile(self._disk, path, name, flags)


class _FailingFile(apsw.VFSFile):
    def __init__(self, disk: Disk, path: str, name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk
        self._path = path

    def xLock(self, level: int) -> None:  # noqa: N802 - SQLite's name
        try:
            super().xLock(level)
        except apsw.IOError:
            raise apsw.BusyError from None  # as in `power_cut.py`

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        if self._disk.fails("xWrite", self._path):
            raise apsw.FullError("database or disk is full")
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        if self._disk.fails("xTruncate", self._path):
            raise apsw.IOError("disk I/O error")
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        if self._disk.fails("xSync", self._path):
            raise apsw.IOError("disk I/O error")
        super().xSync(flags)


# --- commands ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """The result of a command, and its calls to the disk."""

    code: int
    output: str
    errors: str
    seen: list[str]


class Commands:
    """Runs commands, each in a copy of a process that has imported everything."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, folder: Path, fault: Fault, *words: str | Path) -> Done:
        """Run a command to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"folder": str(folder), "fault": asdict(fault), "words": [str(word) for word in words]}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Done(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def _serve_forks() -> None:
    import_everything()
    gc.freeze()  # a fork would copy what its garbage collector looks through
    for line in sys.stdin:
        order = json.loads(line)
        streams = [os.memfd_create(name) for name in ("output", "errors", "seen")]
        child = os.fork()
        if not child:
            os._exit(_run_in_fork(order, streams))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output, errors, seen = (os.pread(stream, 1 << 24, 0).decode(errors="replace") for stream in streams)
        for stream in streams:
            os.close(stream)
        sys.stdout.write(json.dumps(asdict(Done(code, output, errors, seen.splitlines()))) + "\n")
        sys.stdout.flush()


def _run_in_fork(order: dict[str, Any], streams: list[int]) -> int:
    from retinue.__main__ import main  # noqa: PLC0415 - imported by the parent

    null = os.open(os.devnull, os.O_RDONLY)
    for number, stream in ((0, null), (1, streams[0]), (2, streams[1])):
        os.dup2(stream, number)
    sys.argv = ["retinue", *order["words"]]
    sys.excepthook = lambda *_: None  # by these apsw shows the errors of our VFS
    sys.unraisablehook = lambda _: None
    write = os.write
    code: Any = 0
    with failing(Path(order["folder"]), Fault(**order["fault"])) as disk:
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        except BaseException:  # noqa: BLE001 - reported
            write(2, traceback.format_exc().encode())
            code = 70
    write(streams[2], "\n".join(disk.seen).encode())
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    _serve_forks()
