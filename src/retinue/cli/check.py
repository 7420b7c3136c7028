"""`retinue check`."""

from contextlib import closing
from typing import TYPE_CHECKING

import typer

from retinue.cli.flags import AsJson, StoreUrl, store_at
from retinue.cli.output import print_json, print_line
from retinue.settings import default_of

if TYPE_CHECKING:
    from retinue.store.open import Store

BROKEN = 1


def check(url: StoreUrl = default_of("store"), as_json: AsJson = False) -> None:
    """Verify every invariant of a store; exit code 1 where one is broken. Changes nothing."""
    import asyncio

    store = store_at(url)
    problems, facts = asyncio.run(_examine(store))
    if as_json:
        print_json({"problems": problems, "facts": facts})
    else:
        for problem in problems:
            print_line(problem)
        counted = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in facts.items())
        print_line(f"{store}: {counted}: {f'{len(problems)} problems' if problems else 'every invariant holds'}")
    if problems:
        raise typer.Exit(BROKEN)


async def _examine(store: "Store") -> tuple[list[str], dict[str, int]]:
    from retinue.clock import SystemClock
    from retinue.errors import StoreUnavailable

    with closing(store.checker(SystemClock())) as checker:
        problems = [problem async for problem in checker.problems()]
        try:
            return problems, await checker.facts()
        except StoreUnavailable as error:
            return [*problems, f"{store}: {error}"], {}
