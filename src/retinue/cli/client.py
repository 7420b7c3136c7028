"""`retinue client`: who may ask."""

import asyncio
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from retinue.cli.flags import AsJson, Store, flag
from retinue.model import RESEARCH_SCOPE
from retinue.settings import default_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from retinue.access.credentials import Credentials
    from retinue.model import Client
    from retinue.store.base import AccessStore

app = typer.Typer(help="Register, list and revoke clients of the API.", no_args_is_help=True)

_Result = TypeVar("_Result")


@app.command()
def create(
    name: Annotated[str, flag("name", "What to call the client, such as a research project.")],
    store: Store = default_of("store"),
    scope: Annotated[list[str] | None, flag("scope", f"A scope; may be repeated. Default {RESEARCH_SCOPE}.")] = None,
    as_json: AsJson = False,
) -> None:
    """Register a client. Its secret is shown here and never again."""
    from retinue.errors import InputError

    if not name.strip():
        raise InputError("--name: is empty")

    async def run(access: "AccessStore") -> "tuple[Client, str]":
        return await _credentials(access).create_client(name, frozenset(scope or [RESEARCH_SCOPE]))

    client, secret = _with_access(store, run)
    if as_json:
        from msgspec import json

        typer.echo(json.encode({"client_key": client.key, "client_secret": secret}).decode())
    else:
        typer.echo(f"client_key     {client.key}\nclient_secret  {secret}\nKeep the secret: it is not shown again.")


@app.command("list")
def list_(store: Store = default_of("store"), as_json: AsJson = False) -> None:
    """List all clients, oldest first."""

    async def run(access: "AccessStore") -> "list[Client]":
        return await access.clients()

    clients = _with_access(store, run)
    if as_json:
        from msgspec import json

        typer.echo(json.encode(clients).decode())
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("client key", no_wrap=True, min_width=18)
    for heading in ("name", "scopes", "created", "revoked"):
        table.add_column(heading, overflow="fold")
    for client in clients:
        table.add_row(
            client.key, client.name, " ".join(sorted(client.scopes)), _date(client.created_at), _date(client.revoked_at)
        )
    Console().print(table)


@app.command()
def revoke(
    client_key: Annotated[str, typer.Argument(help="The key that `create` printed.")],
    store: Store = default_of("store"),
) -> None:
    """End a client and all its tokens, within a second."""
    from retinue.clock import SystemClock
    from retinue.errors import InputError

    async def run(access: "AccessStore") -> bool:
        return await access.revoke_client(client_key, SystemClock().now())

    if not _with_access(store, run):
        raise InputError(f"client {client_key}: there is none with this key")
    typer.echo(f"client {client_key} is revoked")


def _with_access(store: str, run: "Callable[[AccessStore], Awaitable[_Result]]") -> _Result:
    from retinue import assemble

    async def main() -> _Result:
        with closing(assemble.open_access(store)) as access:
            return await run(access)

    return asyncio.run(main())


def _credentials(access: "AccessStore") -> "Credentials":
    from retinue import assemble
    from retinue.clock import SystemClock

    return assemble.credentials(access, SystemClock())


def _date(second: int | None) -> str:
    return "" if second is None else f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%S} UTC"
