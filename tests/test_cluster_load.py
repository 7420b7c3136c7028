"""Large files in a cluster: groups of follows, each whole or not at all, and a killed import that resumes."""

import asyncio
import random
from contextlib import closing, suppress
from pathlib import Path

import pytest

from retinue.errors import StoreUnavailable
from retinue.ingest import bulk
from retinue.ingest.importer import Import, import_follows
from retinue.ingest.records import FOLLOW_COLUMNS
from retinue.ingest.rejects import RejectsFile
from retinue.ingest.tables import open_table
from retinue.model import FollowEvent
from retinue.store import writer as writers
from retinue.store.layout.sealing import unseal
from retinue.store.layout.tables import ACCOUNT, LISTS, first_of, second_of
from retinue.store.writer import EngineGraphWriter
from support.bulk_twins import entries_of, key_of
from support.clusters import NOW, ClusterStore, Kill, Stop, run

HISTORY = [FollowEvent("n1", "n2", 900, is_follow=True), FollowEvent("n1", "n2", 950, is_follow=False)]


@pytest.fixture
def many(tmp_path: Path, chance: random.Random, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of follows: repeated, at equal seconds, of a known pair, or without a time."""
    monkeypatch.setattr(bulk, "LARGE_ROWS", 0)
    monkeypatch.setattr(writers, "GROUP_SIZE", 20)
    rows = ["n1,n2,1000000000", "n3,n3,1000000000"]
    for _ in range(60):
        second = chance.choice(["", str(1_000_000_000 + chance.randrange(20))])
        rows.append(f"n{chance.randrange(9)},n{chance.randrange(9)},{second}")
    path = tmp_path / "follows.csv"
    path.write_text("\n".join(["follower,followee,followed_at", *rows]) + "\n")
    return path


def load(writer: EngineGraphWriter, path: Path, *, is_bulk: bool = True) -> tuple[int, int]:
    """Import a file; return how many rows were new, and how many not."""
    rejects = RejectsFile(path.with_suffix(".rejects"))
    importing = Import(writer, NOW, rejects, {}, None, writer if is_bulk else None)
    with closing(open_table(path, FOLLOW_COLUMNS)) as table, closing(rejects):
        asyncio.run(import_follows(importing, "file", table, lambda _position: None))
    counts = importing.counts["file"]
    return counts.accepted, counts.duplicate


def lists(store: ClusterStore) -> object:
    """Return all rows of lists and accounts."""
    stored = store.stored()
    return [stored[table.name] for table in (ACCOUNT, *(table for tables in LISTS.values() for table in tables))]


def follows(store: ClusterStore) -> list[list[tuple[object, ...]]]:
    """Return the follows and histories of both directions.

    They come without positions, which depend on the order of rows at one second.
    """
    source = store.source()
    keys = {int(key): key_of(int(key), value) for key, value in source.all_rows(ACCOUNT)}
    found: list[list[tuple[object, ...]]] = []
    for tables in LISTS.values():
        entries = entries_of(source, tables.visible)
        found.append(sorted((keys[owner], keys[account], *times) for owner, _, account, *times in entries))
        found.append(
            sorted(
                (keys[first_of(int(key))], keys[second_of(int(key))], unseal(tables.histories, key, value))
                for key, value in source.all_rows(tables.histories)
            )
        )
    return found


def again(store: ClusterStore) -> None:
    """Empty the store, and store what happened before."""
    store.empty()
    run(store.writer_with(lambda: None).apply(HISTORY, NOW))


def test_a_large_file_is_stored_like_its_rows(cluster_store: ClusterStore, many: Path) -> None:
    """Follows and histories are the same, and nothing is new in the file afterwards."""
    again(cluster_store)
    by_row = load(cluster_store.writer_with(lambda: None), many, is_bulk=False)
    expected = follows(cluster_store)
    again(cluster_store)
    writer = cluster_store.writer_with(lambda: None)

    assert by_row == load(writer, many)
    assert expected == follows(cluster_store)
    assert [] == cluster_store.backend.problems()
    before = lists(cluster_store)
    assert load(writer, many)[0] == 0
    assert before == lists(cluster_store)


def test_a_killed_load_resumes(cluster_store: ClusterStore, many: Path, chance: random.Random) -> None:
    """Before any of its statements: what is stored is sound, and the same import again ends in the same lists."""
    again(cluster_store)
    counter = Stop(-1, lambda: None)
    load(cluster_store.writer_with(counter), many)
    expected = lists(cluster_store)
    for number in sorted(chance.sample(range(counter.count), min(12, counter.count))):
        again(cluster_store)
        with suppress(StoreUnavailable):
            load(cluster_store.writer_with(Kill(number)), many)
        cluster_store.expire_lease()
        load(cluster_store.writer_with(lambda: None), many)
        assert expected == lists(cluster_store), number
        assert [] == cluster_store.backend.problems(), number
