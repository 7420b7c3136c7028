"""Single values of the two files that readers or writers would refuse."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from retinue.errors import StoreUnavailable
from retinue.model import Direction
from retinue.store.client_rows import CLIENT_COLUMNS, SECRET_COLUMNS, checkpoint_of, client_of, secrets_of
from retinue.store.rules.values import LAST_SECOND
from retinue.store.sqlite.access import AUDIT_CHECKPOINT
from retinue.store.sqlite.files import Execute

_LARGEST_ID = 2**31 - 1  # the number of a block has 31 bits for it, and 32 for a second
_LARGEST_REVISION = 2**53
# The least and the greatest value of columns, by table.
_RANGES: dict[str, dict[str, tuple[int, int]]] = {
    "account": {
        "id": (1, _LARGEST_ID),
        **dict.fromkeys(("username_at", "display_name_at", "visibility_at"), (0, LAST_SECOND)),
        "visibility": (0, 3),
        "revision": (0, _LARGEST_REVISION),
    },
    "claim": {"at": (0, LAST_SECOND)},
    "profile": {"at": (0, LAST_SECOND)},
    "moving": {"account": (1, _LARGEST_ID), "position": (0, LAST_SECOND)},
    "postdated": {"at": (0, LAST_SECOND)},
}
_DIRECTIONS = ", ".join(f"'{direction.value}'" for direction in Direction)
_CLIENTS = f"SELECT {', '.join(CLIENT_COLUMNS + SECRET_COLUMNS)} FROM client ORDER BY id"


def _wrong_numbers(execute: Execute) -> Iterator[str]:
    for table, columns in _RANGES.items():
        name = "id" if table == "account" else "account"
        for column, (least, greatest) in columns.items():
            wrong = f"SELECT {name}, {column} FROM {table} WHERE {column} NOT BETWEEN {least} AND {greatest}"
            for account, value in execute(wrong):
                yield f"account {account}: {column} in table {table} is {value}, not from {least} to {greatest}"


def _wrong_values(execute: Execute) -> Iterator[str]:
    for account, direction in execute(f"SELECT account, direction FROM moving WHERE direction NOT IN ({_DIRECTIONS})"):
        yield f"account {account}: is being moved in the direction {direction!r}, which there is not"
    if execute("SELECT length(value) FROM secret").fetchall() != [(32,)]:
        yield "the one secret of 32 bytes by which erased accounts are known is not there"


def _wrong_clients(execute: Execute) -> Iterator[str]:
    for row in execute(_CLIENTS):
        yield from _refused(lambda row: secrets_of(client_of(row), row[-len(SECRET_COLUMNS) :]), row)
    for (count,) in execute("SELECT count(*) FROM token WHERE length(digest) <> 32 HAVING count(*) > 0"):
        yield f"{count} rows of table token have a digest that is not 32 bytes long"


def _wrong_checkpoint(execute: Execute) -> Iterator[str]:
    rows = execute(AUDIT_CHECKPOINT).fetchall()
    if len(rows) != 1:
        yield f"table audit: has {len(rows)} rows instead of one"
    for row in rows:
        yield from _refused(checkpoint_of, row)


def _refused(read: Callable[[Sequence[Any]], object], row: Sequence[Any]) -> Iterator[str]:
    try:
        read(row)
    except StoreUnavailable as error:
        yield str(error)


OF_GRAPH = (_wrong_numbers, _wrong_values)
OF_ACCESS = (_wrong_clients, _wrong_checkpoint)
