"""`retinue erase`."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from retinue.cli.flags import Store, flag
from retinue.settings import default_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from retinue.store.base import GraphWriter

_HELP_KEYS = "Keys (ids) of the accounts to forget."
_HELP_COMPACT = (
    "Then rewrite the store's file, so that no byte of what was erased is left in it, and remove its rejects files."
    " Others who write wait meanwhile; it needs room for a second file."
)


def erase(
    keys: Annotated[list[str] | None, typer.Argument(help=_HELP_KEYS)] = None,
    store: Store = default_of("store"),
    compact: Annotated[bool, flag("compact", _HELP_COMPACT)] = False,
) -> None:
    """Forget accounts for good: names, profile, and all follows from and to them.

    What stays is a hash of key and names under a secret of the store; by it, whatever comes for them later is
    rejected. Bytes of what was erased may linger in the files until --compact rewrites them.
    """
    import asyncio

    from retinue.errors import InputError

    keys = keys or []
    if not keys and not compact:
        raise InputError("erase: give keys of accounts, or --compact")
    asyncio.run(_erase(store, keys, compact=compact))


async def _erase(store: str, keys: list[str], *, compact: bool) -> None:
    from retinue import assemble
    from retinue.clock import SystemClock
    from retinue.durable import sync

    clock = SystemClock()
    with closing(assemble.open_graph_writer(store, clock)) as writer:
        if keys:
            await _forget(writer, keys, clock.now())
        if compact:
            await writer.compact()
            typer.echo(f"{store}: compacted")
            for path in _rejects_of(store):
                path.unlink(missing_ok=True)
                sync(path.parent)
                typer.echo(f"{path}: removed")


async def _forget(writer: "GraphWriter", keys: list[str], now: int) -> None:
    from retinue.errors import InputError
    from retinue.model import ErasureEvent
    from retinue.names import fault_in_key
    from retinue.store.base import Verdict

    meant = await writer.keys_of(keys)
    for key, owner in zip(keys, meant, strict=True):
        if owner not in (None, key):
            raise InputError(f"{key} is the username of an account whose key is {owner}; nothing was erased")
        if fault := fault_in_key(key):
            raise InputError(f"erase: {key!r} {fault}")
    verdicts = await writer.apply([ErasureEvent(key, now) for key in keys], now)
    for key, owner, verdict in zip(keys, meant, verdicts, strict=True):
        if verdict is not Verdict.ACCEPTED:
            typer.echo(f"{key}: was erased before")
        elif owner is None:
            typer.echo(f"{key}: no account has this key; should it come, it is rejected")
        else:
            typer.echo(f"{key}: erased")


def _rejects_of(store: str) -> "Iterator[Path]":
    """The rejects files of a store, also those that an import did not finish: they may hold names."""
    from retinue import assemble

    finished = assemble.rejects_path(store)
    for path in sorted(finished.parent.iterdir()):
        if path.name == finished.name or (path.name.startswith(f"{finished.name}.") and path.suffix == ".new"):
            yield path
