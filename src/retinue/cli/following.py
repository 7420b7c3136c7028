"""`retinue following`: print an account's list, on the terminal or for other programs."""

from contextlib import closing
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from retinue.cli.commands import SpreadsheetSafe, StoreUrl, flag, require_csv, second_of, store_at
from retinue.cli.output import csv_encoder, print_exactly, warn
from retinue.errors import PrivateAccount, UnknownAccount, WithheldAccount
from retinue.escaping import printable, printable_lines
from retinue.settings import default_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from retinue.model import Direction, Query, Row
    from retinue.store.open import Store

    Encode = Callable[[Sequence[Row]], bytes]

NOT_SHOWN = 1
PAGE_ROWS = 1000


class DirectionChoice(StrEnum):
    """The values of `retinue.model.Direction`, which is imported later."""

    FOLLOWING = "following"
    FOLLOWERS = "followers"


class ListFormat(StrEnum):
    """The formats of printed rows."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"


_HELP_DIRECTION = "The accounts that it follows, or its followers."
_HELP_AS_OF = "The list as of this time: a Unix second or ISO 8601. Default now."
_HELP_FORMAT = "A table for people; JSON lines or CSV for programs."


def following(
    username: Annotated[str, typer.Argument(help="The owner of the list.")],
    url: StoreUrl = default_of("store"),
    direction: Annotated[DirectionChoice, flag("direction", _HELP_DIRECTION)] = DirectionChoice.FOLLOWING,
    as_of: Annotated[str, flag("as-of", _HELP_AS_OF, metavar="TIME")] = "",
    form: Annotated[ListFormat, flag("format", _HELP_FORMAT)] = ListFormat.TABLE,
    spreadsheet_safe: SpreadsheetSafe = False,
) -> None:
    """Print a whole list of an account, newest follow first.

    It is the list that a client of the API gets: without private and withheld accounts. If the account does not exist,
    is private or withheld, or hides the list, an error is printed instead, with exit code 1.
    """
    import asyncio

    from retinue.model import Direction, Query

    require_csv(form is ListFormat.CSV, spreadsheet_safe)
    query = Query(username, PAGE_ROWS, None, second_of("--as-of", as_of))
    encode = _encoder(form, spreadsheet_safe=spreadsheet_safe)
    try:
        asyncio.run(_print(store_at(url), query, Direction(direction), encode))
    except UnknownAccount:
        reason = "does not exist"
    except PrivateAccount:
        reason = "is private" if direction is DirectionChoice.FOLLOWERS else "is private, or hides its following list"
    except WithheldAccount:
        reason = "is withheld"
    else:
        return
    warn(f"{username}: {reason}")
    raise typer.Exit(NOT_SHOWN)


async def _print(store: "Store", query: "Query", direction: "Direction", encode: "Encode") -> None:
    """Print each page as soon as it is read."""
    from msgspec.structs import replace

    from retinue.clock import SystemClock
    from retinue.following import Following

    clock = SystemClock()
    with closing(store.graph(clock)) as graph:
        following = Following(graph, clock)
        account = await following.account(query.username)
        has_more = True
        while has_more:
            page = await following.page(account, query, direction)
            print_exactly(encode(page.rows))
            query, has_more = replace(query, cursor=page.cursor), page.has_more


def _encoder(form: ListFormat, *, spreadsheet_safe: bool) -> "Encode":
    """Return a function from the rows of a page to bytes."""
    if form is ListFormat.TABLE:
        return _table()
    if form is ListFormat.JSONL:
        from msgspec import json

        encode_lines = json.Encoder().encode_lines
        return lambda rows: printable_lines(encode_lines(rows).decode()).encode()
    encode = csv_encoder("username", "display_name", spreadsheet_safe=spreadsheet_safe)
    return lambda rows: encode((row.username, row.display_name) for row in rows)


def _table() -> "Encode":
    from retinue.cli.terminal import width_of

    heading = [("username", "display name")]

    def write(rows: "Sequence[Row]") -> bytes:
        cells = [*heading, *((row.username, printable(row.display_name)) for row in rows)]
        heading.clear()
        width = max((width_of(username) for username, _ in cells), default=0)
        lines = (f"{username}{' ' * (width - width_of(username))}  {name}".rstrip() + "\n" for username, name in cells)
        return "".join(lines).encode()

    return write
