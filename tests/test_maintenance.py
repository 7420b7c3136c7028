"""`retinue backup` and `retinue store migrate`: whole copies while others write, and old stores as they were."""

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import pytest

from retinue import wiring
from retinue.access.clients import digest_of
from retinue.errors import ClientInvalid
from retinue.model import (
    RESEARCH_SCOPE,
    Account,
    AccountEvent,
    AccountRecord,
    Direction,
    FollowRecord,
    Profile,
    Quota,
    Stretch,
    Visibility,
)
from retinue.names import fold
from retinue.store.base import Verdict
from retinue.store.open import open_store
from retinue.store.sqlite import files
from support.commands import list_of, retinue, size_of
from support.frozen_clock import FrozenClock
from support.model_store import free_second
from support.service import Service, problems_of
from support.waiting import waiting_for

NOW = 1_700_000_000
OLD_ACCESS_SCHEMA = (Path(__file__).parent / "schemas" / "access-1.sql").read_text()
OLD_SCHEMA = (Path(__file__).parent / "schemas" / "graph-1.sql").read_text()


def ignored(_done: int, _total: int) -> None:
    """Ignore the progress."""


# Backup


def test_a_backup_is_complete_and_private(service: Service, tmp_path: Path) -> None:
    """Graph, clients and tokens, in files of mode 0600, while the store is open and its log is full."""
    service.follow("a", *((f"b{n}", NOW - n) for n in range(300)))
    copy = tmp_path / "copies" / "monday.db"
    copy.parent.mkdir()

    done = retinue("backup", copy, "--store", service.store)

    log = open_store(str(service.store)).paths.audit_folder()
    told = f"Copied {service.store} to {copy}. Copy its audit log now: {log} is not in it.\n"
    assert (0, told, "") == (done.returncode, done.stdout, done.stderr)
    assert ["monday.access.db", "monday.db"] == sorted(path.name for path in copy.parent.iterdir())
    assert {0o600} == {path.stat().st_mode & 0o777 for path in copy.parent.iterdir()}
    assert [] == problems_of(copy)
    assert list_of(Path(service.store), "a") == list_of(copy, "a")
    assert "test" in retinue("client", "list", "--store", copy, "--json").stdout


def test_a_backup_excludes_concurrent_writes(service: Service, tmp_path: Path) -> None:
    """A backup shows the instant at which copying began, and is not restarted."""
    bios = (AccountRecord(f"bio{n}", bio_description="x" * 4000) for n in range(2500))
    asyncio.run(service.writer.add_accounts(list(bios), NOW))
    service.follow("a", ("before", NOW - 50))
    pages: list[tuple[int, int]] = []

    def write(done: int, total: int) -> None:
        pages.append((done, total))
        if len(pages) < 9:  # a copy that is begun anew by every write would never end
            service.follow("a", (f"meanwhile{len(pages)}", NOW - 40 + len(pages)))

    open_store(service.store).back_up(tmp_path / "copy.db", write)

    assert [] == problems_of(tmp_path / "copy.db")
    assert [("before", "")] == list_of(tmp_path / "copy.db", "a")
    assert len(list_of(Path(service.store), "a")) > 1
    assert sorted(set(pages)) == pages


def test_a_backup_during_an_import_is_consistent(store_path: Path, tmp_path: Path) -> None:
    """It holds the first rows of the file, all up to some row and none after it."""
    follows = tmp_path / "f.csv"
    follows.write_text("follower,followee,followed_at\n" + "".join(f"a,b{n},{NOW - n}\n" for n in range(60_000)))
    copies = [tmp_path / f"copy{number}.db" for number in range(3)]
    open_store(str(store_path)).create()
    command = [sys.executable, "-m", "retinue", "import", "--store", str(store_path), str(follows)]
    with subprocess.Popen(command) as importing:
        waiting_for(lambda: size_of(store_path) > 200_000)
        for copy in copies:
            open_store(str(store_path)).back_up(copy, ignored)
        importing.kill()

    for copy in copies:
        names = [username for username, _ in list_of(copy, "a")]
        assert 0 < len(names) < 60_000
        assert [f"b{n}" for n in range(len(names))] == names
        assert [] == problems_of(copy)


@pytest.mark.parametrize("taken", ["copy.db", "copy.access.db"])
def test_a_backup_never_replaces_a_file(service: Service, tmp_path: Path, taken: str) -> None:
    """Not even half of it: where one of the two files is there, nothing is copied."""
    (tmp_path / taken).write_text("precious")
    before = sorted(tmp_path.iterdir())

    done = retinue("backup", tmp_path / "copy.db", "--store", service.store)

    assert 2 == done.returncode
    assert f"retinue: already there: {tmp_path / taken}; a backup replaces nothing" in done.stderr
    assert "precious" == (tmp_path / taken).read_text()
    assert before == sorted(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("target", "store", "words"),
    [
        ("no/copy.db", "graph.db", "no/copy.db: cannot be made: there is no folder no"),
        ("copy.db", "none.db", "none.db: there is no follow graph here"),
        ("copy.db", "notes.txt", "notes.txt: not a Retinue follow graph"),
    ],
)
def test_an_impossible_backup_is_reported(
    store_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, store: str, words: str
) -> None:
    """One clear line, exit code 2, and nothing is made."""
    monkeypatch.chdir(store_path.parent)
    open_store(store_path.name).create()
    Path("notes.txt").write_text("x" * 5000)

    done = retinue("backup", target, "--store", store)

    assert (2, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
    assert done.stderr.startswith(f"retinue: {words}")
    assert [] == list(Path().rglob("copy*"))


# An old store


class OldStore(NamedTuple):
    """Rows of the tables `account`, `profile` and `following` of the first schema."""

    accounts: Sequence[tuple[int, str, str | None, str, str, int, int, int]]
    profiles: Sequence[tuple[Any, ...]]
    follows: Sequence[tuple[int, int, int, int | None]]


def written(path: Path, old: OldStore) -> Path:
    """A store as the first version of Retinue left it, but for its access file."""
    open_store(str(path)).create()
    path.unlink()
    path.touch(files.FILE_MODE)
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(OLD_SCHEMA)
        connection.execute(f"PRAGMA application_id = {files.GRAPH.application_id}")
        connection.execute("PRAGMA user_version = 1")
        with connection:
            for table, rows in zip(("account", "profile", "following"), old, strict=True):
                for row in rows:
                    connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
    return path


def content(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, and the version of the schema."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        found = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}
        return found | {"version": connection.execute("PRAGMA user_version").fetchall()}


SMALL = OldStore(
    accounts=[
        (1, "17", "anna", "anna", "Änna 👩‍👩‍👧", 0, NOW - 90, 3),
        (2, "18", None, "anna", "Old Anna", 0, NOW - 95, 4),
        (3, "20", "ben-é", "Ben-é", "", 1, NOW - 80, 0),
        (4, "c", "c", "c", "", 2, NOW - 80, 0),
        (5, "d", "d", "d", "", 3, NOW - 80, 5),
        (6, "19", None, "anna", "", 0, NOW - 70, 6),
    ],
    profiles=[(1, "bio", "https://a.example", "https://b.example", 1, 5, None), (4, "", None, None, 0, None, 9)],
    follows=[
        (1, 500, 2, None),
        (1, 499, 3, 500),
        (1, 498, 4, 500),
        (1, 300, 5, 500),
        (1, 299, 6, None),
        (3, 500, 1, None),
        (4, 500, 1, None),
        (2, 3, 1, 1),
        (2, 1, 3, 1),
        (2, 2, 4, 1),
    ],
)


def large(follows: int, seed: int, size: int = 100) -> OldStore:
    """Many accounts of all kinds, and lists with long bursts, so that many follows stand away from their second."""
    draw = random.Random(seed)
    accounts = [
        (n, f"k{n}", None if draw.random() < 0.1 else f"u{n}", f"u{n}", "", draw.randrange(4), draw.randrange(9), 0)
        for n in range(1, size + 1)
    ]
    taken: dict[int, set[int]] = {n: set() for n, *_ in accounts}
    rows = []
    for pair in draw.sample(range(size * (size - 1)), follows):
        follower, followee = pair // (size - 1) + 1, pair % (size - 1) + 1
        second = draw.choice([draw.randrange(1, 9), draw.randrange(NOW - 300, NOW)])
        position = free_second(taken[follower], second)
        taken[follower].add(position)
        rows.append((follower, position, followee + (followee >= follower), None if position == second else second))
    return OldStore(accounts, [], sorted(rows))


def list_with_positions(store: Path, account: int, direction: Direction) -> list[tuple[int, str]]:
    """Positions and usernames of a whole list, newest first, as cursors meet them."""
    found, bound, has_more = [], NOW, True
    with closing(open_store(str(store)).graph(FrozenClock(NOW))) as graph:
        while has_more:
            page = asyncio.run(graph.read(Stretch(account, direction, bound, 1)))
            found += [(page.oldest, row.username) for row in page.rows]
            bound, has_more = page.oldest - 1, page.has_more
    return found


# Migration


@pytest.mark.parametrize("old", [SMALL, large(3000, seed=1)], ids=["small", "large"])
def test_positions_stay_and_followers_come(store_path: Path, old: OldStore) -> None:
    """Every cursor that a client holds goes on meaning the same; each follow is in both lists, with its true time."""
    written(store_path, old)

    first = retinue("store", "migrate", "--store", store_path)
    second = retinue("store", "migrate", "--store", store_path)

    access = f"{files.access_path(store_path)}: schema 2 already.\n"
    assert (0, f"{access}{store_path}: schema 1 is now 2.\n", "") == (first.returncode, first.stdout, first.stderr)
    assert (0, f"{access}{store_path}: schema 2 already.\n", "") == (second.returncode, second.stdout, second.stderr)
    assert [] == problems_of(store_path)
    names = {account: name for account, _, folded, name, _, visibility, *_ in old.accounts if folded and visibility < 2}
    for owner, *_ in old.accounts:
        following = [(at, names[other]) for one, at, other, _ in old.follows if one == owner and other in names]
        assert sorted(following, reverse=True) == list_with_positions(store_path, owner, Direction.FOLLOWING)
        followers = [names[one] for one, _, other, _ in old.follows if other == owner and one in names]
        found = [name for _, name in list_with_positions(store_path, owner, Direction.FOLLOWERS)]
        assert sorted(followers) == sorted(found)


def test_the_old_rows_are_known_after_migration(store_path: Path) -> None:
    """Importing the same files again changes nothing."""
    old = large(2000, seed=2)
    open_store(str(written(store_path, old))).migrate(ignored)
    rows = [FollowRecord(f"k{one}", f"k{other}", true or at, NOW) for one, at, other, true in old.follows]

    with closing(open_store(str(store_path)).writer(FrozenClock(NOW))) as writer:
        assert {Verdict.DUPLICATE} == set(asyncio.run(writer.add_follows(rows)))


def test_names_visibility_and_profiles_stay(store_path: Path) -> None:
    """Who has a name has it still, and who lost one has none until a later claim."""
    open_store(str(written(store_path, SMALL))).migrate(ignored)
    names = ("anna", "BEN-É", "20", "c", "d")

    with closing(open_store(str(store_path)).graph(FrozenClock(NOW))) as graph:
        found = {name: asyncio.run(graph.find_account(fold(name))) for name in names}
        assert {
            "anna": Account(1, Visibility.PUBLIC),
            "BEN-É": Account(3, Visibility.FOLLOWING_HIDDEN),
            "20": None,
            "c": Account(4, Visibility.PRIVATE),
            "d": Account(5, Visibility.WITHHELD),
        } == found
        first, fourth = (asyncio.run(graph.profile(account)) for account in (1, 4))
        assert Profile("Änna 👩‍👩‍👧", "bio", "https://a.example", "https://b.example", True, 5, 0, 5, 3) == first
        assert Profile("", "", "", "", False, 0, 9, 1, 2) == fourth


@pytest.mark.parametrize(("second", "holder"), [(NOW - 91, 1), (NOW - 89, 2)])
def test_a_name_that_was_lost_can_be_claimed_again(store_path: Path, second: int, holder: int) -> None:
    """Claims keep their seconds: an earlier one than the holder's does not win, a later one does."""
    open_store(str(written(store_path, SMALL))).migrate(ignored)
    clock = FrozenClock(NOW)

    with closing(open_store(str(store_path)).writer(clock)) as writer:
        asyncio.run(writer.apply([AccountEvent(AccountRecord(key="18", username="anna"), second)], NOW))
    with closing(open_store(str(store_path)).graph(clock)) as graph:
        assert Account(holder, Visibility.PUBLIC) == asyncio.run(graph.find_account("anna"))


def test_clients_and_tokens_stay_good(store_path: Path, clock: FrozenClock) -> None:
    """A client of an older access file keeps secret and tokens, and gets the quota of TikTok's API."""
    open_store(str(store_path)).create()
    path = files.access_path(store_path)
    path.unlink()
    path.touch(files.FILE_MODE)
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute(OLD_ACCESS_SCHEMA)
        connection.pragma("journal_mode", "wal")
        connection.execute(f"PRAGMA application_id = {files.ACCESS.application_id}; PRAGMA user_version = 1")
        for key, revoked_at in (("k1", None), ("k2", 900)):
            values = (key, f"Name {key}", digest_of(f"secret {key}"), "research.data.basic", 800, revoked_at)
            connection.execute("INSERT INTO client VALUES (?, ?, ?, ?, ?, ?)", values)
            token = (digest_of(f"clt.{key}"), key, clock.now() + 7000)
            connection.execute("INSERT INTO token VALUES (?, ?, ?)", token)
    refused = retinue("client", "list", "--store", store_path)

    done = retinue("store", "migrate", "--store", store_path)

    assert 2 == refused.returncode
    assert refused.stderr.endswith(f"run `retinue store migrate --store {store_path}`\n")
    assert (0, f"{path}: schema 1 is now 2.\n{store_path}: schema 2 already.\n") == (done.returncode, done.stdout)
    with closing(open_store(str(store_path)).access()) as access:
        authenticator = wiring.authenticator(access, clock)
        assert "Name k1" == asyncio.run(authenticator.authenticate("k1", "secret k1")).name
        grant = asyncio.run(authenticator.authorize(b"Bearer clt.k1", RESEARCH_SCOPE))
        assert ("k1", Quota()) == (grant.client_key, grant.quota)
        with pytest.raises(ClientInvalid):
            asyncio.run(authenticator.authenticate("k2", "secret k2"))


def test_a_killed_migration_leaves_the_old_store(store_path: Path) -> None:
    """SIGKILL when most is done: not a row has changed, and the next migration is whole."""
    written(store_path, large(20_500, seed=4, size=200))
    before = content(store_path)
    kill = "lambda done, total: done and os.kill(os.getpid(), signal.SIGKILL)"
    program = f"import os, signal; from retinue import wiring; open_store({str(store_path)!r}).migrate({kill})"

    assert -signal.SIGKILL == subprocess.run([sys.executable, "-c", program], check=False).returncode
    assert before == content(store_path)
    assert [(2, 2), (1, 2)] == [migrated[1:] for migrated in open_store(str(store_path)).migrate(ignored)]


def test_a_damaged_old_store_is_not_migrated(tmp_path: Path) -> None:
    """A follow of an account that is not there: one clear line, and the file is as it was."""
    store_path = written(tmp_path / "old.db", SMALL)
    with closing(apsw.Connection(str(store_path))) as connection:
        connection.execute("INSERT INTO following VALUES (1, 77, 99, NULL)")
    before = content(store_path)

    done = retinue("store", "migrate", "--store", store_path)

    assert (2, 1) == (done.returncode, done.stderr.count("\n"))
    assert str(store_path) in done.stderr
    assert before == content(store_path)


COMMANDS = ["check", "serve", "import f.csv", "apply f.csv", "following anna", "erase 17", "backup copy"]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_old_store_is_not_touched_before_it_is_migrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Every command says how to migrate it, and makes and changes nothing."""
    monkeypatch.chdir(tmp_path)
    store = written(Path("old.db"), SMALL)
    Path("f.csv").write_text("follower,followee\na,b\n")
    before = content(store), sorted(tmp_path.glob("c*"))

    done = retinue(*command.split(), "--store", store)

    assert (2, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
    assert "run `retinue store migrate --store old.db`" in done.stderr
    assert before == (content(store), sorted(tmp_path.glob("c*")))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("PRAGMA user_version = 3", "written by a newer Retinue (schema 3, this program knows 2); update Retinue"),
        ("PRAGMA application_id = 5", "not a Retinue follow graph (it is another program's SQLite file)"),
    ],
)
def test_what_is_no_old_store_is_not_migrated(tmp_path: Path, change: str, words: str) -> None:
    """One clear line, exit code 2, and the file is as it was."""
    store = written(tmp_path / "other.db", SMALL)
    with closing(apsw.Connection(str(store))) as connection:
        connection.execute(change)
    before = content(store)

    done = retinue("store", "migrate", "--store", store)

    assert (2, f"retinue: {store}: {words}\n") == (done.returncode, done.stderr)
    assert before == content(store)
