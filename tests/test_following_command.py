"""`retinue following`: what it prints, for people and for programs, and how it ends."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from retinue.model import FollowEvent, Visibility
from support.commands import retinue
from support.service import Service

FORMATS = ["table", "jsonl", "csv"]


@pytest.fixture
def store(service: Service) -> str:
    """A small graph: `anna` followed three, and unfollowed one of them at 1682942800."""
    service.add_account("ben", 'B "en", 👩‍👩‍👧')
    service.add_account("carla", "\x1b[31mCarla\nC\x9b")
    service.add_account("shy", "", Visibility.FOLLOWING_HIDDEN)
    service.add_account("hidden", "", Visibility.PRIVATE)
    service.add_account("gone", "", Visibility.WITHHELD)
    service.follow("anna", ("ben", 1682942600), ("carla", 1682942700), ("dan", 1682942650), ("gone", 1682942750))
    service.follow("ben", ("anna", 1682942600))
    service.follow("shy", ("anna", 1682942700))
    service.apply(FollowEvent("anna", "dan", 1682942800, is_follow=False))
    return service.store


def usernames(store: str, *arguments: str) -> list[str]:
    """The list, as programs read it."""
    done = retinue("following", *arguments, "--store", store, "--format", "csv")
    assert (0, "") == (done.returncode, done.stderr)
    return [row["username"] for row in csv.DictReader(io.StringIO(done.stdout))]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("table", 'username  display name\ncarla     \\u001b[31mCarla\\nC\\u009b\nben       B "en", 👩‍👩‍👧\n'),
        (
            "jsonl",
            """{"display_name":"\\u001b[31mCarla\\nC\\u009b","username":"carla"}
{"display_name":"B \\"en\\", 👩‍👩‍👧","username":"ben"}
""",
        ),
        ("csv", 'username,display_name\ncarla,"\x1b[31mCarla\nC\x9b"\nben,"B ""en"", 👩‍👩‍👧"\n'),
    ],
    ids=FORMATS,
)
def test_a_list_is_printed_newest_first(store: str, form: str, expected: str) -> None:
    """Programs get values that are exact; a terminal gets no control characters."""
    done = retinue("following", "@Anna", "--store", store, "--format", form)

    assert (0, expected, "") == (done.returncode, done.stdout, done.stderr)


def test_the_table_is_the_default(store: str) -> None:
    """Without flags it is for people."""
    done = retinue("following", "ben", "--store", store)

    assert "username  display name\nanna\n" == done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["anna", "--direction", "followers"], ["shy", "ben"]),
        (["shy", "--direction", "followers"], []),
        (["anna", "--as-of", "1682942799"], ["carla", "dan", "ben"]),
        (["anna", "--as-of", "2023-05-01T12:04:10Z"], ["dan", "ben"]),
        (["anna", "--as-of", "2023-05-01T14:04:10+02:00"], ["dan", "ben"]),
        (["anna", "--as-of", "2023-05-01"], []),
        (["anna", "--as-of", "2999-01-01"], ["carla", "ben"]),
        (["anna", "--as-of", "1682942699", "--direction", "followers"], ["ben"]),
    ],
    ids=" ".join,
)
def test_either_list_is_printed_at_any_time(store: str, arguments: list[str], expected: list[str]) -> None:
    """A time is a Unix second or ISO 8601, in UTC where it names no zone; the future is now."""
    assert expected == usernames(store, *arguments)


def test_a_long_list_is_printed_whole(service: Service) -> None:
    """Page after page, each row once."""
    followers = [(f"u{n}", "hub", 1_600_000_000) for n in range(3456)]
    service.add_follows(*followers)

    assert [name for name, *_ in followers] == usernames(service.store, "hub", "--direction", "followers")


@pytest.mark.parametrize(
    ("username", "direction", "reason"),
    [
        ("nobody", "following", "does not exist"),
        ("shy", "following", "is private, or hides its following list"),
        ("hidden", "following", "is private, or hides its following list"),
        ("hidden", "followers", "is private"),
        ("gone", "following", "is withheld"),
        ("gone", "followers", "is withheld"),
    ],
)
def test_lists_that_the_api_refuses_are_refused(store: str, username: str, direction: str, reason: str) -> None:
    """Also to the operator, with the reason and exit code 1."""
    done = retinue("following", username, "--store", store, "--direction", direction)

    assert (1, "", f"retinue: {username}: {reason}\n") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("time", "words"),
    [
        ("then", "expected Unix seconds or an ISO 8601 time, got 'then'"),
        ("-5", "'-5' is not a Unix second of 1 or later"),
        ("1682942799000", "is too large for a Unix second (milliseconds?)"),
        ("20230501", "would be a Unix second of 1970; for the date write 2023-05-01"),
    ],
)
def test_invalid_times_are_reported(store: str, time: str, words: str) -> None:
    """One line, exit code 2, nothing printed."""
    done = retinue("following", "anna", "--store", store, f"--as-of={time}")

    assert (2, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("retinue: --as-of: ")
    assert words in done.stderr
    assert 1 == done.stderr.count("\n")


@pytest.mark.parametrize("form", FORMATS)
def test_a_closed_pipe_is_not_an_error(service: Service, form: str) -> None:
    """`retinue following x | head -1` says nothing on stderr."""
    service.follow("hub", *((f"u{n}", 1_600_000_000 + n) for n in range(20_000)))
    command = [sys.executable, "-m", "retinue", "following", "hub", "--store", service.store, "--format", form]

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as printing:
        assert printing.stdout is not None
        assert printing.stderr is not None
        printing.stdout.readline()
        printing.stdout.close()
        assert "" == printing.stderr.read()


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_is_reported(store: str, form: str) -> None:
    """In one line, with exit code 2."""
    command = [sys.executable, "-m", "retinue", "following", "anna", "--store", store, "--format", form]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)

    assert (2, "retinue: standard output cannot be written: No space left on device\n") == (
        done.returncode,
        done.stderr,
    )


def test_json_lines_are_rows_as_the_api_gives_them(service: Service, store: str) -> None:
    """The same two fields, in the same order of rows."""
    done = retinue("following", "anna", "--store", store, "--format", "jsonl")

    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert service.ask({"username": "anna"}).json()["data"]["user_following"] == rows


def test_arguments_that_are_not_utf8_are_reported(store: str) -> None:
    """Bytes that are not UTF-8 get one line like every other mistake."""
    done = retinue("following", "\udcff", "--store", store)

    assert (2, "retinue: an argument or file name is not text in UTF-8\n") == (done.returncode, done.stderr)
