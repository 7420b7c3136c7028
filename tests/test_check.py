"""`check` finds every broken invariant and says where it is."""

import asyncio
import json
import shutil
import threading
from array import array
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from retinue.model import AccountEvent, AccountRecord, ErasureEvent, Event, FollowEvent, FollowRecord, Visibility
from retinue.store.open import open_store
from retinue.store.sqlite.files import access_path
from support.commands import imported, retinue
from support.frozen_clock import FrozenClock
from support.service import problems_of

NOW = 1_700_000_000

# Ids in the store that is broken here, and the numbers of the first blocks of their lists.
A, B, C, D, E, ENDED, PRIVATE, ERASED, _, HUB = range(1, 11)
LIST_OF_A, LIST_OF_B, LIST_OF_E, LIST_OF_HUB = (account << 32 for account in (A, B, E, HUB))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with something of everything: a burst, an ended follow, entries aside, an erasure, a list of blocks."""
    path = tmp_path_factory.mktemp("sound") / "graph.db"
    follows = [
        ("a", "b", 100),
        ("a", "c", 100),
        ("a", "d", 100),
        ("a", "e", 50),
        ("a", "ended", 30),
        ("a", "private", 20),
    ]
    events: list[Event] = [
        *(FollowEvent(*follow) for follow in follows),
        FollowEvent("a", "ended", 40, is_follow=False),
        AccountEvent(AccountRecord(key="private", visibility=Visibility.PRIVATE), 50),
        FollowEvent("a", "erased", 10),
        FollowEvent("b", "a", 70),
        *(FollowEvent(f"fan{n}", "hub", NOW - 2 * n) for n in range(130)),
        ErasureEvent("erased", NOW),
    ]
    open_store(str(path)).create()
    with closing(open_store(str(path)).writer(FrozenClock())) as writer:
        asyncio.run(writer.apply(events, NOW))
        asyncio.run(writer.compact())
    assert [] == problems_of(path)
    return path


@pytest.fixture
def broken(sound: Path, tmp_path: Path) -> Path:
    """A copy of it, to be broken."""
    path = tmp_path / "broken.db"
    shutil.copy(sound, path)
    shutil.copy(access_path(sound), access_path(path))
    return path


def change(path: Path, *statements: str) -> None:
    """Change a file behind the store's back."""
    with closing(apsw.Connection(str(path))) as connection:
        for statement in statements:
            connection.execute(statement)


def packed(*numbers: int) -> str:
    """A blob of 32-bit numbers, as SQL. Blocks: the positions, then the accounts; or positions with true seconds."""
    return f"x'{array('I', numbers).tobytes().hex()}'"


FAULTS = {
    # Names
    "UPDATE account SET folded = 'x' WHERE id = 2": ["account 2: found as 'x', which is not its username 'b' folded"],
    "UPDATE account SET username = 'B' WHERE id = 2": ["account 2: username 'B' is not as answers carry it"],
    f"UPDATE account SET username = 'b b', folded = NULL WHERE id = {ENDED}": [
        "account 6: username 'b b' has whitespace or characters that cannot be printed"
    ],
    "UPDATE account SET display_name = 'x' || char(0) WHERE id = 2": [
        "account 2: its display name has a NUL character"
    ],
    "UPDATE account SET key = '' WHERE id = 2": ["account 2: key '' is empty"],
    # Owners of names
    "INSERT INTO claim VALUES ('b', 3, 5)": ["account 2: is found as 'b', to which it has not the best claim"],
    "DELETE FROM claim WHERE folded = 'b'": ["account 2: is found as 'b', to which it has not the best claim"],
    f"UPDATE account SET folded = NULL WHERE id = {ENDED}": [
        "account 6: has the best claim to 'ended', but is not found by it"
    ],
    # Rows of accounts that are not there, or not any more
    "INSERT INTO claim VALUES ('x', 999, 5)": ["a row of table claim points to a row of account that is not there"],
    "INSERT INTO profile VALUES (999, 'bio_url', '', 5)": [
        "a row of table profile points to a row of account that is not there"
    ],
    f"UPDATE account SET display_name = 'x' WHERE id = {ERASED}": [
        "account 8: is erased, but something is still said of it"
    ],
    f"INSERT INTO claim VALUES ('x', {ERASED}, 5)": ["account 8: is erased, but something is still said of it"],
    f"INSERT INTO profile VALUES ({ERASED}, 'bio_url', '', 5)": [
        "account 8: is erased, but something is still said of it"
    ],
    # Blocks
    "UPDATE followers_count SET entries = 131": ["followers of account 10: the stored count is not 130"],
    "INSERT INTO following_count VALUES (1, 4)": ["following of account 1: the stored count is not None"],
    "INSERT INTO followers_aside_count VALUES (5, 1)": ["followers_aside of account 5: has a count, but no blocks"],
    f"INSERT INTO following VALUES ({LIST_OF_A + 200}, {packed(200, ENDED)}, NULL)": [
        "following of account 1: has more blocks than its only one",
        "account 1 follows 6 since 200 in the following list only",
    ],
    f"INSERT INTO following VALUES ({LIST_OF_HUB}, x'', NULL)": [
        "following of account 10: block 0: has 0 positions and 0 accounts"
    ],
    f"UPDATE following SET displaced = {packed(97, 100, 98, 100, 99, 100)} WHERE block = {LIST_OF_A}": [
        "following of account 1: block 0: has wrong true seconds"
    ],
    f"UPDATE following SET entries = {packed(50, 99, 98, 100, E, C, D, B)} WHERE block = {LIST_OF_A}": [
        "following of account 1: block 0: its positions are not ascending, or reach out of the block",
        "following of account 1: the slot run 98 to 100 is stored, but the list has no such run",
        "pair of accounts 1 and 3: does not stand on second 99 of the following list of account 1",
    ],
    f"UPDATE following SET entries = {packed(50, 98, 99, 100, E, D, C, E)} WHERE block = {LIST_OF_A}": [
        "following of account 1: has an account twice",
        "account 1 follows 2 since 100 in the followers list only",
        "account 1 follows 5 since 100 in the following list only",
    ],
    f"UPDATE following SET entries = {packed(70, B)} WHERE block = {LIST_OF_B}": [
        "following of account 2: has its owner among its accounts",
        "account 2 follows 1 since 70 in the followers list only",
        "account 2 follows 2 since 70 in the following list only",
    ],
    # Seconds
    "DELETE FROM following_taken WHERE first = 98": ["following of account 1: the slot run 98 to 100 is not stored"],
    "DELETE FROM following_taken WHERE first = 20": ["following of account 1: the slot run 20 to 20 is not stored"],
    f"INSERT INTO followers_taken VALUES ({ENDED}, 200, 201)": [
        "followers of account 6: the slot run 200 to 201 is stored, but the list has no such run"
    ],
    "UPDATE ended SET following_position = 50": [
        "following of account 1: second 50 is taken twice",
        "following of account 1: the slot run 30 to 30 is stored, but the list has no such run",
        "following of account 1: the slot run 50 to 50 is not stored",
        "following of account 1: second 50 is later than 30, which is not noted",
    ],
    # Both directions
    f"DELETE FROM followers WHERE block = {LIST_OF_E}": ["account 1 follows 5 since 50 in the following list only"],
    f"DELETE FROM following WHERE block = {LIST_OF_B}": ["account 2 follows 1 since 70 in the followers list only"],
    # Sides
    f"UPDATE account SET visibility = 2 WHERE id = {E}": [
        "following of account 1, position 50: account 5 is out of place"
    ],
    f"UPDATE account SET visibility = 0 WHERE id = {PRIVATE}": [
        "following_aside of account 1, position 20: account 7 is out of place"
    ],
    f"DELETE FROM account WHERE id = {E}": [
        "a row of table claim points to a row of account that is not there",
        "following of account 1, position 50: account 5 is not there",
        "followers of account 5, position 50: account 1 is not there",
    ],
    f"INSERT INTO moving VALUES ({E}, 0, 'followers', 5)": [
        "account 5: is being moved, and readers are wrongly told not to merge"
    ],
    f"INSERT INTO moving VALUES ({PRIVATE}, 1, 'followers', 5)": [
        "account 7: is being moved, and readers are wrongly told to merge"
    ],
    # Pairs
    "UPDATE ended SET ended_at = 41": ["pair of accounts 1 and 6: its events make 30 to 40, but stored is 30 to 41"],
    f"INSERT INTO pair VALUES ({A}, {E}, NULL, 50, 50, 50)": [
        "pair of accounts 1 and 5: has nothing that the lists do not tell"
    ],
    f"UPDATE pair SET followers_position = 90 WHERE followee = {C}": [
        "pair of accounts 1 and 3: does not stand on second 90 of the followers list of account 3"
    ],
    f"DELETE FROM pair WHERE followee = {ENDED}": ["the interval of accounts 1 and 6 that began at 30 has no pair"],
    f"DELETE FROM pair WHERE followee = {C}": ["following of account 1: second 99 is away from 100 unexplained"],
}


@pytest.mark.parametrize(("damage", "findings"), FAULTS.items(), ids=FAULTS)
def test_each_fault_is_found_with_its_place(broken: Path, damage: str, findings: list[str]) -> None:
    """Exactly this is said of it."""
    change(broken, damage)

    assert [f"{broken}: {finding}" for finding in findings] == problems_of(broken)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("broken.db", f"UPDATE account SET visibility = 7 WHERE id = {ENDED}"),
        (
            "broken.access.db",
            "INSERT INTO client (key, name, contact, notes, scopes, created_at, secret) VALUES (1, 2, 3, 4, 5, 6, x'')",
        ),
    ],
)
def test_values_that_a_table_does_not_allow_are_found(broken: Path, file: str, damage: str) -> None:
    """However they came there."""
    change(broken.with_name(file), "PRAGMA ignore_check_constraints = ON", damage)

    assert [] != problems_of(broken)


_CLIENT = (
    "INSERT INTO client (id, key, name, contact, notes, scopes, created_at, secret)"
    " VALUES (1, 'key', 'name', '', '', '', 1, zeroblob(32))"
)


@pytest.mark.parametrize(
    "change_of_client",
    [
        "id = 5000000",
        "key = ''",
        f"created_at = {2**62}",
        f"not_before = -{2**62}",
        "list_rows = -5",
        "rate_calls = 5",
        "rate_calls = 5, rate_seconds = 0",
    ],
)
def test_clients_that_a_server_would_refuse_are_found(broken: Path, change_of_client: str) -> None:
    """A store is not sound if it refuses every client."""
    change(access_path(broken), _CLIENT)
    assert [] == problems_of(broken)
    change(access_path(broken), f"UPDATE client SET {change_of_client}")

    (problem,) = problems_of(broken)
    assert problem.startswith(f"{access_path(broken)}: table client, id ")


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM audit",
        "INSERT INTO audit SELECT * FROM audit",
        f"UPDATE audit SET count = {2**62}",
        "UPDATE audit SET before_count = -7",
        "UPDATE audit SET hash = x'00'",
        "UPDATE audit SET before_count = 5",
    ],
)
def test_a_checkpoint_of_the_audit_log_that_cannot_be_read_is_found(broken: Path, damage: str) -> None:
    """No server starts with it."""
    change(access_path(broken), damage)

    (problem,) = problems_of(broken)
    assert problem.startswith(f"{access_path(broken)}: table audit: ")


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        *(("account", column, value) for column in ("username_at", "visibility_at") for value in (-1, 2**32, 2**62)),
        ("account", "revision", 2**62),
        ("claim", "at", -1),
        ("moving", "position", 2**62),
    ],
)
def test_numbers_out_of_their_range_are_found(broken: Path, table: str, column: str, value: int) -> None:
    """Times that are no seconds, and revisions after which none can come."""
    change(broken, f"INSERT INTO moving VALUES ({A}, 0, 'following', 5)")
    before = problems_of(broken)
    name = "id" if table == "account" else "account"
    change(broken, f"UPDATE {table} SET {column} = {value} WHERE {name} = {A}")

    found = [problem for problem in problems_of(broken) if problem not in before]
    assert any(f"{broken}: account {A}: {column} in table {table} is {value}, not from 0 to " in each for each in found)


@pytest.mark.parametrize("account", [-5, 0, 2**31, 2**40])
def test_numbers_of_accounts_that_no_list_can_hold_are_found(broken: Path, account: int) -> None:
    """An import would fail on them."""
    change(
        broken,
        f"INSERT INTO account VALUES ({account}, 'odd', 'odd', 'odd', 1, '', 0, 0, 0, 0)",
        f"INSERT INTO claim VALUES ('odd', {account}, 1)",
    )

    assert f"{broken}: account {account}: id in table account is {account}, not from 1 to {2**31 - 1}" in problems_of(
        broken
    )


@pytest.mark.parametrize("damage", ["DELETE FROM secret", "INSERT INTO moving VALUES (5, 1, 'sideways', 5)"])
def test_state_that_writers_refuse_is_found(broken: Path, damage: str) -> None:
    """A store is not sound when only reading goes well."""
    change(broken, damage)

    assert [] != problems_of(broken)


_EXTRA_TRIGGER = 'CREATE TRIGGER "t\x1b[2J" AFTER INSERT ON following BEGIN DELETE FROM followers; END'
_OTHER_LAYOUTS = {
    _EXTRA_TRIGGER: ["the trigger 't\\x1b[2J' does not belong to a follow graph"],
    "CREATE TABLE cake (id)": ["the table 'cake' does not belong to a follow graph"],
    "DROP INDEX claim_account": ["the index claim_account is missing"],
    "ALTER TABLE profile ADD COLUMN extra TEXT": ["the table profile is not declared as in schema 2"],
    "PRAGMA journal_mode = DELETE": [
        "its journal mode is delete: readers and the writer block each other; set it to WAL with SQLite"
    ],
}


@pytest.mark.parametrize(("damage", "findings"), _OTHER_LAYOUTS.items(), ids=range(len(_OTHER_LAYOUTS)))
def test_a_layout_unlike_the_schema_is_found(broken: Path, damage: str, findings: list[str]) -> None:
    """Objects that are missing, that differ and that do not belong to a store are named, in both files."""
    change(broken, damage)

    assert [f"{broken}: {finding}" for finding in findings] == problems_of(broken)


def test_a_view_is_not_read_in_place_of_a_table(broken: Path) -> None:
    """A view could give rows that are not stored, or rows without end."""
    change(
        broken,
        "ALTER TABLE tombstone RENAME TO other",
        "CREATE VIEW tombstone AS WITH RECURSIVE n (mac) AS (SELECT 1 UNION ALL SELECT mac + 1 FROM n) SELECT * FROM n",
    )

    found = problems_of(broken)
    done = retinue("erase", "--store", broken, "b")

    assert {
        f"{broken}: the table tombstone is missing",
        f"{broken}: the view 'tombstone' does not belong to a follow graph",
    } <= set(found)
    assert (2, "") == (done.returncode, done.stdout)


def test_triggers_in_a_file_have_no_effect(broken: Path) -> None:
    """Writers keep to the store's own rules, whatever others have put into its files."""
    change(broken, "CREATE TRIGGER t BEFORE INSERT ON account BEGIN SELECT RAISE(IGNORE); END", _EXTRA_TRIGGER)
    change(access_path(broken), "CREATE TRIGGER t BEFORE INSERT ON client BEGIN SELECT RAISE(ABORT, 'no'); END")
    table = broken.with_suffix(".csv")
    table.write_text("follower,followee,followed_at\nnew,other,100\n")

    imported = retinue("import", "--store", broken, table)
    client = retinue("client", "create", "--store", broken, "--name", "x")

    assert (0, 0) == (imported.returncode, client.returncode)
    assert 3 == len(problems_of(broken))  # the triggers, nothing else


def test_findings_are_printed_and_counted(broken: Path) -> None:
    """One a line, the facts in the end, and exit code 1; for programs, all of it as JSON."""
    change(broken, "UPDATE account SET key = '' WHERE id = 2", "UPDATE ended SET ended_at = 41")
    findings = problems_of(broken)
    facts = {"accounts": 138, "follows": 136, "ended_follows": 1, "largest_displacement": 2, "clients": 0, "tokens": 0}

    done = retinue("check", "--store", broken)
    as_json = retinue("check", "--store", broken, "--json")

    assert 2 == len(findings)
    assert (1, findings, "") == (done.returncode, done.stdout.splitlines()[:-1], done.stderr)
    assert done.stdout.endswith("clients 0, tokens 0: 2 problems\n")
    assert (1, {"problems": findings, "facts": facts}) == (as_json.returncode, json.loads(as_json.stdout))


def test_a_long_list_of_problems_is_cut(broken: Path) -> None:
    """Twenty of a kind are enough to see what is wrong; other kinds are still told."""
    change(
        broken,
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 50)"
        " INSERT INTO following_taken SELECT 7, 10 * x, 10 * x + 1 FROM n",
        f"DELETE FROM pair WHERE followee = {ENDED}",
    )

    found = problems_of(broken)

    assert 22 == len(found)
    assert f"{broken}: ... and more of this kind" == found[20]
    assert "has no pair" in found[21]


def test_faults_of_the_access_file(broken: Path) -> None:
    """A token without its client, and files that others may read."""
    path = access_path(broken)
    change(path, "INSERT INTO token VALUES (zeroblob(32), 77, 5)")
    path.chmod(0o644)
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("SELECT count(*) FROM token").fetchall()  # SQLite's logs exist while this is open
        problems = problems_of(broken)

    others = "can be used by others (mode 644); run chmod 600 on it"
    dangling = f"{path}: a row of table token points to a row of client that is not there"
    assert [dangling, *(f"{path}{ending}: {others}" for ending in ("", "-wal", "-shm"))] == problems


def test_an_absent_access_file_is_named(broken: Path) -> None:
    """Half a store is none."""
    access_path(broken).unlink()

    done = retinue("check", "--store", broken)

    assert (2, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
    assert f"retinue: {access_path(broken)}: there is no access file here" in done.stderr


@pytest.mark.parametrize(
    "damage",
    [
        f"UPDATE following SET entries = x'010203' WHERE block = {LIST_OF_B}",
        f"UPDATE following SET displaced = x'01' WHERE block = {LIST_OF_B}",
        "UPDATE pair SET moments = NULL, started_at = NULL WHERE followee = 6",
        "UPDATE pair SET moments = x'01'",
        "DROP TABLE pair",
        "UPDATE sqlite_schema SET sql = 'CREATE TABLE account (' WHERE name = 'account'",
    ],
)
def test_unreadable_stores_are_reported_in_one_line(broken: Path, damage: str) -> None:
    """With the file's name, and no traceback."""
    change(broken, "PRAGMA writable_schema = ON", damage)

    done = retinue("check", "--store", broken)

    assert (True, False) == (done.returncode in (1, 2), "Traceback" in done.stderr)
    assert f"{broken}: " in done.stdout + done.stderr


@pytest.mark.parametrize(("name", "table"), [("broken.db", "followers"), ("broken.access.db", "client")])
def test_damaged_bytes(broken: Path, name: str, table: str) -> None:
    """Garbage inside a file is reported, and everything else is looked at all the same."""
    path = broken.with_name(name)
    with closing(apsw.Connection(str(path))) as connection:
        page = int(connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).get)
    content = bytearray(path.read_bytes())
    content[(page - 1) * 4096 : page * 4096] = b"\xa5" * 4096
    path.write_bytes(content)
    access_path(broken).chmod(0o640)

    done = retinue("check", "--store", broken)

    assert (1, "") == (done.returncode, done.stderr)
    assert f"{path}: cannot be checked: " in done.stdout or f"{path}: damaged: " in done.stdout
    assert "can be used by others (mode 640)" in done.stdout


def test_check_reports_damage_that_needs_too_much_memory(sound: Path) -> None:
    """The message does not blame the machine, as SQLite's "out of memory" would."""
    before = apsw.hard_heap_limit(-1)
    apsw.hard_heap_limit(apsw.memory_used() + 300_000)
    try:
        problems = problems_of(sound)
    finally:
        apsw.hard_heap_limit(before)

    assert f"{sound}: cannot be checked: more memory is needed than there is, or a size in it is damaged" in problems


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
