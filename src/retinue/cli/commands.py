"""How commands are declared: groups, and flags that several commands share. It does not import any command.

Each flag has an environment twin, named here and nowhere else.
"""

import re
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

from retinue.errors import InputError
from retinue.settings import environment_name, help_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from retinue.store.open import OpenAccess, Store

_WIDEST_HELP = 120

_Result = TypeVar("_Result")


class _Group(TyperGroup):
    """A group whose own flags, such as --help, are off by default.

    Without a default Typer imports pydantic to find out, which takes longer than everything else.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the flags of the group itself."""
        params: list[Any] = super().get_params(ctx)
        for param in params:
            if param.default is None and param.is_flag:
                param.default = False
        return params


def group(**named: Any) -> typer.Typer:
    """Return an empty group of commands."""
    return typer.Typer(
        cls=_Group,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # importing rich and drawing boxes would take as long as everything else
        context_settings={"max_content_width": _WIDEST_HELP},
        **named,
    )


def flag(name: str, text: str, *short: str, **options: Any) -> Any:
    """Declare `--name`, perhaps with a short form, and its environment twin."""
    return typer.Option(f"--{name}", *short, envvar=environment_name(name), help=text, **options)


def setting(name: str, **options: Any) -> Any:
    """Declare the flag of a server setting."""
    return flag(name.replace("_", "-"), help_of(name), **options)


StoreUrl = Annotated[str, setting("store")]
SpreadsheetSafe = Annotated[
    bool,
    flag(
        "spreadsheet-safe",
        "In CSV, put an apostrophe before each text that a spreadsheet would take for a formula (it begins with = + - @"
        " or a control character) or that begins with an apostrophe. An import takes it as part of the text.",
    ),
]
AsJson = Annotated[bool, flag("json", "Print JSON for programs instead of a table for people.")]


def store_at(url: str) -> "Store":
    """Return the store that `--store` names. Raises `InputError`."""
    from retinue.store.open import open_store

    return open_store(url)


def with_access(store: "Store", use: "Callable[[OpenAccess], Awaitable[_Result]]") -> "_Result":
    """Run a coroutine that uses a store's access file or tables."""
    import asyncio

    async def main() -> "_Result":
        with closing(store.access()) as access:
            return await use(access)

    return asyncio.run(main())


def require_csv(is_csv: bool, spreadsheet_safe: bool) -> None:
    """Raise `InputError` if `--spreadsheet-safe` is given without CSV."""
    if spreadsheet_safe and not is_csv:
        raise InputError("--spreadsheet-safe: is for CSV; give --format csv, or leave it out")


def second_of(name: str, text: str) -> int | None:
    """Return the second in a flag (Unix second or ISO 8601).

    None if it is empty. Raises `InputError`.
    """
    from retinue.ingest import values

    if re.fullmatch(r"(19|20)\d\d(0[1-9]|1[0-2])[0-3]\d", text):
        date = f"{text[:4]}-{text[4:6]}-{text[6:]}"
        raise InputError(f"{name}: {text} would be a Unix second of 1970; for the date write {date}")
    try:
        return values.second({name: text}, name)
    except values.BadRecord as bad:
        raise InputError(str(bad)) from None
