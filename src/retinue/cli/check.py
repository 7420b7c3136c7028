"""`retinue check`."""

from contextlib import closing

import typer

from retinue.cli.flags import AsJson, Store
from retinue.cli.output import print_json, print_line
from retinue.settings import default_of

BROKEN = 1


def check(store: Store = default_of("store"), as_json: AsJson = False) -> None:
    """Verify every invariant of a store; exit code 1 where one is broken. Changes nothing."""
    import asyncio

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


async def _examine(store: str) -> tuple[list[str], dict[str, int]]:
    from retinue import assemble
    from retinue.clock import SystemClock
    from retinue.errors import StoreUnavailable

    with closing(assemble.open_checker(store, SystemClock())) as checker:
        problems = [problem async for problem in checker.problems()]
        try:
            return problems, await checker.facts()
        except StoreUnavailable as error:
            return [*problems, f"{store}: {error}"], {}
