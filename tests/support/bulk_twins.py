"""Pairs of stores that import the same files: one row by row, the other in bulk."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import strategies as st

from retinue.ingest import bulk, staging
from retinue.ingest.importer import Import, ImportCounts, import_accounts, import_follows
from retinue.ingest.records import ACCOUNT_COLUMNS, FOLLOW_COLUMNS
from retinue.ingest.rejects import RejectsFile
from retinue.ingest.tables import open_table
from retinue.model import Direction, FollowEvent
from retinue.store.layout.columns import decode_blocks
from retinue.store.layout.sealing import unseal
from retinue.store.layout.stored_accounts import decode_account
from retinue.store.layout.tables import ACCOUNT, LISTS, KeyKind, Source, Table, first_of, second_of
from retinue.store.open import open_store
from retinue.store.sqlite import files
from retinue.store.sqlite.engine import SqliteSource
from support.frozen_clock import FrozenClock

ENTRY_TABLES = ("following", "followers", "following_hidden", "followers_hidden")
NOW = 1_700_000_000
EARLY = 1_600_000_000
Row = tuple[str, ...]
ACCOUNTS = [("a", "public"), ("b", "private"), ("c", "withheld"), ("d", "following_hidden"), ("e", "public")]
NAMES = [name for name, _ in ACCOUNTS] + ["f", "g", "новое"]


def write(path: Path, rows: Sequence[Row], columns: str) -> Path:
    """Write a CSV file, or a Parquet file with the same texts."""
    text = "".join(",".join(row) + "\n" for row in [tuple(columns.split(",")), *rows])
    table = path.with_suffix(".csv")
    table.write_text(text)
    if path.suffix == ".parquet":
        names = "{" + ", ".join(f"'{name}': 'VARCHAR'" for name in columns.split(",")) + "}"
        source = f"read_csv('{table}', auto_detect = false, header = true, columns = {names})"
        duckdb.sql(f"COPY (FROM {source}) TO '{path}' (FORMAT parquet)")
    return path


class ImportedStore:
    """A store whose files are imported row by row or in bulk."""

    def __init__(self, folder: Path, *, is_bulk: bool) -> None:
        folder.mkdir()
        self.store = str(folder / "graph.db")
        self._is_bulk = is_bulk
        open_store(self.store).create()
        self._clock = FrozenClock(NOW)
        self.writer = open_store(self.store).writer(self._clock)
        self.rejects = folder / "rejects.jsonl"

    def load(self, path: Path, columns: Any = FOLLOW_COLUMNS) -> ImportCounts:
        """Import a file and return its counts."""
        rejects = RejectsFile(self.rejects)
        run = Import(self.writer, NOW, rejects, {}, None, self.writer if self._is_bulk else None)
        importing = import_follows if columns is FOLLOW_COLUMNS else import_accounts
        with closing(open_table(path, columns)) as table, closing(rejects):
            asyncio.run(importing(run, "file", table, lambda _position: None))
        return run.counts["file"]

    def rejected(self) -> list[str]:
        """Return the lines of the rejects file."""
        return self.rejects.read_text().split("\n")[:-1] if self.rejects.exists() else []

    def contents(self) -> dict[str, list[Any]]:
        """Return the rows of all tables of lists, with accounts by key."""
        with closing(files.open_for_reading(Path(self.store), files.GRAPH)) as connection:
            source = SqliteSource(connection)
            keys = {int(key): key_of(int(key), value) for key, value in source.all_rows(ACCOUNT)}
            contents: dict[str, list[Any]] = {"account": sorted(keys.values())}
            for direction in Direction:
                tables = LISTS[direction]
                for table in (tables.visible, tables.hidden):
                    contents[table.name] = sorted(
                        (keys[owner], position, keys[account], start, end)
                        for owner, position, account, start, end in entries_of(source, table)
                    )
                for table in (tables.runs, tables.facts, tables.histories):
                    contents[table.name] = sorted(
                        (*_named(table, int(key), keys), unseal(table, key, value))
                        for key, value in source.all_rows(table)
                    )
            return contents


def key_of(account_id: int, value: bytes) -> str:
    """Return the key of a stored account."""
    account = decode_account(account_id, unseal(ACCOUNT, account_id, value))
    return account.key if account is not None else ""


def entries_of(source: Source, table: Table) -> list[tuple[int, ...]]:
    """Return the entries of a table of lists: owner, position, account, start and end."""
    rows = sorted((int(key), unseal(table, key, value)) for key, value in source.all_rows(table))
    entries = decode_blocks(table, [key for key, _ in rows], [content for _, content in rows])
    return list(zip(*(column.tolist() for column in entries), strict=True))


def _named(table: Table, key: int, keys: dict[int, str]) -> tuple[str | int, ...]:
    if table.keys is KeyKind.NUMBER:
        return (keys[key],)
    second = second_of(key)
    return keys[first_of(key)], keys[second] if table.name.endswith("history") else second


@pytest.fixture
def new_twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a factory of two stores with the same accounts and history; the second loads every file in bulk."""
    monkeypatch.setattr(bulk, "LARGE_ROWS", 0)
    monkeypatch.setattr(staging, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(staging, "NAMES_AT_ONCE", 3)
    monkeypatch.setattr(staging, "NAMES_IN_MEMORY", 5)
    monkeypatch.setattr(staging, "SAMPLED_ROWS", 4)
    numbers, opened = count(), ExitStack()

    def make(history: list[FollowEvent]) -> tuple[ImportedStore, ImportedStore, Path]:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        opened.close()  # those of the example before
        accounts = write(folder / "accounts.csv", ACCOUNTS, "username,visibility")
        twins = []
        for name, is_bulk in (("by_row", False), ("in_bulk", True)):
            twin = ImportedStore(folder / name, is_bulk=is_bulk)
            opened.callback(twin.writer.close)
            twin.load(accounts, ACCOUNT_COLUMNS)
            asyncio.run(twin.writer.apply(history, NOW))
            twins.append(twin)
        return twins[0], twins[1], folder

    with opened:
        yield make


PAIRS = st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)).filter(lambda pair: pair[0] != pair[1])
FORMS = st.sampled_from(["{}", "{}.0", "{}.", "0{}", " {}", "", "iso", "iso+00:00", "isoZ"])


def follows_in(entries: list[Any]) -> list[Any]:
    """Return entries without positions, which depend on the order of rows that claim one second."""
    return sorted((owner, account, start, end) for owner, _, account, start, end in entries)


def spell(pair: tuple[str, str], offset: int, form: str) -> Row:
    """Return a row with its time in this form."""
    at = EARLY + 1000 + offset
    if form.startswith("iso"):
        return (*pair, datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S") + form[3:])
    return (*pair, form.format(at))
