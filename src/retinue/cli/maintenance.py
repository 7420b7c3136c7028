"""`retinue backup`, `retinue store init` and `retinue store migrate`."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retinue.cli.flags import Store, flag
from retinue.cli.groups import group
from retinue.settings import default_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

app = group(help="Look after a store.")


def backup(
    target: Annotated[Path, typer.Argument(help="Where the copy of the graph goes; its access file goes beside it.")],
    store: Store = default_of("store"),
) -> None:
    """Copy a store while it is in use. What is at the target already is never replaced."""
    from retinue import assemble

    with _bar(f"copying {store}") as on_progress:
        assemble.back_up(store, target, on_progress)
    typer.echo(f"Copied {store} to {target}.")


@app.command("init")
def init(
    store: Store = default_of("store"),
    replication: Annotated[int, flag("replication", "On how many nodes each row is kept.", min=1)] = 3,
) -> None:
    """Make a store in a cluster: a keyspace with its tables. What is there stays as it is."""
    from retinue import assemble

    assemble.create_in_cluster(store, replication)
    typer.echo("The store is there.")


@app.command()
def migrate(store: Store = default_of("store")) -> None:
    """Bring a store that an older Retinue wrote to this one's schema. Stop its server first.

    It happens wholly or not at all; positions, and so the cursors that clients hold, stay as they are.
    """
    from retinue import assemble

    with _bar(f"migrating {store}") as on_progress:
        migrated = assemble.migrate_store(store, on_progress)
    for path, before, after in migrated:
        already = before == after
        typer.echo(f"{path}: schema {after} already." if already else f"{path}: schema {before} is now {after}.")


@contextmanager
def _bar(text: str) -> "Iterator[Callable[[int, int], None]]":
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(text, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
