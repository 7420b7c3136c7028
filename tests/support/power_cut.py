"""A disk that loses power: what is done to the files of a folder, and what may be left of it at any instant.

SQLite's part is recorded by a VFS over the system's own, Python's by its functions for names and for `fsync`. A power
cut may lose everything that was not synced, keep it, keep any part of it, or tear a write at a sector.
"""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import pytest

SECTOR = 512
_MAKES_NAMES = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL


class Write(NamedTuple):
    """Bytes of a file, written at an offset."""

    file: int
    offset: int
    content: bytes


class Truncate(NamedTuple):
    """A file's new end."""

    file: int
    size: int


class Sync(NamedTuple):
    """The disk has all of a file."""

    file: int


class Rename(NamedTuple):
    """A name leads to another file, or (None) to no file."""

    name: str
    file: int | None


class SyncNames(NamedTuple):
    """The disk has all names of the folder."""


class Answer(NamedTuple):
    """The caller was told that a step is complete."""

    what: Any


Step = Write | Truncate | Sync | Rename | SyncNames | Answer


class Recording:
    """The writes and syncs of the files in one folder and the folders in it, in order."""

    def __init__(self, folder: Path) -> None:
        self.steps: list[Step] = []
        self._folder = folder
        self._files: dict[str, int] = {}
        self._count = 0

    def add(self, path: Path) -> None:
        """Take a file that was made otherwise, as it is: the disk has it."""
        file = self.file(path)
        self.steps += [Write(file, 0, path.read_bytes()), Sync(file), SyncNames()]

    def answer(self, what: Any = None) -> None:
        """Record that the caller was told."""
        self.steps.append(Answer(what))

    def has(self, path: str | Path) -> bool:
        """Return whether a path is in the folder."""
        return self._folder in Path(path).parents

    def file(self, path: str | Path) -> int:
        """The file to which a path leads, a new one if there is none."""
        name = self._name(path)
        if name not in self._files:
            self._count += 1
            self.lead(path, self._count)
        return self._files[name]

    def lead(self, path: str | Path, file: int | None) -> None:
        """Have a path lead to a file."""
        name = self._name(path)
        self.steps.append(Rename(name, file))
        if file is None:
            self._files.pop(name, None)
        else:
            self._files[name] = file

    def sync(self, path: str | Path) -> None:
        """The disk has a file, or the names in the folder."""
        if Path(path) == self._folder:
            self.steps.append(SyncNames())
        elif self.has(path) and not Path(path).is_dir():
            self.steps.append(Sync(self.file(path)))

    def _name(self, path: str | Path) -> str:
        return str(Path(path).relative_to(self._folder))


@contextmanager
def recorded(folder: Path) -> Iterator[Recording]:
    """Record what is done in a folder. Connections that were opened inside must be closed inside."""
    recording = Recording(folder)
    vfs = _RecordingVfs(recording)
    with pytest.MonkeyPatch.context() as patch:
        _record_python(recording, patch)
        try:
            yield recording
        finally:
            vfs.unregister()


def _record_python(recording: Recording, patch: pytest.MonkeyPatch) -> None:
    link, unlink, rename, fsync = os.link, os.unlink, os.rename, os.fsync

    def linked(source: Any, target: Any, **named: Any) -> None:
        link(source, target, **named)
        if recording.has(target):
            recording.lead(target, recording.file(source))

    def unlinked(path: Any, **named: Any) -> None:
        unlink(path, **named)
        if recording.has(path):
            recording.lead(path, None)

    def renamed(source: Any, target: Any, **named: Any) -> None:
        rename(source, target, **named)
        if recording.has(target):
            recording.lead(target, recording.file(source))
            recording.lead(source, None)

    def synced(descriptor: Any) -> None:
        fsync(descriptor)
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        recording.sync(Path(f"/proc/self/fd/{number}").readlink())

    for function, replacement in (("link", linked), ("unlink", unlinked), ("rename", renamed), ("fsync", synced)):
        patch.setattr(os, function, replacement)


class _RecordingVfs(apsw.VFS):
    """SQLite's default VFS while it is registered."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        super().__init__("recording", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None or not self._recording.has(path):
            return apsw.VFSFile("unix", name, flags)
        return _RecordingFile(self._recording, path, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - SQLite's name
        super().xDelete(filename, syncdir)
        if self._recording.has(filename):
            self._recording.lead(filename, None)
            if syncdir:
                self._recording.steps.append(SyncNames())


class _RecordingFile(apsw.VFSFile):
    """A file of the recorded folder."""

    def __init__(self, recording: Recording, path: str, name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._steps = recording.steps
        self._file = recording.file(path)
        # With its first sync of a log or journal SQLite syncs the folder too (`UNIXFILE_DIRSYNC` in os_unix.c).
        self._must_sync_names = bool(flags[0] & _MAKES_NAMES)

    def xLock(self, level: int) -> None:  # noqa: N802 - SQLite's name
        try:
            super().xLock(level)
        except apsw.IOError:
            # A file that is open for reading cannot be locked for writing. SQLite tries when it closes one, and minds
            # neither answer; but apsw would raise this one.
            raise apsw.BusyError from None

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        super().xWrite(data, offset)
        self._steps.append(Write(self._file, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        super().xTruncate(newsize)
        self._steps.append(Truncate(self._file, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        super().xSync(flags)
        self._steps.append(Sync(self._file))
        if self._must_sync_names:
            self._must_sync_names = False
            self._steps.append(SyncNames())


class Cut(NamedTuple):
    """A power cut after a number of steps. `survives` tells for each unsynced step whether the disk has it."""

    steps: int
    survives: Callable[[], bool]
    tears: Callable[[], bool] = lambda: False


def cuts_of(steps: list[Step], count: int, seed: str) -> list[Cut]:
    """Cuts right after each answer, losing all that can be lost, and so many others anywhere."""
    dice = random.Random(seed)
    answers = [number for number, step in enumerate(steps, 1) if isinstance(step, Answer)]
    cuts = [Cut(number, lambda: False) for number in answers]
    for _ in range(count):
        kept, torn = dice.choice((0.0, 0.1, 0.5, 0.9, 1.0)), dice.choice((0.0, 0.3))
        cuts.append(
            Cut(
                dice.randint(1, len(steps)),
                lambda kept=kept: dice.random() < kept,  # type: ignore[misc]
                lambda torn=torn: dice.random() < torn,  # type: ignore[misc]
            )
        )
    return sorted(cuts, key=lambda cut: cut.steps)


class _File:
    """The content of a file on the disk, and the writes that only memory has."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.waiting: list[Write | Truncate] = []

    def sync(self) -> None:
        """Write everything to the disk."""
        for step in self.waiting:
            _do(step, self.content)
        self.waiting.clear()

    def after(self, cut: Cut) -> bytearray:
        """Return the files after the power is back."""
        content = bytearray(self.content)
        for step in self.waiting:
            if cut.survives():
                _do(step, content)
            elif isinstance(step, Write) and cut.tears():
                middle = len(step.content) // SECTOR // 2 * SECTOR
                head, tail = step.content[:middle], step.content[middle:]
                part = step._replace(content=head) if cut.tears() else Write(step.file, step.offset + middle, tail)
                _do(part, content)
        return content


def _do(step: Write | Truncate, content: bytearray) -> None:
    size = step.size if isinstance(step, Truncate) else max(len(content), step.offset + len(step.content))
    if isinstance(step, Truncate):
        del content[size:]
    content.extend(bytes(size - len(content)))
    if isinstance(step, Write):
        content[step.offset : step.offset + len(step.content)] = step.content


def survivors(steps: list[Step], cuts: list[Cut]) -> Iterator[tuple[Cut, list[Any], dict[str, bytearray]]]:
    """Yield for each cut the acknowledged writes and the remaining files by name."""
    files: dict[int, _File] = {}
    names: dict[str, list[int | None]] = {}  # a name's target on the disk, then its later targets, which may be there
    answers: list[Any] = []
    done = 0
    for cut in cuts:
        for step in steps[done : cut.steps]:
            match step:
                case Write() | Truncate():
                    files.setdefault(step.file, _File()).waiting.append(step)
                case Sync():
                    files.setdefault(step.file, _File()).sync()
                case Rename():
                    names.setdefault(step.name, [None]).append(step.file)
                case SyncNames():
                    names = {name: [led[-1]] for name, led in names.items()}
                case Answer():
                    answers.append(step.what)
        done = cut.steps
        left = {name: [file for file in led[1:] if cut.survives()] or led[:1] for name, led in names.items()}
        yield (
            cut,
            answers,
            {name: files.setdefault(led[-1], _File()).after(cut) for name, led in left.items() if led[-1] is not None},
        )
