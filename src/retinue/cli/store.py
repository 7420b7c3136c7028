"""`retinue check`, `retinue backup` and `retinue store init`."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retinue.cli.commands import AsJson, StoreUrl, flag, group, store_at
from retinue.cli.output import print_json, print_line
from retinue.errors import StoreUnavailable
from retinue.settings import default_of

if TYPE_CHECKING:
    from retinue.store.open import Store

app = group(help="Look after a store.")

BROKEN = 1


def check(url: StoreUrl = default_of("store"), as_json: AsJson = False) -> None:
    """Verify every invariant of a store. Exit code 1 if one is broken."""
    import asyncio

    store = store_at(url)
    problems, facts = asyncio.run(_examine(store))
    if as_json:
        print_json({"problems": problems, "facts": facts})
    else:
        for problem in problems:
            print_line(problem)
        counts = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in facts.items())
        print_line(f"{store}: {counts}: {f'{len(problems)} problems' if problems else 'every invariant holds'}")
    if problems:
        raise typer.Exit(BROKEN)


async def _examine(store: "Store") -> tuple[list[str], dict[str, int]]:
    from retinue.clock import SystemClock
    from retinue.wire.rendering import ROW_ENCODING

    with closing(store.checker(SystemClock(), ROW_ENCODING)) as checker:
        problems = [problem async for problem in checker.problems()]
        try:
            return problems, await checker.facts()
        except StoreUnavailable as error:
            return [*problems, f"{store}: {error}"], {}


def backup(
    target: Annotated[Path, typer.Argument(help="Path of the copy of the graph; its access file goes beside it.")],
    url: StoreUrl = default_of("store"),
) -> None:
    """Copy a store while it is in use. An existing file is never replaced."""
    from retinue.cli.terminal import bar

    store = store_at(url)
    with bar(f"copying {store}") as on_progress:
        store.back_up(target, on_progress)
    print_line(f"Copied {store} to {target}. Copy its audit log now: {store.paths.audit_folder()} is not in it.")


@app.command("init")
def init(
    url: StoreUrl = default_of("store"),
    replication: Annotated[int, flag("replication", "Number of nodes that keep each row.", min=1)] = 3,
) -> None:
    """Create a store in a cluster: a keyspace with its tables. An existing store stays as it is."""
    is_new = store_at(url).create_in_cluster(replication)
    print_line(f"The store {'was created' if is_new else 'already exists'}; replicas of each row: {replication}.")
