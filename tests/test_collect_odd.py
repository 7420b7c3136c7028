"""`retinue collect` and its client where services, names, disks and surroundings are odd: nothing is lost."""

import asyncio
import json
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, cast

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retinue.client import (
    AccountUnavailable,
    AsyncClient,
    Client,
    DailyQuotaExceeded,
    GaveUp,
    Refused,
    RetryPolicy,
    addresses,
)
from retinue.collect import collection, journal
from retinue.collect.collector import CollectPlan
from retinue.collect.progress import Item, Pool
from retinue.errors import InputError
from running import create_client, retinue, running_server
from support.collecting import SHORT, arguments_of, asked, collected, tables
from support.scripted_service import TOKEN, Said, enveloped, page, scripted
from support.waiting import PATIENCE_SECONDS

MANY: dict[Pool, int] = {"lists": 1_000, "info": 1_000}
ALL_FORMATS = ("parquet", "csv", "jsonl", "graphml")


def places(count: int) -> list[Item]:
    """The following of so many accounts."""
    return [Item(f"a{number}", "following") for number in range(count)]


# --- a service that is not there -----------------------------------------------------------------------------------


def test_collecting_without_a_token_creates_nothing(tmp_path: Path) -> None:
    """However many lists wait for one, it is asked for as often as the policy says, and no more."""
    asked_for = Counter[str]()

    def no_token() -> Said:
        asked_for["token"] += 1
        return Said(b"", 503)

    with scripted(lambda _path, _body: page([]), no_token) as url:
        with pytest.raises(GaveUp, match="tried 3 times; last failure: status 503"):
            collected(url, tmp_path / "found", CollectPlan(places(8), MANY, 8))
    assert asked_for["token"] == 3


def test_an_unreachable_service_ends_the_collection(tmp_path: Path) -> None:
    """Lists that were read stay; the others are not each waited for."""
    gone: list[bool] = []

    def answer(_path: str, body: dict[str, Any]) -> Said:
        if body["username"] == "a3":
            gone.append(True)
        return Said(b"", 502) if gone else page([{"username": "b"}])

    with scripted(answer, lambda: Said(b"", 502) if gone else TOKEN) as url:
        outcome = collected(url, tmp_path / "found", CollectPlan(places(500), MANY, 1))
    assert "tried 3 times" in outcome.stopped
    assert [place.name for place in outcome.failed] == ["a3"]
    assert collection.replay(tmp_path / "found").pages == 3


def test_an_unavailable_account_does_not_end_the_collection(tmp_path: Path) -> None:
    """While there are tokens, it is that account; the others are read."""
    with scripted(lambda _path, body: Said(b"", 502) if body["username"] in ("a0", "a1", "a2") else page([])) as url:
        outcome = collected(url, tmp_path / "found", CollectPlan(places(6), MANY, 1))
    assert ("", 3) == (outcome.stopped, len(outcome.failed))
    assert collection.replay(tmp_path / "found").pages == 3


def test_long_waits_are_reported(tmp_path: Path) -> None:
    """The reason for a wait is printed, and Ctrl-C or SIGTERM end it at once."""
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with scripted(odd, lambda: Said(b"", 503)) as url:
            arguments = arguments_of(url, tmp_path / f"found{number}", ["anna"])
            with subprocess.Popen(
                [sys.executable, "-m", "retinue", *arguments], stderr=subprocess.PIPE, text=True
            ) as process:
                assert process.stderr is not None
                line = process.stderr.readline()
                process.send_signal(number)
                rest = process.stderr.read()
        assert line.startswith("retinue: waiting for 0:00:")
        assert "status 503" in line
        assert (process.returncode, rest) == (code, "retinue: Interrupted. Run the same command again to resume.\n")


def test_an_unreachable_service_is_reported_soon(tmp_path: Path) -> None:
    """A wrong address ends the command with 2, and the message names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    done = asked(url, tmp_path / "found", ["anna"])
    assert (done.returncode, f"is there a service at {url}?" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_stopped_collection_says_so_in_one_line(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """While pages are read, while tables are written: never with a traceback, and the same command goes on."""
    folder = tmp_path / "found"

    def answer(_path: str, body: dict[str, Any]) -> Said:
        below = body.get("cursor") or 60
        rows = [{"username": f"u{below}.{number}", "display_name": ""} for number in range(100)]
        return page(rows, below - 1, has_more=below > 2)

    stopped, seconds = 0, 0.4
    with scripted(answer) as url:
        command = [sys.executable, "-m", "retinue", *arguments_of(url, folder, list("abcd"))]
        for _ in range(100):
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(seconds)  # a busy machine needs many times as long as a quiet one
                process.send_signal(number)
                said = process.communicate()[1]
            seconds *= 1.15
            if process.returncode == 0 and stopped:
                break
            if process.returncode == 0:  # the machine was quicker than before
                seconds = 0.4
                shutil.rmtree(folder)
                continue
            if not said and process.returncode in (-number, code):  # before it has begun, or when it was over
                continue
            stopped += 1
            assert (process.returncode, said) == (code, "retinue: Interrupted. Run the same command again to resume.\n")
    assert stopped > 0
    assert not (folder / "tables.new").exists()
    assert "complete" in retinue("collect", "verify", str(folder))


ODD_LOOP = """
import asyncio, signal, sys
from retinue.cli.signals import ending_in_order, run

number, instant = int(sys.argv[1]), sys.argv[2]

class Loop(asyncio.SelectorEventLoop):
    def __init__(self):
        if instant == "made":
            signal.raise_signal(number)
        super().__init__()

    def close(self):
        super().close()
        if instant == "closed":
            signal.raise_signal(number)

class RetryPolicy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self):
        return Loop()

asyncio.set_event_loop_policy(RetryPolicy())
try:
    with ending_in_order():
        run(lambda: asyncio.sleep(0.1))
        print("went on")
except Exception as ended:
    sys.exit(ended.exit_code)
"""


@pytest.mark.parametrize("instant", ["made", "closed"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_are_held_while_the_event_loop_starts_or_closes(
    number: signal.Signals, code: int, instant: str
) -> None:
    """Until then, and not lost: the command ends in order, without a traceback."""
    command = [sys.executable, "-c", ODD_LOOP, str(int(number)), instant]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (code, "", "") == (done.returncode, done.stdout, done.stderr)


INTERRUPTED_IN_CODE = """
import sys
import retinue.cli.main
from retinue.__main__ import main

def app():
    try:
        exec("raise KeyboardInterrupt")
    except KeyboardInterrupt:
        sys.exit(130)

retinue.cli.main.app = app
main()
"""


def test_an_interrupt_inside_of_generated_code_leaves_the_exit_code(tmp_path: Path) -> None:
    """Classes are generated while modules are loaded; Python would end itself with the signal after that."""
    (tmp_path / "child.py").write_text(INTERRUPTED_IN_CODE)
    done = subprocess.run([sys.executable, "-m", "child"], cwd=tmp_path, check=False)

    assert 130 == done.returncode


def test_an_ignored_hangup_stays_ignored(tmp_path: Path) -> None:
    """As `nohup` does it."""
    asked, is_sent = threading.Event(), threading.Event()

    def answer(path: str, body: dict[str, Any]) -> Said:
        asked.set()
        is_sent.wait(PATIENCE_SECONDS)
        return odd(path, body)

    with scripted(answer) as url:
        command = [sys.executable, "-m", "retinue", *arguments_of(url, tmp_path / "found", ["anna"])]
        with subprocess.Popen(["bash", "-c", 'trap "" HUP; exec "$@"', "-", *command]) as process:
            assert asked.wait(PATIENCE_SECONDS)
            process.send_signal(signal.SIGHUP)
            is_sent.set()
        assert 0 == process.returncode


def test_pending_calls_are_not_counted_as_spent(tmp_path: Path) -> None:
    """Accounts that are not there cost no call of ours; as many pages are read as the day allows."""

    def answer(_path: str, body: dict[str, Any]) -> Said:
        is_there = int(body["username"][1:]) >= 30
        return page([]) if is_there else enveloped({}, "invalid_params", "cannot find the user", 400)

    with scripted(answer) as url:
        outcome = collected(url, tmp_path / "found", CollectPlan(places(60), {"lists": 5, "info": 1}, 16))
    assert collection.replay(tmp_path / "found").pages == 5
    assert list(outcome.resets_at) == ["lists"]


# --- odd answers ---------------------------------------------------------------------------------------------------


ODD_ROWS = [
    '{"username":null,"display_name":"no name"}',
    '{"username":"ben","display_name":null}',
    "null",
    '{"username":"cut","display_name":"half an emoji \\ud83d"}',
    '{"username":"dora","display_name":"\\u0000\\u0001\\ufffe"}',
    '{"username":"with space","display_name":"x"}',
    '{"username":"anna","display_name":"herself"}',
    '{"username":"nul\\u0000byte","display_name":"x"}',
    '{"username":"@eve","display_name":"at"}',
]


def odd(path: str, _body: dict[str, Any]) -> Said:
    """A list of odd rows, and odd numbers."""
    if "/info/" in path:
        return enveloped({"likes_count": 2**64, "video_count": -5, "follower_count": 3, "bio_description": None})
    error = '"error":{"code":"ok","message":"","log_id":"x"}'
    return Said(f'{{"data":{{"cursor":1,"has_more":false,"user_following":[{",".join(ODD_ROWS)}]}},{error}}}'.encode())


def test_unusual_rows_and_numbers_are_stored_unchanged(tmp_path: Path) -> None:
    """Every format and the mirror have them; rows without a possible name are not in graphs."""
    folder, mirror = tmp_path / "found", tmp_path / "mirror.db"
    more = ("--lists", "following,info", "--format", ",".join(ALL_FORMATS), "--into", str(mirror))
    with scripted(odd) as url:
        done = asked(url, folder, ["anna"], *more)
    assert (done.returncode, done.stderr) == (0, "")
    assert [(len(ODD_ROWS),)] == tables(folder, "SELECT count(*) FROM {}rows.parquet'")
    counts = "SELECT likes_count, video_count FROM {}%s.parquet' WHERE username = 'anna'"
    assert [(None, None)] == tables(folder, counts % "accounts")
    assert [(None, -5)] == tables(folder, counts % "profiles")
    graph = nx.read_graphml(folder / "graph.graphml")
    assert {"anna", "ben", "cut", "dora", "@eve"} == set(graph.nodes)
    assert graph.nodes["cut"]["display_name"] == "half an emoji \ufffd"
    assert "every invariant holds" in retinue("check", "--store", str(mirror))
    assert "complete" in retinue("collect", "verify", str(folder))


@settings(max_examples=60)
@given(names=st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), min_size=1, max_size=8))
def test_tables_can_be_read_with_any_names(
    tmp_path_factory: pytest.TempPathFactory, names: list[tuple[str, str]]
) -> None:
    """For every text: all rows are there, GraphML is well-formed, and its nodes are the accounts of the tables."""
    folder = tmp_path_factory.mktemp("names")
    rows = [{"username": username, "display_name": display_name} for username, display_name in names]
    progress = collection.open_collection(folder, "x", 1)
    read = journal.PageRecord("anna", "following", 0, None, 5, "", "", page(rows).body.decode())
    with closing(journal.Journal(folder / "pages.jsonl")) as writing:
        writing.add(read)
    progress.add(read)
    collection.write_tables(folder, ALL_FORMATS, [Item("anna", "following")], 9, lambda _: None)

    assert [(len(names),)] == tables(folder, "SELECT count(*) FROM {}rows.parquet'")
    accounts = {name for (name,) in tables(folder, "SELECT username FROM {}accounts.parquet'")}
    assert accounts == set(nx.read_graphml(folder / "graph.graphml").nodes)
    follows = tables(folder, "SELECT follower, followee FROM {}follows.jsonl'") if len(accounts) > 1 else []
    assert {name for pair in follows for name in pair} == (accounts if follows else set())


def test_two_spellings_of_a_name_are_one_account(tmp_path: Path) -> None:
    """As asked for and as answered, in two lists: one account in the graph, with the spelling that came last."""
    folder, mirror = tmp_path / "found", tmp_path / "mirror.db"

    def answer(_path: str, body: dict[str, Any]) -> Said:
        return page([{"username": "ÉMILE" if body["username"] == "anna" else "anna", "display_name": "x"}])

    with scripted(answer) as url:
        done = asked(url, folder, ["émile", "anna"], "--into", str(mirror), "--concurrency", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert [("ÉMILE", "anna"), ("anna", "ÉMILE")] == sorted(
        tables(folder, "SELECT follower, followee FROM {}follows.parquet'"), reverse=False
    )[::-1]


ODD_BODIES = {
    "in another encoding": '{"data":{"cursor":1,"has_more":false},"error":{"code":"ok"}}'.encode("utf-16"),
    "with half a character": b'{"data":{"cursor":1,"has_more":false,"x":"\xed\xa0\xbd"},"error":{"code":"ok"}}',
    "too deep": b"[" * 100_000,
    "of a firewall": b'{"error":{"code":"access_denied","message":"Your address has been blocked"}}',
    "of nothing": b"",
}


@pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
@pytest.mark.parametrize("status", [200, 403, 502])
def test_malformed_responses_are_retried(tmp_path: Path, body: bytes, status: int) -> None:
    """No account is given up for a malformed response, and the others are collected."""
    with scripted(lambda _path, sent: Said(body, status) if sent["username"] == "a0" else page([])) as url:
        outcome = collected(url, tmp_path / "found", CollectPlan(places(2), MANY, 1))
    assert [place.name for place in outcome.failed] == ["a0"]
    assert collection.replay(tmp_path / "found").incomplete(places(2)) == places(1)


ODD_TOKENS = {
    "in another encoding": '{"error":"invalid_client","error_description":"cl\u00e9"}'.encode("latin-1"),
    "too deep": b"[" * 100_000,
}


@pytest.mark.parametrize("body", ODD_TOKENS.values(), ids=ODD_TOKENS)
def test_malformed_tokens_are_requested_again(body: bytes) -> None:
    """And said in the end."""
    with scripted(odd, lambda: Said(body)) as url, Client("k", "s", url, policy=SHORT) as client:
        with pytest.raises(GaveUp, match="tried 3 times"):
            client.user_info("anna")


def test_a_token_may_never_expire() -> None:
    """It is renewed after a day."""
    token = b'{"access_token":"clt.good","expires_in":' + b"9" * 400 + b"}"
    with scripted(odd, lambda: Said(token)) as url, Client("k", "s", url, policy=SHORT) as client:
        assert client.user_info("anna").follower_count == client.user_info("anna").follower_count == 3


def test_messages_of_a_service_are_printed_in_one_line(tmp_path: Path) -> None:
    """It cannot write on a terminal what it likes."""
    with scripted(lambda _path, _body: enveloped({}, "invalid_params", "no\n\x1b[31mred", 400)) as url:
        done = asked(url, tmp_path / "found", ["anna"])
    assert (done.returncode, "no\\n\\u001b[31mred" in done.stderr) == (1, True)


def test_a_refusal_in_the_middle_of_a_list_keeps_its_rows(tmp_path: Path) -> None:
    """A revoked secret, a scope that is gone: tables are written, and it is said why it stopped."""

    def answer(_path: str, body: dict[str, Any]) -> Said:
        is_gone = body["username"] == "ben"
        return enveloped({}, "scope_not_authorized", "gone", 401) if is_gone else page([{"username": "dora"}])

    with scripted(answer) as url:
        done = asked(url, tmp_path / "found", ["anna", "ben", "carl"], "--concurrency", "1")
    assert (done.returncode, "stopped early: scope_not_authorized" in done.stderr) == (
        1,
        True,
    )
    assert [("anna", "dora")] == tables(tmp_path / "found", "SELECT follower, followee FROM {}follows.parquet'")


@pytest.mark.parametrize("said", [b"HTTP/1.1 100 Continue\r\n\r\n", b"\r\n", b"HTTP/1.1 200 OK\r\nX: y\r\n"])
def test_a_response_that_never_begins_times_out(said: bytes) -> None:
    """However busily a service says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    while True:
                        connection.sendall(said)
                        time.sleep(0.1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        policy = RetryPolicy(attempts=1)
        with Client("k", "s", url, policy=policy, timeout_seconds=1) as client, pytest.raises(GaveUp):
            client.user_info("anna")
    thread.join(10)


@pytest.mark.parametrize("header", ["9" * 5_000, "99999999999999999999", "-5", "soon", "90000"])
def test_a_quota_without_reset_time_resets_at_midnight(header: str) -> None:
    """An impossible reset time of a service is ignored."""
    spent = Said(
        enveloped({}, "daily_quota_limit_exceeded", "spent", 429).body, 429, (("RateLimit-Reset", header),)
    )  # fmt: skip
    with scripted(lambda _path, _body: spent) as url, Client("k", "s", url) as client:
        with pytest.raises(DailyQuotaExceeded) as caught:
            client.user_info("anna")
    assert caught.value.resets_at % 86_400 == 0


def test_a_token_unfit_for_a_header_is_refused() -> None:
    """It is asked for again, and said in the end."""
    token = json.dumps({"access_token": "clt.a\nb", "expires_in": 7200}).encode()
    with scripted(odd, lambda: Said(token)) as url, Client("k", "s", url, policy=SHORT) as client:
        with pytest.raises(GaveUp, match="the token cannot be sent in a header"):
            client.user_info("anna")


# --- mirrors -------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from([f"p{number}" for number in range(8)])
READ = st.tuples(
    NAMES, st.sampled_from(["following", "followers"]), st.lists(NAMES, unique=True, max_size=6), st.booleans()
)


@settings(max_examples=60)
@given(lists=st.lists(READ, min_size=1, max_size=8, unique_by=lambda read: read[:2]))
def test_graph_formats_keep_the_order_of_lists(tmp_path_factory: pytest.TempPathFactory, lists: list[Any]) -> None:
    """Lists that contradict each other keep their order too."""
    folder = tmp_path_factory.mktemp("lists")
    collection.open_collection(folder, "x", 1)
    with closing(journal.Journal(folder / "pages.jsonl")) as writing:
        for owner, direction, people, is_later in lists:
            data = {"cursor": 1, "has_more": False, f"user_{direction}": [{"username": name} for name in people]}
            body = enveloped(data).body.decode()
            writing.add(journal.PageRecord(owner, direction, 0, None, 1_000 + is_later, "", "", body))
    collection.write_tables(folder, ["parquet"], [], 2_000, lambda _: None)

    for owner, direction, people, _ in lists:
        ours, theirs = ("follower", "followee") if direction == "following" else ("followee", "follower")
        query = (
            f"SELECT {theirs}, {direction}_position FROM {{}}follows.parquet' WHERE {ours} = '{owner}' ORDER BY 2 DESC"
        )
        found = tables(folder, query)
        assert len({place for _, place in found}) == len(found)
        assert [name for name, _ in found if name in people] == [name for name in people if name != owner]


def test_a_mirror_keeps_the_order_of_lists_that_contradict_each_other(tmp_path: Path) -> None:
    """An account in one list only was unfollowed in between, in the same second."""
    folder, mirror = tmp_path / "found", tmp_path / "mirror.db"

    def answer(path: str, body: dict[str, Any]) -> Said:
        followers = [{"username": name} for name in ("p4", "p20", "p6")] if body["username"] == "p0" else []
        following = [{"username": "p0"}] if body["username"] == "p19" else []
        key, rows = ("user_followers", followers) if "followers" in path else ("user_following", following)
        return enveloped({key: rows, "cursor": 1, "has_more": False})

    with scripted(answer) as url:
        done = asked(url, folder, ["p0", "p19"], "--lists", "following,followers", "--into", str(mirror))
    assert done.returncode == 0
    access = create_client(mirror)
    with running_server(mirror) as server, Client(access.key, access.secret, server.base_url) as client:
        found = [person.username for person in client.followers("p0")]
    assert [name for name in found if name != "p19"] == ["p4", "p20", "p6"]


def test_a_mirror_never_replaces_a_store(tmp_path: Path) -> None:
    """Neither one that appeared while lists were read, nor its other files; one mirror is made at a time."""
    folder, mirror = tmp_path / "found", tmp_path / "mirror.db"
    for name in ("mirror.db", "mirror.access.db"):
        precious = tmp_path / name

        def answer(_path: str, _body: dict[str, Any]) -> Said:
            precious.write_text("precious")  # noqa: B023 - it runs in this round
            return page([{"username": "ben"}])

        with scripted(answer) as url:
            done = asked(url, tmp_path / f"{name}-found", ["anna"], "--into", str(mirror))
            assert (done.returncode, f"{precious} already exists" in done.stderr) == (2, True), done.stderr
            assert precious.read_text() == "precious"
        precious.unlink()
    with scripted(odd) as url, collection.lock_folder(tmp_path / ".mirror.db.unfinished"):
        done = asked(url, folder, ["anna"], "--into", str(mirror))
    assert (done.returncode, "another process" in done.stderr) == (2, True), done.stderr


# --- odd surroundings ----------------------------------------------------------------------------------------------


def test_passwords_of_other_programs_are_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry for the host in `.netrc` changes nothing."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hidden\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with scripted(odd) as url, Client("k", "s", url, policy=SHORT) as client:
        assert client.user_info("anna").follower_count == 3


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """But not for hosts that it leaves out."""
    with scripted(odd) as url:
        monkeypatch.setenv("http_proxy", url)
        with Client("k", "s", "http://service.invalid", policy=SHORT) as client, pytest.raises(GaveUp):
            client.user_info("anna")  # the proxy was asked for a whole URL, and had no token there
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with Client("k", "s", url, policy=SHORT) as client:
            assert client.user_info("anna").follower_count == 3


def test_the_password_of_a_proxy_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The password stays hidden whatever the proxy answers."""
    with scripted(odd, lambda: Said(b"", 407)) as url:
        for spelled in ("http://user:hidden@127.0.0.1", "HTTP://user:hidden@LOCALHOST"):
            monkeypatch.setenv("https_proxy", url.replace("http://127.0.0.1", spelled))
            with Client("k", "s", "https://service.invalid", policy=SHORT) as client, pytest.raises(GaveUp) as caught:
                client.user_info("anna")
            assert "ClientHttpProxyError" in str(caught.value)
            assert "hidden" not in str(caught.value)


def test_errors_can_be_sent_to_other_processes() -> None:
    """With everything that is in them."""
    for error in (
        Refused(403, "scope_not_authorized", "no", "log"),
        AccountUnavailable("private", 403, "c", "m", "log"),
        DailyQuotaExceeded(86_400, 429, "c", "m", "log"),
        GaveUp("tried 3 times"),
    ):
        error.cursor = 5
        copied = pickle.loads(pickle.dumps(error))  # noqa: S301 - it is ours
        assert (type(copied), str(copied), vars(copied)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize("kilobytes", [1, 40])
def test_a_full_disk_is_reported_and_loses_nothing(tmp_path: Path, kilobytes: int) -> None:
    """Whether in the middle of a page or while tables are written; afterwards the same command goes on."""
    folder = tmp_path / "found"

    def answer(_path: str, body: dict[str, Any]) -> Said:
        below = body.get("cursor") or 9
        rows = [{"username": f"u{below}.{number}", "display_name": ""} for number in range(100)]
        return page(rows, below - 1, has_more=below > 2)

    with scripted(answer) as url:
        arguments = arguments_of(url, folder, ["a", "b"])
        limited = ["bash", "-c", f'ulimit -f {kilobytes}; exec "$@"', "-", sys.executable, "-m", "retinue", *arguments]
        done = subprocess.run(limited, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "File too large" in done.stderr
        assert asked(url, folder, ["a", "b"]).returncode == 0
    assert "complete" in retinue("collect", "verify", str(folder))
    assert [(1_600,)] == tables(folder, "SELECT count(*) FROM {}rows.parquet'")


# --- the folder ----------------------------------------------------------------------------------------------------


def test_verify_recognizes_an_unfinished_collection(tmp_path: Path) -> None:
    """Before its tables were written, and when it went on since."""
    folder = tmp_path / "found"
    with scripted(odd) as url:
        collected(url, folder, CollectPlan([Item("anna", "following")], MANY, 1))
        assert "no tables have been written" in retinue("collect", "verify", str(folder))
        assert asked(url, folder, ["anna"]).returncode == 0
        collected(url, folder, CollectPlan([Item("ben", "following")], MANY, 1))
    assert "2 responses arrived after the tables were written" in retinue("collect", "verify", str(folder))


def test_unreadable_damage_is_reported(tmp_path: Path) -> None:
    """Bytes that are no text, a manifest that is gone."""
    folder = tmp_path / "found"
    with scripted(odd) as url:
        asked(url, folder, ["anna"])
    pages = folder / "pages.jsonl"
    good = pages.read_bytes()
    pages.write_bytes(good.replace(b'"anna"', b'"ann\xff"'))
    done = subprocess.run(
        [sys.executable, "-m", "retinue", "collect", "verify", str(folder)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "pages.jsonl: line 2: " in done.stderr, "Traceback" in done.stderr) == (1, True, False)
    pages.write_bytes(good)
    (folder / "manifest.json").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "retinue", "collect", "verify", str(folder)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "manifest.json: does not exist, but tables do" in done.stderr) == (2, True)


def test_another_spelling_resumes_the_same_list(tmp_path: Path) -> None:
    """A second run that spells a name differently asks nothing again."""
    folder = tmp_path / "found"
    with scripted(odd) as url:
        asked(url, folder, ["émile"])
        asked(url, folder, ["ÉMILE"])
    assert [(len(ODD_ROWS),)] == tables(folder, "SELECT count(*) FROM {}rows.parquet'")


def test_tables_are_written_if_standard_output_fails(tmp_path: Path) -> None:
    """The tables are complete although the progress cannot be printed."""
    folder = tmp_path / "found"
    with scripted(odd) as url:
        command = [sys.executable, "-m", "retinue", *arguments_of(url, folder, ["anna"])]
        subprocess.run(["bash", "-c", '"$@" > /dev/full', "-", *command], capture_output=True, check=False)
    assert "complete" in retinue("collect", "verify", str(folder))


def test_no_table_is_older_than_the_manifest(tmp_path: Path) -> None:
    """Formats that a later run does not name are rewritten; leftovers of a kill are removed."""
    folder = tmp_path / "found"
    with scripted(odd) as url:
        asked(url, folder, ["anna"], "--format", "csv,graphml")
        (folder / "tables.new").mkdir()
        (folder / "tables.new" / "tables.duckdb").write_text("half")
        asked(url, folder, ["anna", "ben"])
    assert not (folder / "tables.new").exists()
    assert "complete" in retinue("collect", "verify", str(folder))
    assert [(2,)] == tables(folder, "SELECT count(DISTINCT owner) FROM {}rows.csv'")
    assert "ben" in nx.read_graphml(folder / "graph.graphml")
    assert {"rows.csv", "rows.parquet", "graph.graphml"} <= set(
        json.loads((folder / "manifest.json").read_text())["files"]
    )


def test_a_mirror_is_made_after_all_lists_are_complete(tmp_path: Path) -> None:
    """Until then the same command goes on; what a kill has left of it is no hindrance."""
    folder, mirror = tmp_path / "found", tmp_path / "mirror.db"
    with scripted(odd) as url:
        done = asked(url, folder, ["anna", "ben"], "--into", str(mirror), "--calls-per-day", "1", "--concurrency", "1")
        assert (done.returncode, mirror.exists()) == (1, False)
        assert f"--into {mirror}: is created once {folder} is complete" in done.stderr
        (tmp_path / ".mirror.db.unfinished").mkdir()
        (tmp_path / ".mirror.db.unfinished" / "mirror.db").write_text("half")
        assert asked(url, folder, ["anna", "ben"], "--into", str(mirror)).returncode == 0
    assert "every invariant holds" in retinue("check", "--store", str(mirror))
    assert not list(tmp_path.glob(".*"))


def test_nothing_is_requested_if_no_mirror_can_be_made(tmp_path: Path) -> None:
    """A folder that is not there, and what is no file, are said at once."""
    for into, words in (
        (str(tmp_path / "no" / "m.db"), "does not exist"),
        ("cassandra://h/k", "a mirror is a file"),
    ):
        done = asked("http://127.0.0.1:9", tmp_path / "found", ["anna"], "--into", into)
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr


def test_the_proxy_of_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its scheme."""
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert addresses.proxy_of("https://open.tiktokapis.com") == "http://proxy:3128"
    assert addresses.proxy_of("http://127.0.0.1:8642") is None


def test_invalid_proxies_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not shown, since a password may be in it; a scheme may be missing."""
    monkeypatch.setenv("https_proxy", "me:hid%40den@proxy:3128")
    assert addresses.proxy_of("https://open.tiktokapis.com") == "http://me:hid%40den@proxy:3128"
    monkeypatch.setenv("https_proxy", "http://me:hid#den@proxy:3128")
    with pytest.raises(InputError, match="https_proxy in the environment is not the address of a proxy"):
        Client("k", "s")


@pytest.mark.parametrize("slow", ["token", "page"])
def test_closing_a_client_fails_its_pending_calls(slow: str) -> None:
    """Calls in other threads fail while a token or a page is fetched, and so do later calls."""
    let_go, came, ended = threading.Event(), threading.Event(), list[str]()

    def late(said: Said) -> Said:
        came.set()
        let_go.wait(30)
        return said

    def ask(client: Client) -> None:
        with pytest.raises(InputError) as caught:
            list(client.following("anna"))
        ended.append(str(caught.value))

    token = (lambda: late(TOKEN)) if slow == "token" else (lambda: TOKEN)
    with scripted(lambda _path, _body: late(page([])), token) as url:
        client = Client("k", "s", url)
        waiting = threading.Thread(target=ask, args=(client,))
        waiting.start()
        assert came.wait(30)
        client.close()
        waiting.join(30)
        let_go.set()
        ask(client)
    assert ended == ["the client is closed"] * 2


def test_a_closed_asynchronous_client_says_so() -> None:
    """As the other one does."""

    async def ask() -> None:
        client = AsyncClient("k", "s", "http://127.0.0.1:9")
        await client.close()
        await client.user_info("anna")

    with pytest.raises(InputError, match="the client is closed"):
        asyncio.run(ask())


def test_a_username_unfit_for_a_request_is_refused() -> None:
    """Before anything is asked."""
    with Client("k", "s", "http://127.0.0.1:9") as client:
        for username in ("\ud800", "", None, b"anna"):
            for ask in (client.following, client.user_info):
                with pytest.raises(InputError, match=r"^username: "):
                    ask(cast("str", username))
