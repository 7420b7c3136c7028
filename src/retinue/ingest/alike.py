"""Stop an import whose first rows are all rejected for one reason, such as a wrong column or a wrong unit."""

from collections.abc import Callable
from itertools import islice

from retinue.errors import InputError
from retinue.ingest.rows import RawRow, Table
from retinue.ingest.values import BadRecord

FIRST_ROWS = 10_000


def fault_of(row: RawRow) -> BadRecord:
    """Return the error for a row that is no record. Its kind has no values in it."""
    kind = row.fault.partition(":")[0]
    for general in ("unknown field", "expected a JSON object"):
        kind = general if kind.startswith(general) else kind
    return BadRecord(kind, row.fault)


class Alike:
    """The rows of a file so far, as long as all were rejected for one reason."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._kind = ""
        self._count = 0

    def reject(self, bad: BadRecord) -> None:
        """Count a row that was rejected. Raises `InputError` if they are too many."""
        if self._count == 0:
            self._kind = bad.kind
        if bad.kind != self._kind:
            self.stop()
        if self._count < 0:
            return
        self._count += 1
        if self._count == FIRST_ROWS:
            raise InputError(
                f"{self._name}: the first {FIRST_ROWS:,} rows are all rejected for one reason, so nothing of this file"
                f" is loaded: {bad}; {_remedy(bad.kind)}"
            )

    def stop(self) -> None:
        """Count no more: a row was loaded, or rejected for another reason, or for what the store holds."""
        self._count = -1


def check_beginning(name: str, table: Table, read: Callable[[RawRow], object]) -> None:
    """Read rows up to the first good one. Raises `InputError` if the first ones are all rejected for one reason."""
    alike = Alike(name)
    for row in islice(table, FIRST_ROWS):
        try:
            if not row.fault:
                read(row)
                return
            bad = fault_of(row)
        except BadRecord as error:
            bad = error
        alike.reject(bad)


def _remedy(kind: str) -> str:
    if "milliseconds" in kind:
        return "divide them by 1000"
    field, colon, _ = kind.partition(": ")
    if colon:
        return f"is {field} the right column?"
    return "is the file of the kind that its name says?"
