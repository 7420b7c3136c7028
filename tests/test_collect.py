"""`retinue collect`: whole lists, once each, whatever is killed in between; mirrors, manifests, differences."""

import asyncio
import csv
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import networkx as nx
import pytest

from retinue.client import AccountUnavailable, AsyncClient, Client, Refused, RetryPolicy, Runtime, UserInfo
from retinue.client.responses import RawUserInfo
from retinue.collect import collection, journal
from retinue.collect.collector import Collector, CollectPlan, CollectResult
from retinue.collect.journal import PageRecord
from retinue.collect.progress import Item, Pool
from retinue.collect.verify import verify as verify_collection
from retinue.local import LocalServer
from running import create_client, retinue, running_server
from support.scripted_service import enveloped

LONG = [("anna", f"f{n}", 1_600_000_000 + n) for n in range(450)]
SHORT = [(f"f{n}", "anna", 1_650_000_000 + 3 * n) for n in range(120)] + [("ben", "anna", 1_600_000_000)]
PEOPLE = [
    {"username": "anna", "display_name": "Anna", "bio_description": "hello", "likes_count": 7},
    {"username": "secret", "visibility": "private"},
    {"username": "shy", "visibility": "following_hidden"},
    {"username": "gone", "visibility": "withheld"},
]
GRAPH = pytest.mark.retinue(accounts=PEOPLE, follows=LONG + SHORT)
NAMES = ("anna", "ben", "shy", "secret", "gone", "nobody")


def command(server: LocalServer, folder: Path, *more: str, names: Sequence[str] = NAMES) -> list[str]:
    """A `retinue collect` of these accounts."""
    file = folder.with_suffix(".txt")
    file.write_text("# accounts\n" + "\n".join(names) + "\n")
    access = ("--client-key", server.client_key, "--client-secret", server.client_secret, "--server", server.url)
    return [*("collect", "--usernames", str(file), "-o", str(folder)), *access, *more]


def rows_in(folder: Path, query: str) -> list[Any]:
    """The result of a query on a folder's tables."""
    with closing(duckdb.connect()) as duck:
        return duck.execute(query.format(f"'{folder}/")).fetchall()


def lists_of(server: LocalServer, names: Sequence[str], direction: str = "following") -> dict[str, list[str]]:
    """Return the lists that a server serves."""
    with Client(server.client_key, server.client_secret, server.url) as client:
        ask = client.following if direction == "following" else client.followers
        return {name: [person.username for person in ask(name)] for name in names}


@GRAPH
def test_a_collection_equals_the_lists_of_the_server(retinue_server: LocalServer, tmp_path: Path) -> None:
    """Every row in order, profiles, and why there is nothing of the others; done again, nothing is asked again."""
    folder = tmp_path / "found"
    wanted = command(retinue_server, folder, "--lists", "following,followers,info", "--format", "csv,parquet")
    pace, _, said = retinue(*wanted).partition("\n")
    assert pace.startswith("read 10 pages in ")
    assert said.splitlines() == [
        "following: 2 complete, 2 private, 1 unknown, 1 withheld",
        "following: 451 rows, profiles count 451, gap 0 (lists with a known count: 2)",
        "followers: 3 complete, 1 private, 1 unknown, 1 withheld",
        "followers: 121 rows, profiles count 121, gap 0 (lists with a known count: 3)",
        "info: 3 complete, 1 private, 1 unknown, 1 withheld",
        "10 pages, 572 rows",
    ]
    for direction in ("following", "followers"):
        query = f"SELECT owner, username FROM {{}}rows.csv' WHERE list = '{direction}' ORDER BY owner, rank"
        found = rows_in(folder, query)
        expected = lists_of(retinue_server, ["anna", "ben"], direction)
        assert [(owner, name) for owner in ("anna", "ben") for name in expected[owner]] == found
    ((owner, bio, likes, followers),) = rows_in(
        folder, "SELECT username, bio_description, likes_count, follower_count FROM {}profiles.parquet' LIMIT 1"
    )
    assert (owner, bio, likes, followers) == ("anna", "hello", 7, 121)

    asked = len(retinue_server.requests)
    assert retinue(*wanted) == said
    assert len(retinue_server.requests) == asked
    assert (
        retinue("collect", "verify", str(folder)) == f"{folder}: 10 pages with 572 rows are as they came; complete.\n"
    )
    assert retinue("collect", "diff", str(folder), str(folder)) == "change,follower,followee,list\n"


@GRAPH
def test_each_row_names_its_source(retinue_server: LocalServer, tmp_path: Path) -> None:
    """When its page came, under which log_id, with which hash, and between which seconds the follow began."""
    folder = tmp_path / "found"
    retinue(*command(retinue_server, folder, names=["anna"]))
    pages = {read.sha256: read for read in journal.records(folder / "pages.jsonl") if isinstance(read, PageRecord)}
    rows = rows_in(
        folder, "SELECT username, rank, not_before, not_after, log_id, page_sha256, collected_at FROM {}rows.parquet'"
    )
    assert len(rows) == 450
    seconds = {followee: second for _, followee, second in LONG}
    for username, _, not_before, not_after, log_id, page, collected_at in rows:
        assert (not_before or 0) <= seconds[username] <= not_after
        assert (pages[page].log_id, pages[page].at) == (log_id, collected_at)
    assert {record.log_id for record in retinue_server.requests} >= {read.log_id for read in pages.values()}


@GRAPH
def test_a_killed_collection_loses_and_repeats_no_page(retinue_server: LocalServer, tmp_path: Path) -> None:
    """However often it is killed: each page is in the journal once, and the lists are whole."""
    folder = tmp_path / "found"
    names = ["anna", *(f"f{n}" for n in range(120))]
    arguments = command(retinue_server, folder, "--lists", "following,followers", "--concurrency", "3", names=names)
    kills = 0
    for number in range(200):
        with subprocess.Popen([sys.executable, "-m", "retinue", *arguments], stderr=subprocess.DEVNULL) as process:
            if number % 2 == 0:
                before = len(retinue_server.requests)
                while process.poll() is None and len(retinue_server.requests) < before + 3 + number:
                    time.sleep(0.001)
                process.send_signal(signal.SIGKILL)
        if process.returncode == 0:
            break
        kills += process.returncode == -signal.SIGKILL
    assert kills > 0

    assert "are as they came; complete" in retinue("collect", "verify", str(folder))
    found: dict[str, list[str]] = {}
    for owner, name in rows_in(folder, "SELECT owner, username FROM {}rows.parquet' WHERE list = 'following'"):
        found.setdefault(owner, []).append(name)
    assert found == {name: rows for name, rows in lists_of(retinue_server, names).items() if rows}
    pages = sum(record.endpoint in ("following", "followers") for record in retinue_server.requests)
    written = sum(isinstance(record, PageRecord) for record in journal.records(folder / "pages.jsonl"))
    assert written <= pages <= written + 3 * kills + len(names) + 5  # the last are those that the test has asked for


def collected(
    server: LocalServer, folder: Path, plan: CollectPlan, policy: RetryPolicy, slept: list[float]
) -> CollectResult:
    """Collect in this process, on the server's clock, which jumps where the collector sleeps."""

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        server.clock.advance(int(seconds) + 1)

    outside = Runtime(clock=server.clock, sleep=sleep)

    async def run() -> CollectResult:
        progress = collection.open_collection(folder, server.url, server.clock.now())
        key, secret = server.client_key, server.client_secret
        with closing(journal.Journal(folder / "pages.jsonl")) as writing:
            async with AsyncClient(key, secret, server.url, policy=policy, runtime=outside) as client:
                return await Collector(client, writing, progress, outside).run(plan)

    return asyncio.run(run())


@GRAPH
@pytest.mark.parametrize("limit", ["ours", "the server's"])
def test_collecting_stops_at_the_daily_quota_and_resumes_the_next_day(
    retinue_server: LocalServer, tmp_path: Path, limit: str
) -> None:
    """It stops, and says until when; or goes on after midnight, if that is wanted. No call is lost."""
    folder = tmp_path / "found"
    wanted = [Item(name, "followers") for name in ("anna", *(f"f{n}" for n in range(40)))]
    limits: dict[Pool, int] = {"lists": 10 if limit == "ours" else 1_000, "info": 1_000}
    if limit != "ours":
        retinue_server.limit(list_calls=10)
    slept: list[float] = []
    outcome = collected(retinue_server, folder, CollectPlan(wanted, limits, 4), RetryPolicy(), slept)
    assert outcome.resets_at["lists"] % 86_400 in (0, 1)
    assert not slept
    assert 10 == collection.replay(folder).pages

    outcome = collected(
        retinue_server, folder, CollectPlan(wanted, limits, 4, "wait"), RetryPolicy(quota="wait"), slept
    )
    assert outcome == CollectResult({}, {})
    assert not collection.replay(folder).incomplete(wanted)
    assert 42 == collection.replay(folder).pages


@GRAPH
def test_lists_are_collected_after_calls_for_user_info_are_spent(retinue_server: LocalServer, tmp_path: Path) -> None:
    """Each has its own quota; what was not asked for is said to be missing."""
    folder = tmp_path / "found"
    arguments = command(retinue_server, folder, "--lists", "following,info", "--info-calls-per-day", "2")
    done = subprocess.run([sys.executable, "-m", "retinue", *arguments], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "following: 2 complete, 2 private, 1 unknown, 1 withheld\n" in done.stdout
    assert "info: 2 complete, " in done.stdout
    assert "the daily quota for info is spent; run the same command again after" in done.stderr


@GRAPH
def test_a_mirror_serves_the_same_lists(retinue_server: LocalServer, tmp_path: Path) -> None:
    """Both directions, in the same order, with the same refusals."""
    names = ["anna", "ben", "shy", "secret", "gone", *(f"f{n}" for n in range(0, 450, 7))]
    folder, mirror = tmp_path / "found", tmp_path / "mirror.db"
    retinue(*command(retinue_server, folder, "--lists", "following,followers,info", "--into", str(mirror), names=names))
    assert "every invariant holds" in retinue("check", "--store", str(mirror))
    everybody = ["anna", *names[5:]]
    for direction in ("following", "followers"):
        expected = lists_of(retinue_server, everybody, direction)
        with served(mirror) as client:
            ask = client.following if direction == "following" else client.followers
            assert expected == {name: [person.username for person in ask(name)] for name in everybody}
    with served(mirror) as client:
        for name, reason in (("secret", "private"), ("shy", "private"), ("gone", "withheld")):
            with pytest.raises(AccountUnavailable) as caught:
                list(client.following(name))
            assert caught.value.reason == reason


@contextmanager
def served(store: Path) -> Iterator[Client]:
    """A client of a store that is served."""
    access = create_client(store)
    with running_server(store) as server, Client(access.key, access.secret, server.base_url) as client:
        yield client


@GRAPH
def test_graphml_of_a_collection(retinue_server: LocalServer, tmp_path: Path) -> None:
    """Nodes with what is known of them, an edge for each follow."""
    folder = tmp_path / "found"
    retinue(*command(retinue_server, folder, "--lists", "following,info", "--format", "graphml", names=["anna", "ben"]))
    graph = nx.read_graphml(folder / "graph.graphml")

    assert (graph.number_of_nodes(), graph.number_of_edges()) == (452, 451)
    assert graph.nodes["anna"]["likes_count"] == 7
    assert graph.edges["ben", "anna"]["followed_at"] >= 1_600_000_000


@GRAPH
def test_diff_reports_follows_and_unfollows(retinue_server: LocalServer, tmp_path: Path) -> None:
    """Names in one collection and not in the other; lists that are not whole in both are left out."""
    old, new = tmp_path / "old", tmp_path / "new"
    retinue(*command(retinue_server, old, "--lists", "following,followers", names=["ben", "anna"]))
    over = {"follower": "ben", "followee": "anna", "followed_at": 1_600_000_000, "ended_at": 1_700_000_000}
    retinue_server.load(follows=[("ben", "dora", 1_650_000_000), over])
    retinue(*command(retinue_server, new, "--lists", "following,followers", names=["ben"]))

    done = subprocess.run(
        [sys.executable, "-m", "retinue", "collect", "diff", str(old), str(new)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert list(csv.reader(done.stdout.splitlines()))[1:] == [
        ["followed", "ben", "dora", "following"],
        ["unfollowed", "ben", "anna", "following"],
    ]
    assert "not complete in both: 2 lists" in done.stderr


@GRAPH
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "rows.parquet").unlink(), "rows.parquet: does not exist"),
        (lambda folder: (folder / "follows.parquet").write_bytes(b"x"), "follows.parquet: has 1 bytes"),
        (lambda folder: edit(folder, '\\"f449\\"', '\\"f999\\"'), "has a different hash"),
        (lambda folder: drop_line(folder, 2), "do not continue with cursor"),
        (lambda folder: drop_line(folder, -1), "not 7 with 571"),
    ],
)
def test_damage_to_a_collection_is_found(retinue_server: LocalServer, tmp_path: Path, damage: Any, words: str) -> None:
    """Any change since the files were written is found."""
    folder = tmp_path / "found"
    retinue(
        *command(
            retinue_server,
            folder,
            "--lists",
            "following,followers",
            "--concurrency",
            "1",  # so that it is known which line is which page
            names=["anna"],
        )
    )
    damage(folder)
    done = subprocess.run(
        [sys.executable, "-m", "retinue", "collect", "verify", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert words in done.stderr


@GRAPH
def test_changed_counts_are_found(retinue_server: LocalServer, tmp_path: Path) -> None:
    """In the manifest itself, which no hash protects."""
    folder = tmp_path / "found"
    retinue(*command(retinue_server, folder, names=["anna"]))
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"rows": 450,', '"rows": 449,'))
    assert any("450 rows, not 5 with 449" in problem for problem in verify_collection(folder).problems)


def edit(folder: Path, old: str, new: str) -> None:
    """Change the journal."""
    text = (folder / "pages.jsonl").read_text()
    assert old in text
    (folder / "pages.jsonl").write_text(text.replace(old, new))


def drop_line(folder: Path, number: int) -> None:
    """Remove a line of the journal."""
    lines = (folder / "pages.jsonl").read_text().splitlines(keepends=True)
    del lines[number]
    (folder / "pages.jsonl").write_text("".join(lines))


@GRAPH
@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--lists", "friends"), "--lists: 'friends' is not one of following, followers, info"),
        (("--format", "xlsx"), "--format: 'xlsx' is not one of"),
        (("--server", "example"), "'example' is not the address"),
        (("--client-secret", "wrong"), "invalid_client"),
        (("--usernames", "/nowhere"), "/nowhere: cannot be read"),
        (("--client-key", ""), "give --client-key"),
    ],
)
def test_invalid_options_are_refused(
    retinue_server: LocalServer, tmp_path: Path, more: tuple[str, ...], words: str
) -> None:
    """With what is wrong, and exit code 2."""
    done = subprocess.run(
        [sys.executable, "-m", "retinue", *command(retinue_server, tmp_path / "found"), *more],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, words in done.stderr, done.stderr.count("\n")) == (2, True, 1), done.stderr


@GRAPH
def test_a_collection_belongs_to_one_server(retinue_server: LocalServer, tmp_path: Path) -> None:
    """Another one does not go on in its folder, and no folder with other things is used."""
    folder = tmp_path / "found"
    retinue(*command(retinue_server, folder, names=["ben"]))
    other = [*command(retinue_server, folder, names=["ben"]), "--server", "http://127.0.0.1:9"]
    done = subprocess.run([sys.executable, "-m", "retinue", *other], capture_output=True, text=True, check=False)
    assert "was collected from http://127.0.0.1" in done.stderr

    taken = command(retinue_server, tmp_path / "taken", names=["ben"])
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("precious")
    done = subprocess.run([sys.executable, "-m", "retinue", *taken], capture_output=True, text=True, check=False)
    assert "is not empty and not a collection" in done.stderr


@GRAPH
def test_a_collection_is_locked_by_one_process(retinue_server: LocalServer, tmp_path: Path) -> None:
    """A second collector is refused while the first one works; an existing mirror is refused too."""
    folder, mirror = tmp_path / "found", tmp_path / "mirror.db"
    arguments = command(retinue_server, folder, names=["ben"])
    with collection.lock_folder(folder):
        done = subprocess.run(
            [sys.executable, "-m", "retinue", *arguments], capture_output=True, text=True, check=False
        )
    assert (done.returncode, "another process is collecting into it" in done.stderr) == (2, True)

    mirror.write_text("precious")
    arguments += ["--into", str(mirror)]
    done = subprocess.run([sys.executable, "-m", "retinue", *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, "already exists" in done.stderr) == (2, True)


@pytest.mark.parametrize("sizes", [(67, 25_222, 95_339), (10, 65_535), (1, 65_536, 3), (200_000,)])
def test_only_the_torn_last_line_of_a_journal_is_removed(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    """However long the lines are, and wherever it was cut."""
    path = tmp_path / "pages.jsonl"
    whole = b"".join(b"x" * size + b"\n" for size in sizes[:-1])
    path.write_bytes(whole + b"x" * sizes[-1])
    journal.Journal(path).close()
    assert path.read_bytes() == whole


def test_a_refused_name_does_not_stop_the_others(tmp_path: Path) -> None:
    """A problem with one name is reported; a problem with the client ends the collection."""
    for code, expected in (("invalid_params", True), ("scope_not_authorized", False)):
        refused = Refused(400, code, "no", "")

        class Picky(AsyncClient):
            """Refuses one name."""

            async def log_in(self, *, renew: bool = False) -> None:
                """Log in without asking a server."""

            async def raw_user_info(self, username: str, *, only_counts: bool = False) -> RawUserInfo:
                if username == "odd":
                    raise refused  # noqa: B023 - it runs in this round
                return RawUserInfo(UserInfo(), 1, "", enveloped({}).body)

        folder = tmp_path / code
        progress = collection.open_collection(folder, "x", 1)
        wanted = [Item(name, "info") for name in ("odd", "fine")]

        async def run() -> CollectResult:
            outside = Runtime()
            with closing(journal.Journal(folder / "pages.jsonl")) as writing:  # noqa: B023 - the same
                async with Picky("k", "s", runtime=outside) as client:
                    collector = Collector(client, writing, progress, outside)  # noqa: B023 - the same
                    return await collector.run(CollectPlan(wanted, {"lists": 9, "info": 9}, 1))  # noqa: B023 - the same

        if expected:
            assert list(asyncio.run(run()).failed) == [wanted[0]]
            assert not progress.incomplete(wanted[1:])
        else:
            assert asyncio.run(run()).stopped == str(refused)
