"""Clients as tables for people."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from retinue.access.clients import Shown
from retinue.model import Rate


def print_list(clients: Sequence[Shown]) -> None:
    """One line for each."""
    table = Table()
    table.add_column("client key", no_wrap=True, min_width=18)
    for heading in ("name", "contact", "status", "calls today", "rows today", "created"):
        table.add_column(heading, overflow="fold")
    for client in clients:
        used = client.used_today
        table.add_row(
            *(client.client_key, client.name, client.contact, client.status),
            f"{used.list_calls:,} of {_limit(client.list_calls)}",
            f"{used.list_rows:,} of {_limit(client.list_rows)}",
            _date(client.created_at),
        )
    _console().print(table)


def print_one(client: Shown) -> None:
    """All there is to know of one."""
    used = client.used_today
    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in (
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
        ("calls for lists today", f"{used.list_calls:,} of {_limit(client.list_calls)}"),
        ("rows of lists today", f"{used.list_rows:,} of {_limit(client.list_rows)}"),
        ("other calls today", f"{used.other_calls:,} of {_limit(client.other_calls)}"),
        ("short-term limit", _rate(client.rate)),
    ):
        table.add_row(label, text)
    _console().print(table)


def _console() -> Console:
    # What clients are called is anybody's words: no markup, no emoji codes, no colours for what looks like a number.
    return Console(markup=False, emoji=False, highlight=False)


def _limit(count: int | None) -> str:
    return "any number" if count is None else f"{count:,}"


def _rate(rate: Rate | None) -> str:
    return "none" if rate is None else f"{rate.calls:,} calls in {rate.seconds} s"


def _date(second: int | None) -> str:
    return "" if second is None else f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%S} UTC"
