"""Clients as tables for people."""

from collections.abc import Sequence
from datetime import UTC, datetime

from retinue.access.clients import ClientView
from retinue.cli.terminal import TableColumn, print_table


def print_list(clients: Sequence[ClientView]) -> None:
    """Print a line of at most 80 columns for each client."""
    columns = [TableColumn("client key", is_whole=True), TableColumn("name"), TableColumn("status")]
    columns += [TableColumn("calls for lists today", "right"), TableColumn("created", is_whole=True)]
    rows = (
        (client.client_key, client.name, client.status, _list_calls(client), _date(client.created_at)[:10])
        for client in clients
    )
    print_table(columns, rows)


def print_one(client: ClientView) -> None:
    """Print all fields of a client."""
    used, rate = client.used_today, client.rate
    rows = (
        ("client key", client.client_key),
        ("name", client.name),
        ("contact", client.contact),
        ("notes", client.notes),
        ("scopes", " ".join(client.scopes)),
        ("status", client.status),
        ("created", _date(client.created_at)),
        ("access window", f"{_date(client.not_before) or 'any time'} to {_date(client.not_after) or 'any time'}"),
        ("suspended", _date(client.suspended_at)),
        ("revoked", _date(client.revoked_at)),
        ("calls for lists today", _list_calls(client)),
        ("rows of lists today", f"{used.list_rows:,} of {_limit(client.list_rows)}"),
        ("other calls today", f"{used.other_calls:,} of {_limit(client.other_calls)}"),
        ("short-term limit", f"{rate.calls:,} calls in {rate.seconds} s" if rate else "none"),
    )
    print_table([TableColumn(is_whole=True), TableColumn()], rows)


def _list_calls(client: ClientView) -> str:
    return f"{client.used_today.list_calls:,} of {_limit(client.list_calls)}"


def _limit(count: int | None) -> str:
    return "any number" if count is None else f"{count:,}"


def _date(second: int | None) -> str:
    return "" if second is None else f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%S} UTC"
