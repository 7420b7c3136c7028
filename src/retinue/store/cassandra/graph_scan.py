"""Reads of a whole graph from its keyspace. Each row is as it was when it was read."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from msgspec import json

from retinue.model import AccountRecord, Visibility
from retinue.store.bulk import Intervals
from retinue.store.cassandra.session import Row, Session
from retinue.store.cassandra.table_definitions import PLACED_INTERVALS
from retinue.store.cassandra.table_scan import scan

_ROWS_AT_ONCE = 5_000
_ACCOUNT = "id, key, folded, username, display_name, visibility, said"
_PAIR = f"follower, followee, {PLACED_INTERVALS}"


class CassandraGraphScan:
    """A `GraphScan`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def close(self) -> None:
        self._session.close()

    def accounts(self) -> Iterator[list[tuple[int, AccountRecord]]]:
        rows = scan(self._session, _ACCOUNT, "account", "id")
        while part := list(islice(rows, _ROWS_AT_ONCE)):
            yield [(row[0], _record(row)) for row in part if row[1] is not None]

    def intervals(self, *, with_ended: bool) -> Iterator[Intervals]:
        rows = scan(self._session, _PAIR, "pair", "follower")
        while part := list(islice(rows, _ROWS_AT_ONCE)):
            found = [
                (follower, followee, *placed)
                for follower, followee, placed_intervals in part
                for placed in placed_intervals or ()
                if with_ended or placed[1] == 0
            ]
            yield Intervals(*np.array(found, np.int64).reshape(-1, len(Intervals._fields)).T)


def _record(row: Row) -> AccountRecord:
    _, key, folded, username, display_name, visibility, said = row
    fields = {field: value for field, (_, value) in json.decode(said or "{}").items()}
    return AccountRecord(username if folded else None, key, display_name or "", Visibility(visibility), **fields)
