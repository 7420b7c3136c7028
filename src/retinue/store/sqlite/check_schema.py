"""A comparison of a file's tables and indexes with the declared ones."""

from collections.abc import Iterator
from contextlib import closing
from functools import cache
from importlib.resources import files as package_files

import apsw

from retinue.store.sqlite.files import Execute, Kind

# Indexes that SQLite makes for keys have no text. Its statistics (ANALYZE) change no result.
_OBJECTS = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_stat_'"

Layout = dict[tuple[str, str], str]


def differences(execute: Execute, kind: Kind) -> Iterator[str]:
    """Yield what is missing, differs or does not belong."""
    declared = _declared(kind.schema)
    layout: Layout = {(noun, name): sql for noun, name, sql in execute(_OBJECTS)}
    for noun, name in sorted(declared.keys() - layout.keys()):
        yield f"the {noun} {name} is missing"
    for noun, name in sorted(layout.keys() - declared.keys()):
        yield f"the {noun} {name!r} does not belong to a {kind.noun}"
    for noun, name in sorted(declared.keys() & layout.keys()):
        if declared[noun, name] != layout[noun, name]:
            yield f"the {noun} {name} is not declared as in schema {kind.version}"
    for (mode,) in execute("PRAGMA journal_mode"):
        if mode != "wal":
            yield f"its journal mode is {mode}: readers and the writer block each other; set it to WAL with SQLite"


@cache
def _declared(schema: str) -> Layout:
    with closing(apsw.Connection(":memory:")) as connection:
        connection.execute(package_files("retinue.store.sqlite").joinpath(schema).read_text())
        return {(str(noun), str(name)): str(sql) for noun, name, sql in connection.execute(_OBJECTS)}
