"""`retinue following`: an account's list, on the terminal or for other programs."""

from contextlib import closing
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from retinue.cli.flags import SpreadsheetSafe, Store, flag, require_csv, second_of
from retinue.cli.output import csv_encoder, print_exactly, warn
from retinue.escaping import printable, printable_lines
from retinue.settings import default_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from retinue.model import Direction, Query, Row

    Encode = Callable[[Sequence[Row]], bytes]

NOT_SHOWN = 1
PAGE_ROWS = 1000


class Side(StrEnum):
    """The values of `retinue.model.Direction`, which is only imported when a list is printed."""

    FOLLOWING = "following"
    FOLLOWERS = "followers"


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"


_HELP_DIRECTION = "Whom the account follows, or its followers."
_HELP_AS_OF = "The list as it stood at this time: a Unix second or ISO 8601. Default now."
_HELP_FORMAT = "A table for people; JSON lines or CSV for programs."


def following(
    username: Annotated[str, typer.Argument(help="The account whose list is wanted.")],
    store: Store = default_of("store"),
    direction: Annotated[Side, flag("direction", _HELP_DIRECTION)] = Side.FOLLOWING,
    as_of: Annotated[str, flag("as-of", _HELP_AS_OF, metavar="TIME")] = "",
    form: Annotated[Format, flag("format", _HELP_FORMAT)] = Format.TABLE,
    spreadsheet_safe: SpreadsheetSafe = False,
) -> None:
    """Print a whole list of an account, newest follow first.

    It is what a client of the API would get: private and withheld accounts are no rows, and for an account that is
    unknown, private or withheld, or that hides the list, there is an error instead, with exit code 1.
    """
    import asyncio

    from retinue.errors import AccountNotFound, AccountPrivate, AccountWithheld
    from retinue.model import Direction, Query

    require_csv(form is Format.CSV, spreadsheet_safe)
    query = Query(username, PAGE_ROWS, None, second_of("--as-of", as_of))
    try:
        asyncio.run(_print(store, query, Direction(direction), _encoder(form, spreadsheet_safe=spreadsheet_safe)))
    except AccountNotFound:
        reason = "there is no such account"
    except AccountPrivate:
        reason = "is private" if direction is Side.FOLLOWERS else "is private, or hides its following list"
    except AccountWithheld:
        reason = "is withheld"
    else:
        return
    warn(f"{username}: {reason}")
    raise typer.Exit(NOT_SHOWN)


async def _print(store: str, query: "Query", direction: "Direction", encode: "Encode") -> None:
    """Print page after page, each as soon as it is read."""
    async for page in _pages(store, query, direction):
        print_exactly(encode(page))


async def _pages(store: str, query: "Query", direction: "Direction") -> "AsyncIterator[Sequence[Row]]":
    from msgspec.structs import replace

    from retinue import assemble
    from retinue.clock import SystemClock
    from retinue.following import Following

    clock = SystemClock()
    with closing(assemble.open_graph(store, clock)) as graph:
        following = Following(graph, clock)
        account = await following.account(query.username)
        has_more = True
        while has_more:
            page = await following.page(account, query, direction)
            yield page.rows
            query, has_more = replace(query, cursor=page.cursor), page.has_more


def _encoder(form: Format, *, spreadsheet_safe: bool) -> "Encode":
    match form:
        case Format.TABLE:
            return _table()
        case Format.JSONL:
            return _jsonl()
        case Format.CSV:
            return _csv(spreadsheet_safe=spreadsheet_safe)


# Each of these makes a function from the rows of a page to the bytes to print.


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


def _jsonl() -> "Encode":
    from msgspec import json

    encode_lines = json.Encoder().encode_lines
    return lambda rows: printable_lines(encode_lines(rows).decode()).encode()


def _csv(*, spreadsheet_safe: bool) -> "Encode":
    encode = csv_encoder("username", "display_name", spreadsheet_safe=spreadsheet_safe)
    return lambda rows: encode((row.username, row.display_name) for row in rows)
