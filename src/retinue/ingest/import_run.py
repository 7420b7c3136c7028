"""One import: files of accounts and follows into a store."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Protocol

from msgspec import Struct, field

from retinue.clock import Clock
from retinue.ingest.importer import Import, ImportCounts, end_missing, import_accounts, import_follows
from retinue.ingest.records import ACCOUNT_COLUMNS, FOLLOW_COLUMNS, Columns, InputTable, account_of, follow_record
from retinue.ingest.rejects import RejectsFile, check_first_rows
from retinue.ingest.snapshot import Snapshot
from retinue.ingest.tables import open_table
from retinue.store.open import Store

Tables = Mapping[Path, InputTable]


class Sources(Struct, frozen=True):
    """The files to import. With `snapshot_at`, the follows are a full dump as of that second."""

    follows: Iterable[Path] = ()
    accounts: Iterable[Path] = ()
    snapshot_at: int | None = None


class ProgressBar(Protocol):
    """Shows how much of a file is loaded."""

    def update(self, completed: int) -> None:
        """Show a new value."""
        ...


class ProgressBars(Protocol):
    """Shows the progress of an import."""

    def add(self, text: str, total: int) -> ProgressBar:
        """Add a bar."""
        ...

    def note(self, text: str) -> None:
        """Show a line."""
        ...


class ImportResults(Struct):
    """The results so far, by file. `seconds` has the files that were read to their end."""

    rejects: RejectsFile
    snapshot: Snapshot | None = None
    counts: dict[str, ImportCounts] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    total_seconds: float | None = None


class ImportRun(Struct, frozen=True):
    """An import whose files are open."""

    store: Store
    clock: Clock
    accounts: Tables
    follows: Tables
    results: ImportResults

    async def load(self, bars: ProgressBars) -> None:
        """Load all files, accounts first."""
        clock, results = self.clock, self.results
        snapshot = results.snapshot
        began = clock.elapsed()
        with closing(self.store.writer(clock)) as writer:
            received_at = snapshot.at if snapshot else clock.now()
            run = Import(writer, received_at, results.rejects, results.counts, snapshot, writer, bars.note)
            for load, tables in ((import_accounts, self.accounts), (import_follows, self.follows)):
                for path, table in tables.items():
                    file_began = clock.elapsed()
                    await load(run, str(path), table, bars.add(path.name, table.size).update)
                    results.seconds[str(path)] = clock.elapsed() - file_began
            if snapshot:
                await end_missing(run, snapshot, bars.add("comparing", snapshot.rows).update)
            await writer.settle()
        results.total_seconds = clock.elapsed() - began


@contextmanager
def open_import(store: Store, sources: Sources, clock: Clock) -> Iterator[ImportRun]:
    """Open all files, then create the store if it does not exist.

    If a name, column or kind of file is wrong, raises `InputError` before the store is touched.
    """
    is_whole = sources.snapshot_at is not None
    with ExitStack() as opened:

        def tables(paths: Iterable[Path], columns: Columns) -> Tables:
            return {path: opened.enter_context(closing(open_table(path, columns, is_whole=is_whole))) for path in paths}

        accounts, follows = tables(sources.accounts, ACCOUNT_COLUMNS), tables(sources.follows, FOLLOW_COLUMNS)
        # Files whose first rows are all rejected for one reason are refused.
        received_at = clock.now()
        for path, table in accounts.items():
            check_first_rows(str(path), table, account_of)
        for path, table in follows.items():
            check_first_rows(str(path), table, lambda row: follow_record(row.values, received_at))
        store.create()
        rejects = opened.enter_context(closing(RejectsFile(store.paths.rejects)))
        snapshot = None
        if sources.snapshot_at is not None:
            snapshot = opened.enter_context(closing(Snapshot(sources.snapshot_at)))
        yield ImportRun(store, clock, accounts, follows, ImportResults(rejects, snapshot))
