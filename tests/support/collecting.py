"""Run `retinue collect` and read its tables."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb

from retinue.client import AsyncClient, Outside, Policy
from retinue.collect import collection, journal
from retinue.collect.collector import Collector, Outcome, Plan
from support.commands import retinue

SHORT = Policy(attempts=3, first_wait_seconds=0, longest_wait_seconds=0)


def asked(url: str, folder: Path, names: list[str], *more: str) -> subprocess.CompletedProcess[str]:
    """Run `retinue collect`."""
    return retinue(*arguments_of(url, folder, names, *more))


def arguments_of(url: str, folder: Path, names: list[str], *more: str) -> list[str]:
    """A `retinue collect` of these names."""
    file = folder.with_suffix(".txt")
    file.write_text("\n".join(names))
    access = ("--client-key", "k", "--client-secret", "s", "--server", url)
    return ["collect", "--usernames", str(file), "-o", str(folder), *access, *more]


def collected(url: str, folder: Path, plan: Plan) -> Outcome:
    """Collect in this process, without patience."""
    folder.mkdir(exist_ok=True)

    async def run() -> Outcome:
        progress = collection.opened(folder, url, 1)
        with closing(journal.Journal(folder / "pages.jsonl")) as writing:
            async with AsyncClient("k", "s", url, policy=SHORT) as client:
                return await Collector(client, writing, progress, Outside()).run(plan)

    return asyncio.run(run())


def tables(folder: Path, query: str) -> list[Any]:
    """The result of a query on a folder's tables."""
    with closing(duckdb.connect()) as duck:
        return duck.execute(query.format(f"'{folder}/")).fetchall()


Change = Callable[[dict[str, Any]], object]


def changed_manifest(folder: Path, change: Change) -> None:
    """Edit the manifest by hand."""
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def verified(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `retinue collect verify`."""
    return retinue("collect", "verify", folder)
