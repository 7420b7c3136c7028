"""`retinue client`: register clients, with their access window and quotas."""

import re
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from retinue.cli.commands import AsJson, StoreUrl, flag, group, second_of, store_at, with_access
from retinue.cli.output import print_json, print_line, print_lines, warn
from retinue.errors import InputError, UnwritableOutput
from retinue.settings import default_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from retinue.access.clients import Clients, ClientView, Registered
    from retinue.model import ClientChange, RateLimit, RegisteredClient
    from retinue.store.open import Store

app = group(help="Register, show, change and revoke clients of the API.")

NONE = "none"
_TIMES = ("not_before", "not_after")
_DIGITS = re.compile("[0-9]{1,16}")

_Result = TypeVar("_Result")

Key = Annotated[str, typer.Argument(metavar="CLIENT_KEY", help="The key that `create` printed.")]
Contact = Annotated[str | None, flag("contact", "Contact, such as an e-mail address.")]
Notes = Annotated[str | None, flag("notes", "Notes for operators.")]
Scopes = Annotated[list[str] | None, flag("scope", "A scope; may be repeated. Default research.data.basic.")]
NotBefore = Annotated[
    str | None, flag("not-before", "Begin of the access window: Unix seconds, ISO 8601, or `none`.", metavar="TIME")
]
NotAfter = Annotated[str | None, flag("not-after", "End of the access window; the same forms.", metavar="TIME")]
ListCalls = Annotated[
    str | None, flag("list-calls", "Calls a day for following and followers together, or `none`.", metavar="N")
]
ListRows = Annotated[str | None, flag("list-rows", "Rows a day of those lists, or `none`.", metavar="N")]
OtherCalls = Annotated[str | None, flag("other-calls", "All other calls a day, or `none`.", metavar="N")]
RateFlag = Annotated[
    str | None, flag("rate", "Short-term limit as CALLS/SECONDS, such as 600/60, or `none`.", metavar="N/S")
]
NoQuota = Annotated[bool, flag("no-quota", "No quota and no short-term limit: for tests and benchmarks.")]


@app.command()
def create(
    name: Annotated[str, flag("name", "Name of the client, such as its research project.")],
    url: StoreUrl = default_of("store"),
    contact: Contact = None,
    notes: Notes = None,
    scopes: Scopes = None,
    not_before: NotBefore = None,
    not_after: NotAfter = None,
    list_calls: ListCalls = None,
    list_rows: ListRows = None,
    other_calls: OtherCalls = None,
    rate: RateFlag = None,
    no_quota: NoQuota = False,
    as_json: AsJson = False,
) -> None:
    """Register a client. Its secret is shown here and never again.

    Default quotas are TikTok's: 20,000 calls and 2,000,000 rows of lists a day, 1,000 other calls.
    """
    change = _change(locals())
    _show_secret(_with_clients(store_at(url), lambda clients: clients.create(change)), as_json=as_json)


@app.command()
def change(
    client_key: Key,
    url: StoreUrl = default_of("store"),
    name: Annotated[str | None, flag("name", "Name of the client.")] = None,
    contact: Contact = None,
    notes: Notes = None,
    scopes: Scopes = None,
    not_before: NotBefore = None,
    not_after: NotAfter = None,
    list_calls: ListCalls = None,
    list_rows: ListRows = None,
    other_calls: OtherCalls = None,
    rate: RateFlag = None,
    no_quota: NoQuota = False,
    as_json: AsJson = False,
) -> None:
    """Change the given fields. A running server follows within a second."""
    from retinue.model import ClientChange

    change = _change(locals())
    if change == ClientChange():
        raise InputError("client change: give at least one flag to change")
    _act(store_at(url), client_key, lambda clients: clients.change(client_key, change), as_json=as_json)


@app.command()
def show(client_key: Key, url: StoreUrl = default_of("store"), as_json: AsJson = False) -> None:
    """Show a client and its usage of today."""
    _act(store_at(url), client_key, lambda clients: clients.get(client_key), as_json=as_json)


@app.command("list")
def list_(url: StoreUrl = default_of("store"), as_json: AsJson = False) -> None:
    """List all clients, oldest first."""
    from retinue.cli import client_tables

    store = store_at(url)
    clients = _shown(store, _with_clients(store, lambda clients: clients.all()))
    if as_json:
        print_json(clients)
    else:
        client_tables.print_list(clients)


@app.command()
def rotate(
    client_key: Key,
    url: StoreUrl = default_of("store"),
    grace: Annotated[int, flag("grace", "Seconds for which the former secret stays valid.", metavar="SECONDS")] = 24
    * 3600,
    as_json: AsJson = False,
) -> None:
    """Give a client a new secret, which is shown once. Its tokens stay valid."""
    _show_secret(_with_clients(store_at(url), lambda clients: clients.rotate(client_key, grace)), as_json=as_json)


@app.command()
def suspend(client_key: Key, url: StoreUrl = default_of("store"), as_json: AsJson = False) -> None:
    """Suspend a client and its tokens until it is resumed.

    A running server follows within a second.
    """
    _act(store_at(url), client_key, lambda clients: clients.suspend(client_key), as_json=as_json, done="is suspended")


@app.command()
def resume(client_key: Key, url: StoreUrl = default_of("store"), as_json: AsJson = False) -> None:
    """Resume a suspended client with its unexpired tokens."""
    _act(store_at(url), client_key, lambda clients: clients.resume(client_key), as_json=as_json, done="is resumed")


@app.command()
def revoke(client_key: Key, url: StoreUrl = default_of("store"), as_json: AsJson = False) -> None:
    """Revoke a client and all its tokens for good.

    A running server follows within a second.
    """
    _act(store_at(url), client_key, lambda clients: clients.revoke(client_key), as_json=as_json, done="is revoked")


# --- flags ----------------------------------------------------------------------------------------------------------


def _change(flags: "Mapping[str, Any]") -> "ClientChange":
    """Return the change that the flags of a command describe. Raises `InputError`."""
    from retinue.model import ClientChange, Quota

    limits = Quota.__struct_fields__
    given = {name: flags[name] for name in ClientChange.__struct_fields__ if flags[name] not in (None, [])}
    if flags["no_quota"] and given.keys() & limits:
        raise InputError("--no-quota: leave out the other limits")
    fields = {name: _limit(name, text) if name in limits else _field(name, text) for name, text in given.items()}
    return ClientChange(**fields | (dict.fromkeys(limits) if flags["no_quota"] else {}))


def _field(name: str, value: "str | list[str]") -> "str | frozenset[str] | int | None":
    if not isinstance(value, str):
        return frozenset(value)
    if name not in _TIMES:
        return value
    return None if value == NONE else second_of(_flag_name(name), value)


def _limit(name: str, text: str) -> "int | RateLimit | None":
    from retinue.model import RateLimit

    if text == NONE:
        return None
    calls, separator, seconds = text.partition("/")
    is_rate = name == "rate"
    if is_rate != bool(separator) or not all(_DIGITS.fullmatch(part) for part in (calls, seconds or "0")):
        form = "CALLS/SECONDS, such as 600/60" if is_rate else "a number"
        raise InputError(f"{_flag_name(name)} {text}: expected {form}, or {NONE} for no limit")
    return RateLimit(int(calls), int(seconds)) if is_rate else int(calls)


def _flag_name(field: str) -> str:
    return f"--{field.replace('_', '-')}"


# --- acting and showing ---------------------------------------------------------------------------------------------


def _with_clients(store: "Store", use: "Callable[[Clients], Awaitable[_Result]]") -> _Result:
    from retinue import wiring
    from retinue.clock import SystemClock

    return with_access(store, lambda access: use(wiring.clients(access, SystemClock())))


def _act(
    store: "Store",
    client_key: str,
    run: "Callable[[Clients], Awaitable[RegisteredClient]]",
    *,
    as_json: bool,
    done: str = "",
) -> None:
    """Act on a client, then show it, or print `done`."""
    from retinue.cli import client_tables

    client = _with_clients(store, run)
    if done and not as_json:
        print_line(f"client {client_key} {done}")
        return
    (seen,) = _shown(store, [client])
    if as_json:
        print_json(seen)
    else:
        client_tables.print_one(seen)


def _shown(store: "Store", clients: "Sequence[RegisteredClient]") -> "list[ClientView]":
    from retinue.access.clients import view_of
    from retinue.access.quotas import Quotas
    from retinue.clock import SystemClock
    from retinue.model import Usage

    clock, file = SystemClock(), store.paths.quotas
    if not file.exists():
        if with_access(store, lambda access: access.audit_checkpoint()).count:  # a server has run
            warn(f"{file} is missing: today's usage is not known; a server counts it from the audit log when it starts")
        return [view_of(client, Usage(), clock.now()) for client in clients]
    with closing(store.quotas()) as counters:
        quotas = Quotas(counters, clock)
        return [view_of(client, quotas.usage_today(client), clock.now()) for client in clients]


def _show_secret(registered: "Registered", *, as_json: bool) -> None:
    key, secret = registered.client.key, registered.secret
    try:
        if as_json:
            print_json({"client_key": key, "client_secret": secret})
        else:
            print_lines(f"client_key     {key}\nclient_secret  {secret}\nKeep the secret: it is not shown again.\n")
    except UnwritableOutput as error:
        fate = f"client {key} has a new secret that could not be shown; `retinue client rotate` it"
        raise InputError(f"{error}; {fate}") from None
