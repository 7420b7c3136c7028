"""`retinue erase`."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from retinue.cli.commands import StoreUrl, flag, store_at
from retinue.cli.output import print_line
from retinue.errors import InputError
from retinue.settings import default_of
from retinue.temporary import sweep

if TYPE_CHECKING:
    from retinue.store.contract import GraphWriter
    from retinue.store.open import Store

_HELP_COMPACT = (
    "Then rewrite the store's file, so that no byte of erased data is left in it. Remove its rejects files and the"
    " leftovers of killed imports in the temporary folder. Other writers wait meanwhile. This needs disk space for a"
    " second file."
)


def erase(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys (ids) of the accounts to erase.")] = None,
    url: StoreUrl = default_of("store"),
    compact: Annotated[bool, flag("compact", _HELP_COMPACT)] = False,
) -> None:
    """Erase accounts for good: names, profile, and all follows from and to them.

    A keyed hash of key and names stays, so that later events and rows for them are rejected. Bytes of erased data may
    stay in the files until --compact rewrites them.
    """
    import asyncio

    keys = keys or []
    if not keys and not compact:
        raise InputError("erase: give keys of accounts, or --compact")
    asyncio.run(_erase(store_at(url), keys, compact=compact))


async def _erase(store: "Store", keys: list[str], *, compact: bool) -> None:
    from retinue.clock import SystemClock
    from retinue.durable import finished_name, sync

    clock = SystemClock()
    with closing(store.writer(clock)) as writer:
        report = await _forget(writer, keys, clock.now()) if keys else []
        if compact:
            await writer.compact()
            report.append(f"{store}: compacted")
            rejects = store.paths.rejects
            for path in sorted(each for each in rejects.parent.iterdir() if finished_name(each.name) == rejects.name):
                path.unlink(missing_ok=True)
                sync(path.parent)
                report.append(f"{path}: removed")
            swept = sweep()  # the leftovers of killed imports
            report += [f"{path}: removed" for path in swept.removed]
            report += [
                f"{path}: is in use by a running command, which removes it when it ends" for path in swept.remaining
            ]
    for line in report:
        print_line(line)  # at the end: output that fails must not keep a name in a file


async def _forget(writer: "GraphWriter", keys: list[str], now: int) -> list[str]:
    """Erase accounts. Return a line for each key."""
    from retinue.model import ErasureEvent
    from retinue.names import fault_in_key
    from retinue.store.contract import NotAKey, Verdict

    for key in keys:
        if fault := fault_in_key(key):
            raise InputError(f"erase: {key!r} {fault}")
    for mistake in await writer.not_keys(keys):
        if mistake is not None:
            raise InputError(f"{mistake.value}; nothing was erased")
    meant = await writer.keys_of(keys)
    decisions = await writer.apply([ErasureEvent(key, now) for key in keys], now)
    report = []
    for key, owner, decision in zip(keys, meant, decisions, strict=True):
        if isinstance(decision, NotAKey):  # another writer has just given the name to another account
            raise InputError(f"{decision.value}; it was not erased")
        if decision is Verdict.DUPLICATE:
            report.append(f"{key}: was erased before")
        elif owner != key:
            report.append(f"{key}: no account has this key; later data for it is rejected")
        else:
            report.append(f"{key}: erased")
    return report
