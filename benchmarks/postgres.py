"""A PostgreSQL server of its own, in a folder that goes away with it; reached over a Unix socket in that folder.

Debian's clusters are neither used nor touched: only the programs of the package are.
"""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from debian import POSTGRES_BINARIES, as_servant, give_to_servant
from running import Failed

START_SECONDS = 60.0
STOP_SECONDS = 120.0

_MIB = 1024 * 1024
_USER = "benchmark"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running server: the folder of its socket, the port in its name, and its first process."""

    folder: Path
    pid: int

    @property
    def data(self) -> Path:
        """Where its files are."""
        return self.folder / "data"

    @property
    def address(self) -> str:
        """What a client connects to."""
        return f"postgresql://{_USER}@/postgres?host={self.folder}"

    async def connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        """A new connection."""
        return await asyncpg.connect(self.address)


def settings_for(memory_bytes: int) -> dict[str, str]:
    """What a good administrator would set on a machine with so much memory and a solid-state disk."""
    mebibytes = memory_bytes // _MIB
    return {
        "shared_buffers": f"{min(2048, mebibytes // 4)}MB",
        "effective_cache_size": f"{mebibytes // 2}MB",
        "maintenance_work_mem": f"{min(1024, mebibytes // 8)}MB",
        "work_mem": "32MB",
        "random_page_cost": "1.1",
        "effective_io_concurrency": "200",
        "jit": "off",  # it compiles queries that last milliseconds; these do not
        "max_connections": "50",
        "max_wal_size": "8GB",
        "checkpoint_timeout": "30min",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_parallel_maintenance_workers": "2",
    }


def make_cluster(folder: Path) -> None:
    """Write the files of an empty server into a folder."""
    give_to_servant(folder)
    command = [str(POSTGRES_BINARIES / "initdb"), "-D", str(folder / "data"), "-U", _USER, "--auth=trust"]
    # Sorting by bytes is the quickest, and what names are compared by elsewhere here.
    _run(as_servant([*command, "--encoding=UTF8", "--locale=C", "--no-sync"]))


@contextmanager
def running_cluster(
    folder: Path, extra: Mapping[str, str] | None = None, *, core: int | None = None
) -> Iterator[Cluster]:
    """The server of a folder, all of it on one core if wanted; stopped at the end of the block."""
    settings = {
        **settings_for(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        "listen_addresses": "",
        "unix_socket_directories": str(folder),
        **(extra or {}),
    }
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    command = as_servant([str(POSTGRES_BINARIES / "postgres"), "-D", str(folder / "data"), *flags])
    log = folder / "postgres.log"
    with log.open("ab") as output:
        # In a session of its own, so that Ctrl-C stops who asks it first.
        process = subprocess.Popen(
            [*pinned, *command], stdout=output, stderr=output, cwd=folder, start_new_session=True
        )
    try:
        cluster = Cluster(folder, process.pid)
        _await_start(cluster, process, log)
        yield cluster
    finally:
        _stop(process)


def _await_start(cluster: Cluster, process: "subprocess.Popen[bytes]", log: Path) -> None:
    async def try_once() -> None:
        await (await cluster.connect()).close()

    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            return asyncio.run(try_once())
        except (OSError, asyncpg.PostgresError):
            time.sleep(0.1)
    raise Failed(f"PostgreSQL did not start; it said\n{log.read_text()[-2000:]}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """A fast shutdown: sessions are ended, then a checkpoint is made."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)
        process.wait()


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        raise Failed(f"`{' '.join(command)}` failed\n{done.stdout}{done.stderr}")
