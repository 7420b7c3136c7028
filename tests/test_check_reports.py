"""`check` reports damaged, foreign and unreadable files, and accepts stores in use."""

import asyncio
import json
import threading
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from retinue.model import FollowRecord
from retinue.store.layout.tables import ACCOUNT_KEY, USERNAME
from retinue.store.open import open_store
from retinue.store.sqlite.files import GRAPH, access_path
from support.broken_store import FOLLOWERS, HUB, NOW, B, change, write
from support.commands import imported, retinue
from support.frozen_clock import FrozenClock
from support.service import problems_of

EXTRA_TRIGGER = 'CREATE TRIGGER "t\x1b[2J" AFTER INSERT ON following BEGIN DELETE FROM followers; END'
OTHER_LAYOUTS = {
    EXTRA_TRIGGER: ["the trigger 't\\x1b[2J' does not belong to a follow graph"],
    "CREATE TABLE cake (id)": ["the table 'cake' does not belong to a follow graph"],
    "ALTER TABLE change ADD COLUMN extra TEXT": [f"the table change is not declared as in schema {GRAPH.version}"],
    "PRAGMA journal_mode = DELETE": [
        "its journal mode is delete: readers and the writer block each other; set it to WAL with SQLite"
    ],
}


@pytest.mark.parametrize(("damage", "findings"), OTHER_LAYOUTS.items(), ids=range(len(OTHER_LAYOUTS)))
def test_a_layout_unlike_the_schema_is_found(broken_store: Path, damage: str, findings: list[str]) -> None:
    """Objects that are missing, that differ and that do not belong to a store are named, in both files."""
    change(broken_store, damage)

    assert [f"{broken_store}: {finding}" for finding in findings] == problems_of(broken_store)


def test_a_view_is_not_read_in_place_of_a_table(broken_store: Path) -> None:
    """A view could give rows that are not stored, or rows without end."""
    change(
        broken_store,
        "ALTER TABLE tombstone RENAME TO other",
        "CREATE VIEW tombstone AS WITH RECURSIVE n (mac) AS (SELECT 1 UNION ALL SELECT mac + 1 FROM n) SELECT * FROM n",
    )

    found = problems_of(broken_store)
    done = retinue("erase", "--store", broken_store, "b")

    assert {
        f"{broken_store}: the table tombstone is missing",
        f"{broken_store}: the view 'tombstone' does not belong to a follow graph",
    } <= set(found)
    assert (2, "") == (done.returncode, done.stdout)


def test_triggers_in_a_file_have_no_effect(broken_store: Path) -> None:
    """Writers keep to the store's own rules, whatever others have put into its files."""
    change(broken_store, "CREATE TRIGGER t BEFORE INSERT ON account BEGIN SELECT RAISE(IGNORE); END", EXTRA_TRIGGER)
    change(access_path(broken_store), "CREATE TRIGGER t BEFORE INSERT ON client BEGIN SELECT RAISE(ABORT, 'no'); END")
    table = broken_store.with_suffix(".csv")
    table.write_text("follower,followee,followed_at\nnew,other,100\n")

    imported = retinue("import", "--store", broken_store, table)
    client = retinue("client", "create", "--store", broken_store, "--name", "x")

    assert (0, 0) == (imported.returncode, client.returncode)
    assert 3 == len(problems_of(broken_store))  # the triggers, nothing else


def test_findings_are_printed_and_counted(broken_store: Path) -> None:
    """One a line, the facts in the end, and exit code 1; for programs, all of it as JSON."""
    write(broken_store, ACCOUNT_KEY, "b", bytes((B, 0, 0, 0)))
    write(broken_store, FOLLOWERS.facts, HUB, None)
    findings = problems_of(broken_store)
    facts = {"accounts": 139, "follows": 206, "ended_follows": 1, "largest_displacement": 69, "clients": 0, "tokens": 0}

    done = retinue("check", "--store", broken_store)
    as_json = retinue("check", "--store", broken_store, "--json")

    assert 2 == len(findings)
    assert (1, findings, "") == (done.returncode, done.stdout.splitlines()[:-1], done.stderr)
    assert done.stdout.endswith("clients 0, tokens 0: 2 problems\n")
    assert (1, {"problems": findings, "facts": facts}) == (as_json.returncode, json.loads(as_json.stdout))


def test_a_long_list_of_problems_is_cut(broken_store: Path) -> None:
    """Twenty of a kind are enough to see what is wrong; other kinds are still told."""
    for number in range(50):
        write(broken_store, USERNAME, f"x{number}", bytes((B, 0, 0, 0)))
    write(broken_store, FOLLOWERS.facts, HUB, None)

    found = problems_of(broken_store)

    assert 22 == len(found)
    assert f"{broken_store}: ... and more of this kind" == found[20]
    assert "its counts are missing" in found[21]


def test_faults_of_the_access_file(broken_store: Path) -> None:
    """A token without its client, and files that others may read."""
    path = access_path(broken_store)
    change(path, "INSERT INTO token VALUES (zeroblob(32), 77, 5)")
    path.chmod(0o644)
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("SELECT count(*) FROM token").fetchall()  # SQLite's logs exist while this is open
        problems = problems_of(broken_store)

    others = "can be used by others (mode 644); run chmod 600 on it"
    dangling = f"{path}: a row of table token points to a row of client that is not there"
    assert [dangling, *(f"{path}{ending}: {others}" for ending in ("", "-wal", "-shm"))] == problems


def test_an_absent_access_file_is_named(broken_store: Path) -> None:
    """A store without its access file ends the command with code 2."""
    access_path(broken_store).unlink()

    done = retinue("check", "--store", broken_store)

    assert (2, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
    assert f"retinue: {access_path(broken_store)}: there is no access file here" in done.stderr


@pytest.mark.parametrize(
    "damage",
    [
        f"UPDATE following SET value = x'010203' WHERE key = {B << 32}",
        f"UPDATE following SET value = x'' WHERE key = {B << 32}",
        f"UPDATE account SET value = zeroblob(40) WHERE key = {B}",
        "UPDATE following_history SET value = x'01'",
        "DROP TABLE following_history",
        "UPDATE sqlite_schema SET sql = 'CREATE TABLE account (' WHERE name = 'account'",
    ],
)
def test_unreadable_stores_are_reported_in_one_line(broken_store: Path, damage: str) -> None:
    """With the file's name, and no traceback."""
    change(broken_store, "PRAGMA writable_schema = ON", damage)

    done = retinue("check", "--store", broken_store)

    assert (True, False) == (done.returncode in (1, 2), "Traceback" in done.stderr)
    assert f"{broken_store}: " in done.stdout + done.stderr


@pytest.mark.parametrize(("name", "table"), [("broken.db", "followers"), ("broken.access.db", "client")])
def test_garbage_in_a_file_is_reported(broken_store: Path, name: str, table: str) -> None:
    """The rest of the store is checked all the same."""
    path = broken_store.with_name(name)
    with closing(apsw.Connection(str(path))) as connection:
        page = int(connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).get)
    content = bytearray(path.read_bytes())
    content[(page - 1) * 4096 : page * 4096] = b"\xa5" * 4096
    path.write_bytes(content)
    access_path(broken_store).chmod(0o640)

    done = retinue("check", "--store", broken_store)

    assert (1, "") == (done.returncode, done.stderr)
    assert f"{path}: cannot be checked: " in done.stdout or f"{path}: damaged: " in done.stdout
    assert "can be used by others (mode 640)" in done.stdout


@pytest.mark.parametrize("more", range(200_000, 450_000, 50_000))
def test_check_reports_damage_that_needs_too_much_memory(sound_store: Path, more: int) -> None:
    """The message does not blame the machine, as SQLite's "out of memory" would."""
    before = apsw.hard_heap_limit(-1)
    apsw.hard_heap_limit(apsw.memory_used() + more)
    try:
        problems = problems_of(sound_store)
    finally:
        apsw.hard_heap_limit(before)

    assert (
        f"{sound_store}: cannot be checked: more memory is needed than there is, or a size in it is damaged" in problems
    )


def test_check_accepts_a_store_during_a_write(store_path: Path) -> None:
    """All invariants are verified in one state."""
    open_store(str(store_path)).create()
    enough = threading.Event()

    def write() -> None:
        with closing(open_store(str(store_path)).writer(FrozenClock())) as writer:
            number = 0
            while not enough.is_set():
                records = [FollowRecord(f"a{n % 5}", f"b{number + n}", 500 - n, NOW) for n in range(10)]
                asyncio.run(writer.add_follows(records))
                number += 10

    writing = threading.Thread(target=write)
    writing.start()
    try:
        assert [[]] * 15 == [problems_of(store_path) for _ in range(15)]
    finally:
        enough.set()
        writing.join()


@pytest.mark.parametrize("name", ["@@", "@@x", "@", "x" * 255, "\U0001f469", "K\u212a", "i\u0307"])
def test_check_accepts_every_imported_name(tmp_path: Path, name: str) -> None:
    """It is refused, or it can be found and shown."""
    store, follows = tmp_path / "graph.db", tmp_path / "f.csv"
    follows.write_text(f"follower,followee\n{name},other\nother,{name}\n")

    imported(store, follows)

    assert [] == problems_of(store)
