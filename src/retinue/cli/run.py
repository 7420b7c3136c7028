"""`retinue run`."""

from functools import partial
from typing import Annotated

import typer

from retinue.cli.commands import flag
from retinue.cli.output import warn


def run(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="What to run, with its arguments.")],
    server: Annotated[
        str, flag("server", "URL of the server that answers. Default: a throw-away one with a sample graph.")
    ] = "",
    store: Annotated[
        str, flag("store", "Store whose graph the throw-away server has; with --server, the one that it serves.")
    ] = "",
    faults: Annotated[
        str, flag("faults", "Faults of the throw-away server: a profile, and name=value, with commas between.")
    ] = "",
    seed: Annotated[int, flag("seed", "Seed of what is drawn of the faults.", min=0)] = 0,
    allow_network: Annotated[
        bool, flag("allow-network", "Let the command reach other hosts too; else they are blocked.")
    ] = False,
    best_effort: Annotated[
        bool,
        flag(
            "best-effort",
            "Run it even if nothing here prevents that its requests reach TikTok with your real key.",
        ),
    ] = False,
) -> None:
    """Run a command that finds a Retinue server where it looks for TikTok's; the exit code is the command's own."""
    import os

    from retinue.faults import parsed
    from retinue.intercept.spawn import signals_held

    with signals_held():
        from retinue.intercept import (
            session,  # only now: libraries that it brings start threads while they are imported
        )

        drawn = parsed(faults, seed=seed)
        order = session.Order(command, dict(os.environ), server, allow_network, best_effort, store, drawn)
        code = session.run(order, partial(warn, source="retinue run"))
    raise typer.Exit(code)
