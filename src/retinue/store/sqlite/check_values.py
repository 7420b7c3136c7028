"""Single values of the two files that readers or writers would refuse."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from retinue.access.client_rows import CLIENT_COLUMNS, SECRET_COLUMNS, checkpoint_of, client_of, secrets_of
from retinue.access.sqlite import AUDIT_CHECKPOINT
from retinue.errors import StoreUnavailable
from retinue.store.sqlite.files import Execute

_CLIENTS = f"SELECT {', '.join(CLIENT_COLUMNS + SECRET_COLUMNS)} FROM client ORDER BY id"


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


OF_ACCESS = (_wrong_clients, _wrong_checkpoint)
