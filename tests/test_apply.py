"""`retinue apply`: events from files and from pipes that stay open, what is told of them, how it ends."""

import gzip
import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from retinue.ingest.stream import GROUP
from retinue.model import Direction
from support.commands import list_of, retinue
from support.feeds import AT, applied, applying, follow, lines, names_of


def test_events_of_a_far_future_count_as_now(store_path: Path) -> None:
    """Up to the last day of a calendar, as text; applied again they are known. Milliseconds are still refused."""
    far: list[int | str] = ["2090-01-01", "9999-12-31T23:59:59Z", "9999-12-31", 99_999_999_999]
    body = lines(*(follow("a", f"b{n}", at) for n, at in enumerate(far)), follow("a", "c", 1_700_000_000_000))
    reason = "at: 1700000000000 is too large for a Unix second (milliseconds?)"
    rejected = [{"line": 5, "reason": reason}]

    first, second = applied(store_path, body), applied(store_path, body)

    assert [{"line": 5, "applied": 4, "duplicate": 0, "rejected": rejected}] == first[1]
    assert [{"line": 5, "applied": 0, "duplicate": 4, "rejected": rejected}] == second[1]
    assert {"b0", "b1", "b2", "b3"} == set(names_of(store_path, "a"))


def test_all_kinds_of_events_reach_the_graph(store_path: Path) -> None:
    """Follows and unfollows, names and visibility, and an erasure; both lists show it."""
    code, reports, errors = applied(
        store_path,
        lines(
            follow("a", "b", AT),
            follow("a", "c", AT + 1),
            follow("a", "d", AT + 2),
            follow("a", "e", AT + 3),
            follow("a", "c", AT + 4, "unfollow"),
            {"event": "account", "account": "b", "at": AT, "username": "ben", "display_name": "B\0en"},
            {"event": "visibility", "account": "d", "visibility": "private", "at": AT},
            {"event": "erase", "account": "e", "at": AT},
        ),
    )

    assert (0, "") == (code, errors)
    assert [{"line": 8, "applied": 8, "duplicate": 0, "rejected": []}] == reports
    assert [("ben", "Ben")] == list_of(store_path, "a")
    assert ["a"] == names_of(store_path, "ben", Direction.FOLLOWERS)


def test_bad_lines_are_reported_and_the_rest_is_applied(store_path: Path) -> None:
    """Broken lines, events that are none, and events that the graph refuses; the exit code says so."""
    content = lines(
        follow("a", "b"),
        b"{",
        b"",
        b'{"event":"follow","follower":"\xff"}',
        follow("a", "a"),
        follow("a", "b"),
        {"event": "erase", "account": "e", "at": AT},
        follow("a", "e"),
        b"x" * (1 << 21),
    ) + json.dumps(follow("a", "c")).encode().replace(b"follow", b"like", 1)

    code, reports, errors = applied(store_path, content)

    assert (1, "") == (code, errors)
    assert {"line": 10, "applied": 2, "duplicate": 1} == {
        "line": reports[-1]["line"],
        "applied": sum(report["applied"] for report in reports),
        "duplicate": sum(report["duplicate"] for report in reports),
    }
    assert [
        (2, "expected a JSON object: Input data was truncated"),
        (4, "broken UTF-8"),
        (5, "an account cannot follow itself"),
        (8, "the account was erased"),
        (9, "longer than 1048576 bytes"),
        (10, "event: expected one of follow, unfollow, account, visibility, erase, got 'like'"),
    ] == [(rejected["line"], rejected["reason"]) for report in reports for rejected in report["rejected"]]


BY_USERNAME = lines(
    follow("anna", "ben"),
    follow("anna", "ben", AT + 1, "unfollow"),
    {"event": "account", "account": "ben", "at": AT, "visibility": "private"},
    {"event": "visibility", "account": "Ben", "visibility": "private", "at": AT},
    {"event": "erase", "account": "@ben", "at": AT},
    {"event": "erase", "account": "benny", "at": AT},
)
USERNAME_REASONS = [
    *("anna is the username of an account whose key is 1",) * 2,
    "ben is the username of an account whose key is 2",
    "Ben is the username of an account whose key is 2",
    "@ben is the username of an account whose key is 2",
    "benny is a former name of an account whose key is 2",
]


@pytest.mark.parametrize("is_file", [True, False])
def test_usernames_instead_of_keys_are_rejected(store_path: Path, tmp_path: Path, is_file: bool) -> None:
    """An erasure or a private account is never told as applied while the account stays visible."""
    applied(
        store_path,
        lines(
            {"event": "account", "account": "1", "at": AT - 9, "username": "anna"},
            {"event": "account", "account": "2", "at": AT - 9, "username": "benny"},
            {"event": "account", "account": "2", "at": AT - 8, "username": "ben"},
            follow("1", "2", AT - 7),
        ),
    )
    path = tmp_path / "events.jsonl"
    path.write_bytes(BY_USERNAME)

    code, reports, errors = applied(store_path, b"" if is_file else BY_USERNAME, path if is_file else "-")

    assert (1, "") == (code, errors)
    assert [0, 0] == [sum(report[count] for report in reports) for count in ("applied", "duplicate")]
    assert USERNAME_REASONS == [rejected["reason"] for report in reports for rejected in report["rejected"]]
    assert ["ben"] == names_of(store_path, "anna")
    assert ["anna"] == names_of(store_path, "ben", Direction.FOLLOWERS)
    assert 0 == applied(store_path, lines({"event": "erase", "account": "2", "at": AT}))[0]
    assert [] == names_of(store_path, "anna")


def test_a_bad_line_in_any_group_sets_the_exit_code(store_path: Path, tmp_path: Path) -> None:
    """A later group without any does not make it good. From a file, since a pipe that pauses ends a group early."""
    events = tmp_path / "events.jsonl"
    events.write_bytes(b"{\n" + lines(*(follow("a", f"b{n}", AT + n) for n in range(2 * GROUP))))
    code, reports, _ = applied(store_path, b"", events)

    assert 1 == code
    assert [1, 0, 0] == [len(report["rejected"]) for report in reports]
    assert [GROUP, 2 * GROUP, 2 * GROUP + 1] == [report["line"] for report in reports]


def test_reports_name_their_file(store_path: Path, tmp_path: Path) -> None:
    """Several files, plain and packed, and standard input between them."""
    plain, packed = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"
    plain.write_bytes(lines(follow("a", "b", AT)))
    packed.write_bytes(gzip.compress(lines(follow("a", "c", AT + 1), follow("a", "d", AT + 2))))

    code, reports, _ = applied(store_path, lines(follow("a", "e", AT + 3)), plain, "-", packed)

    assert 0 == code
    assert [(str(plain), 1, 1), (None, 1, 1), (str(packed), 2, 2)] == [
        (report.get("file"), report["line"], report["applied"]) for report in reports
    ]
    assert ["e", "d", "c", "b"] == names_of(store_path, "a")


def test_applying_again_changes_nothing(store_path: Path) -> None:
    """Every event is known then."""
    content = lines(follow("a", "b"), follow("a", "b", AT + 5, "unfollow"), follow("a", "c", AT + 7))

    first = applied(store_path, content)
    second = applied(store_path, content)

    assert [3, 0] == [run[1][0]["applied"] for run in (first, second)]
    assert [0, 3] == [run[1][0]["duplicate"] for run in (first, second)]
    assert ["c"] == names_of(store_path, "a")


def test_the_order_of_arrival_does_not_matter(store_path: Path, tmp_path: Path) -> None:
    """Shuffled and sent twice, the same events make the same lists."""
    random_ = random.Random(1)
    people = "abcde"
    events = []
    for _ in range(300):
        one, other = random_.sample(people, 2)
        events.append(follow(one, other, AT + 10 * random_.randrange(90), random_.choice(["follow", "unfollow"])))
    second_path = tmp_path / "other.db"
    shuffled = random_.sample(events, len(events)) + random_.sample(events, len(events))

    for store, order in ((store_path, events), (second_path, shuffled)):
        assert 0 == applied(store, lines(*order))[0]

    for person in people:
        for direction in Direction:
            assert set(names_of(store_path, person, direction)) == set(names_of(second_path, person, direction))


def test_events_from_an_open_pipe_are_applied_at_once(store_path: Path) -> None:
    """Though the pipe stays open; an unfinished line waits for its end."""
    with applying(store_path) as run:
        run.send(lines(follow("a", "b", AT)))
        assert 1 == run.told()["applied"]
        for number in range(10):
            run.send(json.dumps(follow("a", f"c{number}", AT + number)).encode())
            run.send(b"\n")
            assert {"line": number + 2, "applied": 1, "duplicate": 0, "rejected": []} == run.told()
        assert 11 == len(names_of(store_path, "a"))
        run.send(json.dumps(follow("a", "last", AT + 100)).encode())
        run.stdin.close()
        assert {"line": 12, "applied": 1, "duplicate": 0, "rejected": []} == run.told()
        assert 0 == run.process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_apply_between_two_groups(store_path: Path, number: signal.Signals) -> None:
    """While it waits, and while it is busy: the group at hand is finished and told, and the place is said."""
    with applying(store_path) as run:
        run.send(lines(follow("a", "b")))
        run.told()
        run.process.send_signal(number)
        assert (
            128 + number,
            "retinue: Interrupted after line 1 of standard input. Apply the same events again to resume.\n",
        ) == (run.end())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_a_long_file_loses_no_reported_event(
    store_path: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """The store holds exactly the lines up to the place that is said."""
    events = tmp_path / "events.jsonl"
    events.write_bytes(lines(*(follow("a", f"b{n}", AT - n) for n in range(100_000))))
    with applying(store_path, events) as run:
        first = run.told()
        run.process.send_signal(number)
        rest = run.stdout.read().splitlines()
        code, errors = run.end()

    last = json.loads(rest[-1]) if rest else first
    assert 128 + number == code
    assert f"retinue: Interrupted after line {last['line']} of {events}. " in errors
    assert last["line"] == len(names_of(store_path, "a")) < 100_000


def test_at_most_one_group_is_applied_while_reports_are_not_read(store_path: Path, tmp_path: Path) -> None:
    """It stops, and says why."""
    events = tmp_path / "events.jsonl"
    events.write_bytes(lines(*(follow("a", f"b{n}", AT - n) for n in range(100_000))))
    with applying(store_path, events) as run:
        told = run.told()["line"]
        run.stdout.close()
        assert run.process.stderr is not None
        errors = run.process.stderr.read().decode()
        assert 2 == run.process.wait()

    # Between the last line read here and the closing others may have been told, to a pipe that still had room.
    assert errors.startswith("retinue: standard output cannot be written: its reader has closed it; stopped after ")
    place = int(errors.split(" line ")[1].split()[0])
    assert told <= place == len(names_of(store_path, "a")) < 100_000


def test_reported_events_survive_a_kill(store_path: Path, tmp_path: Path) -> None:
    """SIGKILL at several instants: what was told is there, `check` is content, and the same again completes it."""
    events = tmp_path / "events.jsonl"
    events.write_bytes(lines(*(follow("a", f"b{n}", AT - n) for n in range(60_000))))
    for groups in (1, 3, 6):
        with applying(store_path, events) as run:
            reports: list[dict[str, Any]] = [run.told() for _ in range(groups)]
            run.process.kill()
            run.process.wait()
        assert len(names_of(store_path, "a")) >= reports[-1]["line"]
        assert 0 == retinue("check", "--store", store_path).returncode

    assert 0 == retinue("apply", "--store", store_path, events).returncode
    assert [f"b{n}" for n in range(60_000)] == names_of(store_path, "a")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.jsonl"], "none.jsonl: cannot be read: No such file or directory"),
        (["."], ".: cannot be read: Is a directory"),
        (["events.jsonl", "none.jsonl"], "none.jsonl: cannot be read"),
        (["events.jsonl", "--store", "events.jsonl"], "events.jsonl: not a Retinue follow graph"),
    ],
)
def test_a_command_that_cannot_start_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    """One clear line, exit code 2, and no store is made."""
    monkeypatch.chdir(tmp_path)
    Path("events.jsonl").write_bytes(lines(follow("a", "b")))

    done = retinue("apply", *arguments)

    assert (2, 1) == (done.returncode, done.stderr.count("\n"))
    assert words in done.stderr
    assert [Path("events.jsonl")] == list(Path().iterdir())


def test_apply_creates_a_missing_store_and_says_so(store_path: Path, tmp_path: Path) -> None:
    """A mirror may begin with an empty stream."""
    events = tmp_path / "events.jsonl"
    events.write_bytes(lines(follow("a", "b")))

    done = retinue("apply", "--store", store_path, events)

    assert (0, f"retinue: created the store {store_path}\n") == (done.returncode, done.stderr)
    assert ["b"] == names_of(store_path, "a")


def test_a_damaged_file_is_applied_up_to_the_damage(store_path: Path, tmp_path: Path) -> None:
    """Events before the damage are applied and reported; the error names file and line."""
    events = tmp_path / "events.gz"
    packed = gzip.compress(lines(*(follow("a", f"b{n * 7919}", AT - n) for n in range(20_000))))
    events.write_bytes(packed[: len(packed) // 2])

    done = retinue("apply", "--store", store_path, events)

    last = json.loads(done.stdout.splitlines()[-1])["line"]
    assert 2 == done.returncode
    assert f"retinue: {events}: damaged after line {last}: " in done.stderr
    assert last == len(names_of(store_path, "a"))


def test_closed_standard_input_is_an_error(store_path: Path) -> None:
    """And not another file that happens to get its number."""
    command = f"exec {sys.executable} -m retinue apply --store {store_path} <&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)

    assert (2, "retinue: standard input is closed\n") == (done.returncode, done.stderr)


def test_the_schema_is_printed() -> None:
    """For producers of events."""
    schema = json.loads(retinue("apply", "--schema").stdout)

    assert ["Follow", "Unfollow", "Account", "Visibility", "Erase"] == list(schema["$defs"])
