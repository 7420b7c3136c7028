"""Rejected rows: their reasons, the file they go to, and the end of an import that has nothing else."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from retinue import names
from retinue.durable import write_atomically
from retinue.errors import InputError, StoreError
from retinue.escaping import printable_lines
from retinue.ingest.records import InputTable, RawRow
from retinue.ingest.values import BadRecord, shown, unfit
from retinue.model import AccountRecord, FollowRecord
from retinue.store.contract import Verdict

FIRST_ROWS = 10_000


class Reject(Struct, frozen=True):
    """A row that was not loaded."""

    file: str
    line: int
    reason: str
    text: str


class RejectGroup(Struct):
    """The rejects of a file with the same fault: their number and the first one."""

    first: Reject
    count: int = 0


class RejectsFile:
    """Rejected rows of one import, as lines of JSON. On `close` they replace those of earlier imports.

    Several imports may run at once. Only the owner may read the file, which holds names.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.groups: dict[tuple[str, str], RejectGroup] = {}
        self._replacing = ExitStack()
        self._file: IO[bytes] | None = None

    def add(self, reject: Reject, kind: str) -> None:
        """Add a row. `kind` is its reason without values. Raises `StoreError`."""
        with self._translated():
            if self._file is None:
                unfinished = self._replacing.enter_context(write_atomically(self.path, replaces=True))
                self._file = unfinished.open("wb")
            self._file.write(printable_lines(msgspec.json.encode(reject).decode()).encode() + b"\n")
        self.count += 1
        self.groups.setdefault((reject.file, kind), RejectGroup(reject)).count += 1

    def flush(self) -> None:
        """Hand all rows to the operating system. Raises `StoreError`."""
        if self._file is not None:
            with self._translated():
                self._file.flush()

    def close(self) -> None:
        """Finish the file. Raises `StoreError`."""
        if (file := self._file) is not None:
            self._file = None
            # An erasure may have removed the file and the names in it.
            with self._translated(), suppress(FileNotFoundError), self._replacing, file:
                pass

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"{self.path}: rejected rows cannot be written: {error.strerror}") from error


class FirstRejects:
    """The first rows of a file, all rejected for one reason.

    The import ends at `FIRST_ROWS` of them, as with a wrong column.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._kind = ""
        self._count = 0

    def add(self, bad: BadRecord) -> None:
        """Count a rejected row. Raises `InputError` if the limit is reached."""
        if self._count == 0:
            self._kind = bad.kind
        if bad.kind != self._kind:
            self.stop()
        if self._count < 0:
            return
        self._count += 1
        if self._count == FIRST_ROWS:
            raise InputError(
                f"{self._file}: the first {FIRST_ROWS:,} rows are all rejected for one reason, so nothing of this file"
                f" is loaded: {bad}; {_remedy(bad.kind)}"
            )

    def stop(self) -> None:
        """Stop counting: the file is of the right kind."""
        self._count = -1


def check_first_rows(file: str, table: InputTable, read: Callable[[RawRow], object]) -> None:
    """Read rows up to the first good one. Raises `InputError` as `FirstRejects` does."""
    rejects = FirstRejects(file)
    for row in islice(table, FIRST_ROWS):
        try:
            if row.fault:
                raise row.fault
            read(row)
        except BadRecord as bad:
            rejects.add(bad)
        else:
            return


def not_stored(verdict: Verdict, record: AccountRecord | FollowRecord) -> BadRecord:
    """Return the error for a record that the store rejected."""
    if isinstance(record, AccountRecord) or verdict is Verdict.ERASED:
        return BadRecord(verdict.value)
    if verdict is Verdict.SELF_FOLLOW:
        return unfit("followee", record.followee, f"is the follower, and {verdict.value}")
    return _without_account(record)


def _without_account(record: FollowRecord) -> BadRecord:
    # A name that cannot be a username may still be a key: if both are such names, either may be the reason.
    pairs = (("follower", record.follower), ("followee", record.followee))
    faulty = [(field, name, fault) for field, name in pairs if (fault := names.fault_in_username(name))]
    if len(faulty) == 1:
        field, name, fault = faulty[0]
        return unfit(field, name, f"{fault}, and is no account's key")
    fields, words = "follower, followee", Verdict.NO_ACCOUNT.value
    values = ", ".join(shown(name) for _, name in pairs)
    return BadRecord(f"{fields}: {words}", f"{fields}: {values}: {words}")


def _remedy(kind: str) -> str:
    if "milliseconds" in kind:
        return "divide them by 1000"
    field, colon, _ = kind.partition(": ")
    if colon:
        return f"is {field} the right column?"
    return "is the file of the kind that its name says?"
