"""Plain accounts of Parquet files, whose values need no reading.

DuckDB tells them from the rows that `records.account_record` reads. It would read the same from plain ones.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from retinue.escaping import sql_name
from retinue.ingest.records import PROFILE_FIELDS
from retinue.ingest.values import MAX_COUNT, VISIBILITIES
from retinue.model import AccountRecord

INTEGERS = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"})

_COLUMNS = ("username", "id", "display_name", "visibility", *PROFILE_FIELDS)
_TEXTS = ("display_name", "bio_description", "avatar_url", "bio_url")
_COUNTS = ("likes_count", "video_count")


def condition(kinds: Mapping[str, str]) -> str:
    """Return in SQL whether a row is plain, given its columns' types."""
    if kinds.get("username") != "VARCHAR":
        return "false"
    conditions = ["regexp_full_match(username, '[A-Za-z0-9_.]{1,64}')"]
    conditions += [_is_plain(name, kind) for name, kind in kinds.items() if name != "username"]
    return f"coalesce({' AND '.join(conditions)}, false)"


def _is_plain(name: str, kind: str) -> str:
    column = sql_name(name)
    wanted = "false"
    if name == "id":
        wanted = "true" if kind in INTEGERS else _of_text(kind, f"regexp_full_match({column}, '[!-~]{{1,64}}')")
    elif name in _TEXTS:
        wanted = _of_text(kind, f"NOT contains({column}, chr(0))")
    elif name == "visibility":
        wanted = _of_text(kind, f"{column} IN ({', '.join(repr(word) for word in VISIBILITIES)})")
    elif name == "is_verified":
        wanted = "true" if kind == "BOOLEAN" else "false"
    elif name in _COUNTS and kind in INTEGERS:
        wanted = f"{column} BETWEEN 0 AND {MAX_COUNT}"
    return f"({column} IS NULL OR {wanted})"


def _of_text(kind: str, wanted: str) -> str:
    return wanted if kind == "VARCHAR" else "false"


def reader(names: Sequence[str]) -> Callable[[Sequence[Sequence[Any]]], Iterator[AccountRecord]]:
    """Return a reader of plain rows with these columns and a None."""
    pick = itemgetter(*(names.index(name) if name in names else len(names) for name in _COLUMNS))

    def read(rows: Sequence[Sequence[Any]]) -> Iterator[AccountRecord]:
        if not rows:
            return iter(())
        username, key, display_name, visibility, *profile = pick(list(zip(*rows, strict=True)))
        return map(AccountRecord, username, key, display_name, map(VISIBILITIES.get, visibility), *profile)

    return read
