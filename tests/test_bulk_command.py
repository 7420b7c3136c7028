"""Large files are imported in bulk: all or nothing, visible at once, with a reason if it is not possible."""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import duckdb
import pytest

from retinue.clock import SystemClock
from retinue.errors import InputError
from retinue.ingest import staging
from retinue.ingest.parquet import ParquetTable
from retinue.ingest.records import FOLLOW_COLUMNS
from retinue.ingest.tables import open_table
from retinue.model import Direction, PageRequest
from retinue.store.open import open_store
from retinue.wire.rendering import ROW_ENCODING
from running import Refused, Session, fresh_token, running_server
from support.bulk_twins import EARLY, NOW
from support.service import problems_of

MANY = 240_000


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Parquet file that is large by itself, with numbers for names and times."""
    path = tmp_path_factory.mktemp("many") / "follows.parquet"
    columns = f"n % 600 AS follower, 1000 + n // 600 AS followee, {EARLY} + n % 1000 AS followed_at"
    duckdb.sql(f"COPY (SELECT {columns} FROM range({MANY}) r(n)) TO '{path}' (FORMAT parquet)")
    return path


def imported(store: Path, table: Path) -> subprocess.Popen[str]:
    """A running import."""
    command = [sys.executable, "-m", "retinue", "import", "--store", str(store), str(table), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def follows_of(store: Path) -> int:
    """How many follows a store has, after a look at all its invariants."""
    assert [] == problems_of(store)
    with closing(open_store(str(store)).checker(SystemClock(), ROW_ENCODING)) as checker:
        return asyncio.run(checker.facts())["follows"]


def test_a_killed_load_leaves_a_sound_store(many: Path, tmp_path: Path) -> None:
    """Killed at any instant: none or all of the file is there, lists are whole, and the same import completes it."""
    store = tmp_path / "graph.db"
    chance = random.Random(1)
    for _ in range(2):
        with imported(store, many) as importing:
            time.sleep(chance.uniform(0.3, 3))
            importing.kill()
        if store.exists():
            assert follows_of(store) in (0, MANY)
    with imported(store, many) as importing:
        output = importing.communicate()[0]
    assert 0 == importing.returncode
    assert MANY == sum(json.loads(output)[str(many)][kind] for kind in ("accepted", "duplicate"))
    assert MANY == follows_of(store)


def test_a_load_into_a_running_service_becomes_visible_at_once(many: Path, tmp_path: Path) -> None:
    """Readers see nothing of it, or all; a second load of the same is all duplicates."""
    store = tmp_path / "graph.db"
    open_store(str(store)).create()
    with running_server(store) as server, Session(server.base_url, fresh_token(server, store)) as session:
        with imported(store, many) as importing:
            seen = set()
            while importing.poll() is None:
                with suppress(Refused):  # the account is not there yet
                    seen.add(len(session.following({"username": "7", "max_count": 100})["user_following"]))
        assert 0 == importing.returncode
        assert seen <= {0, 100}
        assert 100 == len(session.following({"username": "7", "max_count": 100})["user_following"])
        with imported(store, many) as importing:
            counts = json.loads(importing.communicate()[0])[str(many)]
    assert (0, MANY) == (counts["accepted"], counts["duplicate"])


def test_rows_without_a_time_are_ordinary(tmp_path: Path) -> None:
    """A large file without times is loaded in bulk; its first row is the newest."""
    table, folder = tmp_path / "follows.parquet", tmp_path / "it's 'here'"
    folder.mkdir()
    columns = "n // 300 AS follower, 1000 + n % 300 AS followee"
    duckdb.sql(f"COPY (SELECT {columns} FROM range({MANY}) r(n)) TO '{table}' (FORMAT parquet)")
    command = [sys.executable, "-m", "retinue", "import", "--store", str(tmp_path / "graph.db"), str(table)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "TMPDIR": str(folder)})

    with closing(open_store(str(tmp_path / "graph.db")).graph(SystemClock())) as graph:
        account = asyncio.run(graph.find_account("7"))
        assert account is not None
        page = asyncio.run(graph.read(PageRequest(account.id, Direction.FOLLOWING, int(time.time()), 100)))
    assert [str(1000 + n) for n in range(100)] == [row.username for row in page.rows]
    assert [] == list(folder.iterdir())


def test_unusual_files_are_imported_row_by_row(many: Path, tmp_path: Path) -> None:
    """A bulk load of a file with hardly an ordinary row would only cost time."""
    table = tmp_path / "odd.parquet"
    duckdb.sql(f"COPY (SELECT follower, '@' || followee AS followee FROM '{many}') TO '{table}' (FORMAT parquet)")
    with closing(open_table(table, FOLLOW_COLUMNS)) as opened, closing(staging.Staging(MANY, NOW)) as staged:
        assert isinstance(opened, ParquetTable)
        staged.stage(opened)
        staged.leave_out([name for names in staged.names() for name in names if name.startswith("@")])
        assert [] == list(staged.names())
        with pytest.raises(staging.CannotLoadInBulk, match="usual"):
            staged.set_account_ids([])


def test_a_slow_import_says_why(many: Path, tmp_path: Path) -> None:
    """The reason is printed if a large file cannot be loaded in bulk."""
    table = tmp_path / "odd.parquet"
    duckdb.sql(f"COPY (SELECT follower, '@@' || followee AS followee FROM '{many}') TO '{table}' (FORMAT parquet)")
    done = subprocess.run(
        [sys.executable, "-m", "retinue", "import", "--store", str(tmp_path / "graph.db"), str(table)],
        capture_output=True,
        text=True,
        check=False,  # all rows are rejected
    )

    assert f"{table.name}: is loaded row by row" in done.stderr.replace("\n", "")
    assert "too few usual rows" in done.stderr.replace("\n", " ")


def test_an_import_larger_than_the_disk_does_not_begin(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how much is needed and how much there is."""
    monkeypatch.setattr(staging, "BYTES_PER_ROW", 1 << 40)

    with closing(open_table(many, FOLLOW_COLUMNS)) as table, pytest.raises(InputError) as refusal:
        staging.Staging(table.size, NOW)
    assert str(refusal.value).startswith("loading 240,000 rows may need 263882790.7 GB of disk, and ")
