"""`retinue run`."""

from functools import partial
from typing import Annotated

import typer

from retinue.cli.commands import flag
from retinue.cli.output import warn


def run(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="The command with its arguments.")],
    server: Annotated[
        str, flag("server", "URL of a Retinue server. Default: a temporary one with a sample graph.")
    ] = "",
    store: Annotated[
        str, flag("store", "Store with the graph of the temporary server; with --server, the store that it serves.")
    ] = "",
    faults: Annotated[
        str, flag("faults", "Faults of the temporary server: a profile and name=value, separated by commas.")
    ] = "",
    seed: Annotated[int, flag("seed", "Seed of the faults.", min=0)] = 0,
    allow_network: Annotated[
        bool, flag("allow-network", "Let the command reach other hosts, which are blocked by default.")
    ] = False,
    best_effort: Annotated[
        bool,
        flag(
            "best-effort",
            "Run it even if this system cannot keep its requests from reaching TikTok with your real key.",
        ),
    ] = False,
) -> None:
    """Run a command against a Retinue server in place of TikTok's.

    The exit code is the command's.
    """
    import os

    from retinue.faults import parsed
    from retinue.intercept.spawn import signals_held

    with signals_held():
        from retinue.intercept import (
            session,  # only now, as its libraries start threads while they are imported
        )

        drawn = parsed(faults, seed=seed)
        order = session.Order(command, dict(os.environ), server, allow_network, best_effort, store, drawn)
        code = session.run(order, partial(warn, source="retinue run"))
    raise typer.Exit(code)
