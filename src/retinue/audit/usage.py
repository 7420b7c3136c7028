"""Who used how much: sums over audit records by day and client. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime

from msgspec import Struct

from retinue.audit.record import AuditRecord

_OK = 200
_DAY_SECONDS = 86_400


class Usage(Struct):
    """A client's requests in a day (UTC); `client` is empty for those that did not say who they were.

    `lost`: so many records are lost, up to that day; their clients are not known.
    """

    day: str
    client: str
    requests: int = 0
    answered: int = 0
    rows: int = 0
    lost: int = 0


def usage_of(records: Iterable[AuditRecord]) -> list[Usage]:
    """All days and clients, in their order. What was asked of the management listener is left out."""
    found: dict[tuple[int, str], Usage] = {}
    for record in records:
        if record.action:
            continue
        day = record.time // _DAY_SECONDS
        usage = found.get((day, record.client))
        if usage is None:
            date = f"{datetime.fromtimestamp(record.time, UTC):%Y-%m-%d}"
            usage = found[day, record.client] = Usage(date, record.client)
        if record.lost:
            usage.lost += record.lost
            continue
        usage.requests += record.stands_for
        usage.answered += record.status == _OK
        usage.rows += record.rows
    return [found[place] for place in sorted(found)]
