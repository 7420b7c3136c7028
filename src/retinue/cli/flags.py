"""Flags that several commands share. Each flag of the CLI has an environment twin, named here and nowhere else."""

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retinue.settings import environment_name, help_of

if TYPE_CHECKING:
    from retinue.store.open import Store


def flag(name: str, text: str, *short: str, **options: Any) -> Any:
    """A `--name` (and maybe a short form) with its environment twin."""
    return typer.Option(f"--{name}", *short, envvar=environment_name(name), help=text, **options)


def require_csv(is_csv: bool, spreadsheet_safe: bool) -> None:
    """Raise `InputError` if the flag is given and nothing is written as CSV."""
    from retinue.errors import InputError

    if spreadsheet_safe and not is_csv:
        raise InputError("--spreadsheet-safe: is for CSV; give --format csv, or leave it out")


def setting(name: str, **options: Any) -> Any:
    """The flag of a server setting; its help is in the table of settings."""
    return flag(name.replace("_", "-"), help_of(name), **options)


def store_at(url: str) -> "Store":
    """Return the store that `--store` names. Raises `InputError`."""
    from retinue.store.open import open_store

    return open_store(url)


def second_of(name: str, text: str) -> int | None:
    """The time that a flag gives: a Unix second or ISO 8601; None where it is empty. Raises `InputError`."""
    from retinue.errors import InputError
    from retinue.ingest import values

    if re.fullmatch(r"(19|20)\d\d(0[1-9]|1[0-2])[0-3]\d", text):
        date = f"{text[:4]}-{text[4:6]}-{text[6:]}"
        raise InputError(f"{name}: {text} would be a Unix second of 1970; for the date write {date}")
    try:
        return values.second({name: text}, name)
    except values.BadRecord as bad:
        raise InputError(str(bad)) from None


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
