"""Run `retinue collect` and read its tables."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb

from retinue.client import AsyncClient, RetryPolicy, Runtime
from retinue.collect import collection, journal
from retinue.collect.collector import Collector, CollectPlan, CollectResult
from retinue.collect.progress import Item, Pool
from support.commands import retinue
from support.scripted_service import Said, enveloped

SHORT = RetryPolicy(attempts=3, first_wait_seconds=0, longest_wait_seconds=0)


def asked(url: str, folder: Path, names: list[str], *more: str) -> subprocess.CompletedProcess[str]:
    """Run `retinue collect`."""
    return retinue(*arguments_of(url, folder, names, *more))


def arguments_of(url: str, folder: Path, names: list[str], *more: str) -> list[str]:
    """Return the arguments of `retinue collect` for these names."""
    file = folder.with_suffix(".txt")
    file.write_text("\n".join(names))
    access = ("--client-key", "k", "--client-secret", "s", "--server", url)
    return ["collect", "--usernames", str(file), "-o", str(folder), *access, *more]


def collected(url: str, folder: Path, plan: CollectPlan) -> CollectResult:
    """Collect in this process, without long retries."""
    folder.mkdir(exist_ok=True)

    async def run() -> CollectResult:
        progress = collection.open_collection(folder, url, 1)
        with closing(journal.Journal(folder / "pages.jsonl")) as writing:
            async with AsyncClient("k", "s", url, policy=SHORT) as client:
                return await Collector(client, writing, progress, Runtime()).run(plan)

    return asyncio.run(run())


def tables(folder: Path, query: str) -> list[Any]:
    """Return the result of a query on a folder's tables."""
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


MANY: dict[Pool, int] = {"lists": 1_000, "info": 1_000}


def places(count: int) -> list[Item]:
    """Return the following lists of `count` accounts."""
    return [Item(f"a{number}", "following") for number in range(count)]


ODD_ROWS = [
    '{"username":null,"display_name":"no name"}',
    '{"username":"ben","display_name":null}',
    "null",
    '{"username":"cut","display_name":"half an emoji \\ud83d"}',
    '{"username":"dora","display_name":"\\u0000\\u0001\\ufffe"}',
    '{"username":"with space","display_name":"x"}',
    '{"username":"anna","display_name":"herself"}',
    '{"username":"nul\\u0000byte","display_name":"x"}',
    '{"username":"@eve","display_name":"at"}',
]


def odd(path: str, _body: dict[str, Any]) -> Said:
    """Return a page with odd rows and numbers."""
    if "/info/" in path:
        return enveloped({"likes_count": 2**64, "video_count": -5, "follower_count": 3, "bio_description": None})
    error = '"error":{"code":"ok","message":"","log_id":"x"}'
    return Said(f'{{"data":{{"cursor":1,"has_more":false,"user_following":[{",".join(ODD_ROWS)}]}},{error}}}'.encode())
