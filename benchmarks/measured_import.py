"""One `retinue import`, watched: how long it takes, in what memory, on how much disk."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from import_figures import Load
from process_tree import folder_bytes, resident_bytes, unlinked_bytes, watched
from running import Failed, command_of


@dataclass(frozen=True, slots=True)
class Work:
    """Where an import works: a folder with the store and with its temporary files."""

    folder: Path

    @property
    def store(self) -> Path:
        """The store."""
        return self.folder / "graph.db"

    @property
    def store_bytes(self) -> int:
        """What its files have."""
        return sum(path.stat().st_size for path in self.folder.glob(f"{self.store.name}*"))


def measured_import(name: str, work: Work, tables: tuple[str | Path, ...], count: int) -> Load:
    """Import files into a store and watch. Raises `Failed` unless so many rows of the last file were accepted."""
    work.folder.mkdir(exist_ok=True)
    temporary = work.folder / "tmp"
    temporary.mkdir(exist_ok=True)
    before = work.store_bytes
    command = command_of("import", "--store", work.store, "--json", *tables)
    start = time.perf_counter()
    with subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(temporary)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            with watched(*measures(process.pid, work.folder)) as (memory, disk):
                told, said = process.communicate()
        except BaseException:
            process.kill()
            raise
        seconds = time.perf_counter() - start
    if process.returncode:
        raise Failed(f"{' '.join(command)}\nended with exit code {process.returncode}\n{said.decode()}")
    accepted = {Path(path).name: tally["accepted"] for path, tally in json.loads(told).items()}
    if accepted[Path(tables[-1]).name] != count:
        raise Failed(f"{name}: of {count:,} rows these were accepted: {accepted}")
    temporary_bytes = max(0, disk.value - folder_bytes(work.folder))
    return Load(name, count, seconds, memory.value, temporary_bytes, work.store_bytes - before)


def measures(pid: int, folder: Path) -> tuple[Callable[[], int], Callable[[], int]]:
    """Memory of a process and all that descend from it, and the disk that a folder and its unlinked files take."""
    return partial(resident_bytes, pid), lambda: folder_bytes(folder) + unlinked_bytes(pid)
