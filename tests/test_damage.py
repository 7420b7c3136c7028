"""A damaged store refuses by name, and never fails in another way."""

import asyncio
import os
import shutil
import subprocess
import sys
from array import array
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import apsw
import pytest

from damage_kinds import put
from retinue.errors import StoreUnavailable
from retinue.model import Direction, FollowEvent
from retinue.store.layout.sealing import seal
from retinue.store.layout.stored_accounts import StoredAccount, encode_account
from retinue.store.layout.tables import ACCOUNT, LISTS, USERNAME, pair_key
from retinue.store.open import open_store
from retinue.store.sqlite.absence import require_absent
from retinue.store.sqlite.files import access_path, executor
from retinue.wire import rendering
from support.commands import retinue
from support.frozen_clock import FrozenClock
from support.service import FOLLOWING, INFO, Service, problems_of

PAGES = [({"username": "a"}, FOLLOWING), ({"username": "a", "as_of": 900}, FOLLOWING)]


@pytest.fixture
def damaged(tmp_path: Path, clock: FrozenClock) -> Iterator[Service]:
    """A store in which a follows b at 500 and c at 700, to be damaged."""
    service = Service(tmp_path / "damaged.db", clock)
    for name in "abc":
        service.add_account(name, f"Name of {name}", bio_description="bio")
    service.follow("a", ("b", 500), ("c", 700))
    service.writer.close()
    yield service
    service.graph.close()
    service.access.close()
    service.counters.close()


def reopened(service: Service) -> None:
    """Let go of everything that was read before the damage."""
    service.graph.close()
    service.graph = open_store(service.store).served_graph(service.clock, rendering.ROW_ENCODING, cache_mib=8)
    service.application = service.application_on(service.graph)


FOLLOWING_TABLE = LISTS[Direction.FOLLOWING].visible
LIST_OF_A = pair_key(1, 0)


def block(*numbers: int) -> bytes:
    """The sealed block of the list of a: head, positions, accounts."""
    return seal(FOLLOWING_TABLE, LIST_OF_A, array("I", numbers).tobytes())


SEALED = seal(ACCOUNT, 2, encode_account(StoredAccount(2, "b", "b", 5, "Name of b", has_name=True)))
FLIPPED = SEALED[:5] + bytes((SEALED[5] ^ 4,)) + SEALED[6:]

# The damage, and what the operator reads of it.
VALUES: dict[str, tuple[str, Any, int, str]] = {
    "no account": ("account", None, 1, "table account, row 2"),
    "an account of text": ("account", "b", 1, "table account, row 2"),
    "an account of one byte": ("account", b"\xff", 1, "table account, row 2"),
    "a changed bit": ("account", FLIPPED, 1, "table account, row 2"),
    "another table's account": ("account", seal(USERNAME, 2, SEALED[:-4]), 1, "table account, row 2"),
    "another row's account": ("account", seal(ACCOUNT, 3, SEALED[:-4]), 1, "table account, row 2"),
    "no block": ("following", None, 0, "table following, row 1/0"),
    "a block of text": ("following", "entries!", 0, "table following, row 1/0"),
    "half an entry": ("following", block(2, 500, 700, 2), 0, "table following, row 1/0"),
    "too many entries": ("following", block(200, *range(1, 401)), 0, "table following, row 1/0"),
    "an account that does not exist": ("following", block(2, 500, 700, 2, 9), 0, "table account, row 9"),
    "an id beyond the last": ("following", block(2, 500, 700, 2, 0xFFFF_FFFF), 0, "table account, row 4294967295"),
    "positions upside down": ("following", block(2, 700, 500, 2, 3), 0, "table following"),
    "a newer block that is missing": ("following", block(1 | 1 << 24, 500, 2, 600), 0, "table following, row 1/0"),
}


@pytest.mark.parametrize(("table", "value", "place", "named"), VALUES.values(), ids=VALUES)
def test_a_damaged_row_is_503_and_named(
    damaged: Service, table: str, value: Any, place: int, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A page that needs a damaged row is refused, and the log names the table and the key."""
    put(Path(damaged.store), table, "value", value, place)
    reopened(damaged)

    for query, path in PAGES:
        caplog.clear()
        assert 503 == damaged.ask(query, path).status_code
        assert named in caplog.text
        assert "Traceback" not in caplog.text
    assert any(table in problem for problem in problems_of(damaged.store))


@pytest.mark.parametrize("value", [None, 7, b"x", "9" * 30])
def test_a_damaged_profile_is_503(damaged: Service, value: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An account that cannot be read has no profile."""
    put(Path(damaged.store), "account", "value", value)
    reopened(damaged)

    assert 503 == damaged.ask({"username": "a"}, f"{INFO}?fields=bio_description").status_code
    assert "table account, row 1" in caplog.text


CLIENT_VALUES: dict[str, tuple[str, str, Any]] = {
    "no scopes": ("client", "scopes", None),
    "half a rate": ("client", "rate_calls", 5),
    "a quota of text": ("client", "list_calls", "many"),
    "a quota below nothing": ("client", "list_rows", -1),
    "a moment beyond all calendars": ("client", "not_after", 2**62),
    "creation in text": ("client", "created_at", "x"),
    "an end of text": ("token", "expires_at", "x"),
}


@pytest.mark.parametrize(("table", "column", "value"), CLIENT_VALUES.values(), ids=CLIENT_VALUES)
def test_a_damaged_client_is_503(
    damaged: Service, table: str, column: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A client's rights are never guessed from a damaged row."""
    put(access_path(Path(damaged.store)), table, column, value)

    assert 503 == damaged.ask({"username": "a"}).status_code
    assert f"table {table}" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("column", "value"),
    [("rate_seconds", 2**40), ("secret", b"x"), ("former_secret", b"x"), ("key", ""), ("not_before", -5)],
)
def test_a_damaged_client_is_refused_by_the_register(damaged: Service, column: str, value: Any) -> None:
    """The command line names the row in one line."""
    if column == "rate_seconds":
        put(access_path(Path(damaged.store)), "client", "rate_calls", 5)
    put(access_path(Path(damaged.store)), "client", column, value)
    if column in ("secret", "former_secret"):
        with pytest.raises(StoreUnavailable, match="table client, id 1"):
            asyncio.run(damaged.access.find_client(damaged.client_key))
        return

    done = retinue("client", "list", "--store", damaged.store)

    assert 2 == done.returncode
    assert "table client, id 1" in done.stderr
    assert 1 == len(done.stderr.splitlines())


@pytest.mark.parametrize(("column", "value"), [("secret", b"x"), ("hash", None), ("count", -1), ("before_count", 9)])
def test_a_damaged_checkpoint_is_named(damaged: Service, column: str, value: Any) -> None:
    """The audit log is not compared with a checkpoint that cannot be one."""
    put(access_path(Path(damaged.store)), "audit", column, value)

    done = retinue("audit", "verify", "--store", damaged.store)

    assert 2 == done.returncode
    assert "table audit" in done.stderr
    assert 1 == len(done.stderr.splitlines())


def test_writers_refuse_contradictory_state(damaged: Service) -> None:
    """Events that meet a damaged block change nothing, and the error names it."""
    put(Path(damaged.store), "following", "value", block(2, 500, 700, 2))

    with closing(open_store(damaged.store).writer(damaged.clock)) as writer:
        with pytest.raises(StoreUnavailable, match="table following, row 1/0"):
            asyncio.run(writer.apply([FollowEvent("a", "c", 800)], damaged.clock.now()))


@pytest.mark.parametrize(
    "table", ["meta", "account", "following", "followers_facts", "following_history", "relocation", "tombstone"]
)
def test_check_survives_a_missing_table(damaged: Service, tmp_path: Path, table: str) -> None:
    """A file without one of its tables is told as one, line by line."""
    copy = tmp_path / "copy.db"
    shutil.copy(damaged.store, copy)
    shutil.copy(access_path(Path(damaged.store)), access_path(copy))
    with closing(apsw.Connection(str(copy))) as connection:
        connection.execute(f"DROP TABLE {table}")

    assert any(f"no such table: {table}" in problem for problem in problems_of(copy))


def test_damage_causes_no_traceback_hang_or_500() -> None:
    """A round of random damage to each file of a store and a collection: see `make long PROOF=damage` for thousands."""
    script = Path(__file__).parent / "long" / "damage.py"
    done = subprocess.run(
        [sys.executable, script, "--damages", "16", "--seed", "7"],
        capture_output=True,
        text=True,
        check=False,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("RETINUE_")},
            "PYTHONPATH": str(Path(__file__).parent.parent / "benchmarks"),
        },
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "quota given again" in done.stdout


@pytest.mark.parametrize("kind", ["swapped", "copied"])
def test_swapped_pages_hide_no_list_and_no_name(damaged: Service, kind: str) -> None:
    """Every pair of leaves of a table: SQLite looks for a row on a wrong page then, and does not find it."""
    names = [f"name{number:04}" for number in range(700)]
    with closing(open_store(damaged.store).writer(damaged.clock)) as writer:
        asyncio.run(writer.apply([FollowEvent(name, "a", 500) for name in names], damaged.clock.now()))
    reopened(damaged)
    asked = names[::23]
    expected = [damaged.ask({"username": name}).json()["data"] for name in asked]
    path = Path(damaged.store)
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        query = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf'"
        leaves = {name: [page for (page,) in connection.execute(query, (name,))] for name in ("following", "username")}
    content = path.read_bytes()
    for pages in leaves.values():
        assert len(pages) > 3
        for one, other in pairwise(pages):
            first, second = (slice(4096 * (page - 1), 4096 * page) for page in (one, other))
            changed = bytearray(content)
            changed[second] = content[first]
            if kind == "swapped":
                changed[first] = content[second]
            path.write_bytes(changed)
            reopened(damaged)
            for name, right in zip(asked, expected, strict=True):
                answer = damaged.ask({"username": name})
                assert 503 == answer.status_code or answer.json()["data"] == right
    path.write_bytes(content)
    reopened(damaged)


@pytest.mark.parametrize("content_bytes", [100, 300, 700, 6_000])
def test_swapped_pages_hide_no_row_of_any_length(damaged: Service, content_bytes: int) -> None:
    """Few keys show a wrong order if rows are long."""
    path = Path(damaged.store)
    keys = [pair_key(owner, 1) for owner in range(10, 10 + max(90, 40_000 // content_bytes))]
    with closing(apsw.Connection(str(path))) as connection:
        for key in keys:
            value = seal(FOLLOWING_TABLE, key, bytes(content_bytes + (key >> 32) % 7))
            connection.execute("INSERT INTO following (key, value) VALUES (?, ?)", (key, value))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        query = "SELECT pageno FROM dbstat WHERE name = 'following' AND pagetype = 'leaf'"
        leaves = [page for (page,) in connection.execute(query)]
    content, hidden = path.read_bytes(), 0
    for one, other in [*pairwise(leaves), *zip(leaves[:20], leaves[20:40], strict=False)]:
        first, second = (slice(4096 * (page - 1), 4096 * page) for page in (one, other))
        changed = bytearray(content)
        changed[first], changed[second] = content[second], content[first]
        path.write_bytes(changed)
        with closing(apsw.Connection(str(path))) as connection:
            execute = executor(connection)
            for key in keys:
                if not execute("SELECT 1 FROM following WHERE key = ?", (key,)).fetchall():
                    hidden += 1
                    with pytest.raises(StoreUnavailable):
                        require_absent(execute, FOLLOWING_TABLE, key, key)
    path.write_bytes(content)
    with closing(apsw.Connection(str(path))) as connection:
        for key in keys:
            require_absent(executor(connection), FOLLOWING_TABLE, key + 1, key + 1)
    assert hidden
