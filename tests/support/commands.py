"""Run `retinue` commands and read what they wrote."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from retinue.ingest.importer import ImportCounts
from retinue.model import Direction, PageRequest
from retinue.names import fold
from retinue.store.open import open_store
from support.forked import ForkServer
from support.frozen_clock import FrozenClock

_FORKS = ForkServer()


def retinue(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RETINUE_")}
    return _FORKS.run([*map(str, arguments)], {**clean, **environment})


def retinue_after(preparation: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run one command to its end in a process that has run Python code before."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RETINUE_")}
    return _FORKS.run([*map(str, arguments)], clean, preparation)


def imported(store: Path, *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    """Run an import; return its exit code and report."""
    done = retinue("import", "--store", store, "--json", *arguments)
    files = json.loads(done.stdout)
    for report in files.values():
        assert report["rejected"] == sum(reason["rows"] for reason in report.pop("reasons"))
    return done.returncode, {Path(name).name: report for name, report in files.items()}


def tally(**counts: int) -> dict[str, int]:
    """The report's entry for one file."""
    return asdict(ImportCounts(**counts))


def list_of(store: Path, name: str, direction: Direction = Direction.FOLLOWING) -> list[tuple[str, str]]:
    """Return a list, read from the store."""
    import asyncio  # noqa: PLC0415 - only here

    graph = open_store(str(store)).graph(FrozenClock())
    account = asyncio.run(graph.find_account(fold(name)))
    assert account is not None
    rows = asyncio.run(graph.read(PageRequest(account.id, direction, 1 << 40, 1_000_000))).rows
    graph.close()
    return [(row.username, row.display_name) for row in rows]


def size_of(store: Path) -> int:
    """Return the bytes written to the store so far, including its log."""
    return sum(path.stat().st_size for path in (store, store.with_name(store.name + "-wal")) if path.exists())
