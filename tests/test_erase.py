"""`retinue erase`: who is forgotten, that no byte of them is left, and that they do not come back."""

import asyncio
import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from retinue.errors import StoreError
from retinue.model import (
    AccountEvent,
    AccountRecord,
    Direction,
    ErasureEvent,
    Event,
    FollowEvent,
    FollowRecord,
    Visibility,
)
from retinue.store.contract import Verdict
from retinue.store.open import open_store
from retinue.store.sqlite import files
from retinue.store.sqlite.engine import compact
from running import Server, fresh_token, running_server
from support.backends import BackendFactory
from support.commands import list_of, retinue
from support.frozen_clock import FrozenClock
from support.served import exchange
from support.service import FOLLOWING, problems_of
from support.waiting import waiting_for

NOW = 1_700_000_000
# In all that the erased are called, and say of themselves.
MARK = "zorro"
KEYS = [f"key-{MARK}-{number}" for number in range(0, 264, 3)]


def told(store: Path, *events: Event) -> None:
    """Make a store of events."""
    open_store(str(store)).create()
    with closing(open_store(str(store)).writer(FrozenClock(NOW))) as writer:
        asyncio.run(writer.apply(events, NOW))


def said(key: str, at: int, username: str | None = None, **fields: Any) -> AccountEvent:
    """An account was created or changed."""
    return AccountEvent(AccountRecord(username, key, **fields), at)


def traces(store: Path) -> list[str]:
    """The files in the store's folder that hold something of the erased."""
    paths = [path for pattern in ("*.*", "*.audit/*") for path in store.parent.glob(pattern) if path.is_file()]
    return sorted(path.name for path in paths if MARK.encode() in path.read_bytes().lower())


def erased(store: Path, *arguments: str) -> str:
    """Erase, which must succeed; what is told."""
    temporary = store.parent / "temporary"  # else what other killed tests left is told, too
    temporary.mkdir(exist_ok=True)
    done = retinue("erase", *arguments, "--store", store, TMPDIR=str(temporary))
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout


def names_of(store: Path, name: str, direction: Direction = Direction.FOLLOWING) -> list[str]:
    """The usernames of a list."""
    return [username for username, _ in list_of(store, name, direction)]


def counts_of(store: Path, name: str) -> tuple[int, int]:
    """Return how many accounts an account follows, and how many follow it."""
    with closing(open_store(str(store)).graph(FrozenClock())) as graph:
        account = asyncio.run(graph.find_account(name))
        assert account is not None
        profile = asyncio.run(graph.profile(account.id))
    assert profile is not None
    return profile.following_count, profile.follower_count


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder for files to import, apart from the store's."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    return folder


def small_graph(store: Path) -> None:
    """Make an account with two names, known to three others in every possible way."""
    told(
        store,
        said("17", NOW - 99, "Zorro.Old"),
        said("17", NOW - 9, "Zorro_New", display_name="Zorro 👩‍👩‍👧", bio_url="https://zorro.example"),
        FollowEvent("17", "ann", NOW - 50),
        FollowEvent("ann", "17", NOW - 50),
        FollowEvent("ann", "ben", NOW - 50),
        FollowEvent("ben", "17", NOW - 50),
        FollowEvent("ben", "17", NOW - 40, is_follow=False),
        FollowEvent("ben", "ann", NOW - 30),
    )


def test_erasure_keeps_the_data_of_others(store_path: Path) -> None:
    """The account is gone from lists and counts, and from nothing else, also before anything is tidied up."""
    small_graph(store_path)

    for arguments, words in ((["17"], "17: erased\n"), (["--compact"], f"{store_path}: compacted\n")):
        assert words == erased(store_path, *arguments)
        assert ["ben"] == names_of(store_path, "ann") == names_of(store_path, "ann", Direction.FOLLOWERS)
        assert ["ann"] == names_of(store_path, "ben") == names_of(store_path, "ben", Direction.FOLLOWERS)
        assert [(1, 1), (1, 1)] == [counts_of(store_path, name) for name in ("ann", "ben")]
        assert [] == problems_of(store_path)
        for name in ("zorro_new", "zorro.old", "17"):
            assert 1 == retinue("following", name, "--store", store_path).returncode


def crowd() -> list[Event]:
    """Accounts of which every third will be erased: all in each other's lists, with texts of all lengths."""
    events: list[Event] = []
    for number in range(240):
        mark = MARK if number % 3 == 0 else "other"
        key = f"key-{mark}-{number}"
        events += [
            said(key, NOW - 900 + number, f"{mark}_{number}", display_name=f"{mark} ë {number}"),
            said(key, NOW - 500 + number, f"{mark.upper()}ö.{number}", bio_description=f"{mark} " * (number * 7)),
            said(key, NOW - 100, f"{mark}.{number}", bio_url=f"https://{mark}.example", avatar_url=f"https://{mark}"),
            said(key, NOW - 90, visibility=Visibility(number % 4), display_name=f"{mark} {number}"),
        ]
        for step in range(1, 25):
            events.append(
                FollowEvent(key, f"key-{'other' if (number + step) % 3 else MARK}-{number + step}", NOW - step)
            )
    return events


def test_erasure_leaves_no_byte_in_any_file(store_path: Path) -> None:
    """Keys, all names they ever had, and profiles, though the file has grown, changed and been written back since."""
    told(store_path, *crowd())
    assert [store_path.name] == traces(store_path)

    erased(store_path, *KEYS, "--compact")

    assert [] == traces(store_path)
    assert b"other.239" in store_path.read_bytes()


def test_erasure_removes_rejected_rows(store_path: Path, inputs: Path) -> None:
    """They may hold the names of the erased."""
    small_graph(store_path)
    bad, long = inputs / "bad.csv", inputs / "long.csv"
    bad.write_text("username,id,visibility\nZorro,17,unseen\n")
    long.write_text("follower,followee\nanna,ben\n" + "zorro\n" * 500_000)
    assert 1 == retinue("import", "--store", store_path, "--accounts", bad).returncode
    command = [sys.executable, "-m", "retinue", "import", "--store", str(store_path), str(long)]
    with subprocess.Popen(command) as importing:
        waiting_for(lambda: any(path.stat().st_size for path in store_path.parent.glob("*.rejects.jsonl.*.new")))
        importing.kill()
    assert 2 == len([name for name in traces(store_path) if "rejects" in name])

    told_by_it = erased(store_path, "17", "--compact")

    assert 2 == told_by_it.count(": removed\n")
    assert [] == traces(store_path)


def test_old_files_and_events_do_not_restore_erased_accounts(store_path: Path, inputs: Path) -> None:
    """Rows and events of an erased account are rejected by key and every name, and rejects do not name it."""
    small_graph(store_path)
    accounts, follows, events = (inputs / name for name in ("accounts.csv", "follows.csv", "events.jsonl"))
    accounts.write_text("username,id\nZorro_New,17\nzorro.old,\nanother,17\nann,ann\n")
    follows.write_text("follower,followee\n17,ann\nZORRO.old,ben\nann,@zorro_new\nann,ben\n")
    events.write_text(
        f'{{"event":"follow","follower":"ann","followee":"17","at":{NOW - 50}}}\n'
        f'{{"event":"account","account":"17","username":"Zorro_New","at":{NOW - 9}}}\n'
    )
    erased(store_path, "17", "--compact")

    imported = retinue("import", "--store", store_path, "--accounts", accounts, follows)
    applied = retinue("apply", "--store", store_path, events)

    rejects = [json.loads(line) for line in store_path.with_suffix(".rejects.jsonl").read_text().splitlines()]
    assert (1, 1) == (imported.returncode, applied.returncode)
    assert [2, 3, 4, 2, 3, 4] == [reject["line"] for reject in rejects]
    assert {"the account was erased"} == {reject["reason"] for reject in rejects}
    assert [(1, "the account was erased"), (2, "the account was erased")] == [
        (rejected["line"], rejected["reason"]) for rejected in json.loads(applied.stdout)["rejected"]
    ]
    assert ["ben"] == names_of(store_path, "ann")
    assert [] == traces(store_path)
    erased(store_path, "--compact")
    assert [] == traces(store_path)


def test_a_second_erasure_says_so(store_path: Path) -> None:
    """The same holds within one command; an unknown key is remembered, and later rows with it are rejected."""
    small_graph(store_path)

    assert "17: erased\n17: was erased before\n" == erased(store_path, "17", "17")
    assert "17: was erased before\n" == erased(store_path, "17")
    assert "99: no account has this key; later data for it is rejected\n" == erased(store_path, "99")
    assert "99: was erased before\n" == erased(store_path, "99")


def test_an_unknown_erased_account_stays_erased_in_any_spelling(store_path: Path) -> None:
    """As it would be had the rows come before the erasure."""
    told(store_path, ErasureEvent("Zed", NOW))
    rows = [FollowRecord("Zed", "ann", NOW, NOW), FollowRecord("ann", "zed", NOW, NOW), FollowRecord("@ZED", "a", 1, 1)]

    with closing(open_store(str(store_path)).writer(FrozenClock(NOW))) as writer:
        assert [Verdict.ERASED] * 3 == asyncio.run(writer.add_follows(rows))
        assert [Verdict.ERASED] == asyncio.run(writer.add_accounts([AccountRecord("zed")], NOW))


def test_rows_with_erased_accounts_are_rejected_beside_odd_names(new_backend: BackendFactory) -> None:
    """Or the rejected rows that an import keeps would say who was erased."""
    rows = [FollowRecord("no name", "zed", NOW, NOW), FollowRecord("zed", "no name", NOW, NOW)]

    with closing(new_backend()) as backend, closing(backend.open_writer(FrozenClock(NOW))) as writer:
        asyncio.run(writer.apply([ErasureEvent("zed", NOW)], NOW))
        assert [Verdict.ERASED] * 2 == asyncio.run(writer.add_follows(rows))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "erase: give keys of accounts, or --compact"),
        (["ann", "Zorro_New"], "Zorro_New is the username of an account whose key is 17; nothing was erased"),
        (["ann", "@zorro_new"], "@zorro_new is the username of an account whose key is 17; nothing was erased"),
        (["ann", "Zorro.Old"], "Zorro.Old is a former name of an account whose key is 17; nothing was erased"),
        (["ann", ""], "erase: '' is empty"),
        (["ann", "x" * 65], "is longer than 64 bytes"),
        (["ann", "a\nb"], "erase: 'a\\nb' has characters that cannot be printed"),
        (["ann", "--store", "none.db"], "none.db: there is no follow graph here"),
    ],
)
def test_an_impossible_erasure_is_reported_and_erases_nothing(
    store_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    """One clear line, exit code 2; not even those that could be are erased."""
    monkeypatch.chdir(store_path.parent)
    small_graph(store_path)

    done = retinue("erase", "--store", store_path, *arguments)

    assert (2, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
    assert words in done.stderr
    assert ["zorro_new", "ben"] == names_of(store_path, "ann")
    assert not Path("none.db").exists()


def test_a_busy_reader_delays_erasure_of_the_wal_and_it_says_so(store_path: Path) -> None:
    """Nothing is lost; when the reader is done, compacting again leaves no byte."""
    told(store_path, *crowd())
    erased(store_path, *KEYS)
    with (
        closing(files.open_for_reading(store_path, files.GRAPH)) as reader,
        closing(files.open_for_writing(store_path, files.GRAPH)) as writer,
    ):
        writer.set_busy_timeout(50)
        with files.one_state(reader):
            reader.execute("SELECT * FROM account LIMIT 1").fetchall()
            with pytest.raises(StoreError, match="its log is still in use; stop what reads it and compact again"):
                compact(writer)
            assert [] == problems_of(store_path)
            assert [] != traces(store_path)

    erased(store_path, "--compact")
    assert [] == traces(store_path)


def asked(server: Server, token: str, name: str) -> tuple[int, str]:
    """Ask for a following list on a new connection, so that all workers are asked; return status and text."""
    body = json.dumps({"username": name}).encode()
    head = f"POST {FOLLOWING} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    status, _, answer = exchange(server, head.encode() + body)
    return status, json.dumps(answer)


def test_a_running_server_forgets_at_once(store_path: Path) -> None:
    """Every worker soon knows none of the names, and the files can be compacted meanwhile."""
    small_graph(store_path)
    with running_server(store_path, "--workers", "2") as server:
        token = fresh_token(server, store_path)
        assert {200} == {asked(server, token, name)[0] for name in ("zorro_new", "ann") * 8}
        assert MARK in asked(server, token, "ann")[1]

        erased(store_path, "17", "--compact")

        assert [] == traces(store_path)
        waiting_for(lambda: {400} == {asked(server, token, "zorro_new")[0] for _ in range(8)})
        assert "cannot find the user" in asked(server, token, "zorro_new")[1]
        waiting_for(lambda: not any(MARK in asked(server, token, "ann")[1] for _ in range(8)))
        assert '"username": "ben"' in asked(server, token, "ann")[1]
