"""`retinue backup` and `retinue store init`."""

from pathlib import Path
from typing import Annotated

import typer

from retinue.cli.flags import Store, flag
from retinue.cli.groups import group
from retinue.cli.output import print_line
from retinue.settings import default_of

app = group(help="Look after a store.")


def backup(
    target: Annotated[Path, typer.Argument(help="Where the copy of the graph goes; its access file goes beside it.")],
    store: Store = default_of("store"),
) -> None:
    """Copy a store while it is in use. What is at the target already is never replaced."""
    from retinue import assemble
    from retinue.cli.progress import bar

    with bar(f"copying {store}") as on_progress:
        assemble.back_up(store, target, on_progress)
    print_line(f"Copied {store} to {target}. Copy its audit log now: {assemble.audit_folder(store)} is not in it.")


@app.command("init")
def init(
    store: Store = default_of("store"),
    replication: Annotated[int, flag("replication", "On how many nodes each row is kept.", min=1)] = 3,
) -> None:
    """Make a store in a cluster: a keyspace with its tables. What is there stays as it is."""
    from retinue import assemble

    is_made = assemble.create_in_cluster(store, replication)
    print_line(f"The store {'was made' if is_made else 'is there already'}; replicas of each row: {replication}.")
