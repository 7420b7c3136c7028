"""`retinue backup`, `retinue store init` and `retinue store migrate`."""

from pathlib import Path
from typing import Annotated

import typer

from retinue.cli.flags import StoreUrl, flag, store_at
from retinue.cli.groups import group
from retinue.cli.output import print_line
from retinue.settings import default_of

app = group(help="Look after a store.")


def backup(
    target: Annotated[Path, typer.Argument(help="Where the copy of the graph goes; its access file goes beside it.")],
    url: StoreUrl = default_of("store"),
) -> None:
    """Copy a store while it is in use. What is at the target already is never replaced."""
    from retinue.cli.progress import bar

    store = store_at(url)
    with bar(f"copying {store}") as on_progress:
        store.back_up(target, on_progress)
    print_line(f"Copied {store} to {target}. Copy its audit log now: {store.paths.audit_folder()} is not in it.")


@app.command("init")
def init(
    url: StoreUrl = default_of("store"),
    replication: Annotated[int, flag("replication", "On how many nodes each row is kept.", min=1)] = 3,
) -> None:
    """Make a store in a cluster: a keyspace with its tables. What is there stays as it is."""
    is_made = store_at(url).create_in_cluster(replication)
    print_line(f"The store {'was made' if is_made else 'is there already'}; replicas of each row: {replication}.")


@app.command()
def migrate(url: StoreUrl = default_of("store")) -> None:
    """Bring a store that an older Retinue wrote to this one's schema. Stop its server first.

    It happens wholly or not at all; positions, and so the cursors that clients hold, stay as they are.
    """
    from retinue.cli.progress import bar

    store = store_at(url)
    with bar(f"migrating {store}") as on_progress:
        migrated = store.migrate(on_progress)
    for path, before, after in migrated:
        already = before == after
        print_line(f"{path}: schema {after} already." if already else f"{path}: schema {before} is now {after}.")
