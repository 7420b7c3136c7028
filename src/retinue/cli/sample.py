"""`retinue generate`."""

from pathlib import Path
from typing import Annotated

import typer

from retinue.cli.flags import flag


def generate(
    accounts: Annotated[int, flag("accounts", "How many accounts.")] = 10_000,
    follows: Annotated[int, flag("follows", "How many follows.")] = 200_000,
    seed: Annotated[int, flag("seed", "The same seed gives the same bytes.", min=0)] = 1,
    output: Annotated[Path, flag("output", "Folder for accounts.csv and follows.csv.", "-o")] = Path("sample"),
) -> None:
    """Write a realistic sample graph as import files; it always holds `test_user`."""
    from retinue.sample import Size, write_sample

    for path in write_sample(Size(accounts, follows, seed), output):
        typer.echo(path)
