"""`retinue run`."""

from typing import Annotated

import typer

from retinue.cli.flags import flag


def run(
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="What to run, with its arguments.")],
    server: Annotated[
        str, flag("server", "URL of the server that answers. Default: a throw-away one with a sample graph.")
    ] = "",
    allow_network: Annotated[
        bool, flag("allow-network", "Let the command reach other hosts too; else they are blocked.")
    ] = False,
) -> None:
    """Run a command that finds a Retinue server where it looks for TikTok's; the exit code is the command's own."""
    import os

    from retinue.redirect.launching import signals_held

    with signals_held():
        from retinue.redirect import running  # only now: libraries that it brings start threads while they are imported

        order = running.Order(command, dict(os.environ), server, allow_network)
        code = running.run(order, _say)
    raise typer.Exit(code)


def _say(line: str) -> None:
    import sys

    sys.stderr.write(f"retinue run: {line}\n")
