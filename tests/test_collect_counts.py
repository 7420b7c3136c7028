"""Rows of lists beside the counts in profiles: lists that services cut are told, within the quota for user info."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retinue.client import Client, ListCount, RetryPolicy
from retinue.collect import collection
from retinue.collect.collector import CollectPlan
from retinue.collect.progress import Item
from retinue.faults import Faults
from retinue.local import LocalServer
from support.collecting import asked, changed_manifest, collected, tables, verified
from support.scripted_service import Said, enveloped, page, scripted

Answering = Callable[[str, dict[str, Any]], Said]
LIMITED = RetryPolicy(attempts=2, first_wait_seconds=0, longest_wait_seconds=0)


def listing(rows: dict[str, int], counts: dict[str, int], asked_for: Counter[str] | None = None) -> Answering:
    """A service whose lists have so many rows, and whose profiles count so many."""

    def answer(path: str, body: dict[str, Any]) -> Said:
        name, kind = body["username"], path.split("/")[4]
        if asked_for is not None:
            asked_for[f"{kind} {name}"] += 1
        if kind == "info":
            return enveloped({"following_count": counts[name], "follower_count": 0})
        left = min(rows[name], (body.get("cursor") or 10**9) if "cursor" in body else rows[name])
        some = [{"username": f"u{number}"} for number in range(left, max(0, left - 100), -1)]
        return enveloped({f"user_{kind}": some, "cursor": max(left - 100, 1), "has_more": left > 100})

    return answer


def manifest_in(folder: Path) -> Any:
    """Return a manifest as JSON."""
    return json.loads((folder / "manifest.json").read_text())


def test_a_capped_list_is_reported(retinue_server: LocalServer, tmp_path: Path) -> None:
    """In summary, tables, manifest and verify, with exit code 3; the mirror of what there is is made."""
    folder, mirror = tmp_path / "found", tmp_path / "mirror.db"
    follows = [("anna", f"f{number}", 1_600_000_000 + number) for number in range(4_013)]
    retinue_server.load(follows=[*follows, *(("ben", f"f{number}", 1_000 + number) for number in range(7))])
    retinue_server.faults = Faults(list_end_rows=4_000)
    file = tmp_path / "names.txt"
    file.write_text("anna\nben\n")
    access = ("--client-key", retinue_server.client_key, "--client-secret", retinue_server.client_secret)
    arguments = ("--usernames", str(file), "-o", str(folder), *access, "--server", retinue_server.url)
    command = [sys.executable, "-m", "retinue", "collect", *arguments, "--into", str(mirror)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    told = "following of anna: maybe capped: 4,000 rows, profile counts 4,013, gap 13\n"
    assert (done.returncode, told in done.stderr, mirror.exists()) == (3, True, True), done.stderr
    assert "following: 1 complete, 1 maybe capped\n" in done.stdout
    assert "following: 4,007 rows, profiles count 4,020, gap 13 (lists with a known count: 2)\n" in done.stdout
    query = "SELECT owner, state, rows, profile_count, gap, counted_at > 0 FROM {}lists.parquet'"
    assert tables(folder, query) == [
        ("anna", "maybe capped", 4_000, 4_013, 13, True),
        ("ben", "complete", 7, 7, 0, True),
    ]
    manifest = manifest_in(folder)
    figures = {"rows": 4_000, "profile_count": 4_013, "gap": 13}
    assert manifest["maybe_capped"] == [{"name": "anna", "list": "following", **figures}]
    assert manifest["counts"] == {"following": {"lists": 2, "rows": 4_007, "profile_count": 4_020, "gap": 13}}
    assert manifest["is_complete"] is False
    seen = verified(folder)
    assert (seen.returncode, "are as they came; maybe capped.\n" in seen.stdout, told in seen.stderr) == (3, True, True)
    info_calls = sum(record.endpoint == "info" for record in retinue_server.requests)
    assert info_calls == 2
    again = subprocess.run(command[:-2], capture_output=True, text=True, check=False)
    assert (again.returncode, sum(record.endpoint == "info" for record in retinue_server.requests)) == (3, 2)


@pytest.mark.parametrize(
    ("rows", "count", "state"),
    [
        (4_000, 4_001, "maybe capped"),
        (4_000, 4_000, "complete"),
        (4_000, 3_990, "complete"),
        (4_001, 5_000, "complete"),
        (3_000, 9_000, "complete"),
        (7, 9, "complete"),
    ],
)
def test_only_a_known_cap_with_missing_rows_is_reported(tmp_path: Path, rows: int, count: int, state: str) -> None:
    """A count above the rows proves nothing: hidden accounts are counted too."""
    folder = tmp_path / "found"
    with scripted(listing({"a": rows}, {"a": count})) as url:
        done = asked(url, folder, ["a"])
    assert done.returncode == (3 if state == "maybe capped" else 0), done.stderr
    assert tables(folder, "SELECT state, rows, gap FROM {}lists.parquet'") == [(state, rows, count - rows)]
    assert verified(folder).returncode == done.returncode


@given(rows=st.integers(0, 20_000), count=st.none() | st.integers(0, 20_000))
def test_lists_at_a_likely_cap_are_recognized(rows: int, count: int | None) -> None:
    """For every list: multiples of 1,000 rows from 4,000 on, if more are counted."""
    found = ListCount(rows, count)
    assert found.gap == (None if count is None else count - rows)
    assert found.is_maybe_capped == (rows in range(4_000, 20_001, 1_000) and count is not None and count > rows)


@pytest.mark.parametrize("calls", [0, 1, 4, 8])
@pytest.mark.parametrize("concurrency", [1, 8])
def test_counts_stay_within_the_calls_for_user_info(tmp_path: Path, calls: int, concurrency: int) -> None:
    """A quarter is kept for likely caps; lists are read to their end whether their counts are known or not."""
    names, asked_for = [f"a{number}" for number in range(12)], Counter[str]()
    wanted = [Item(name, "following") for name in names]
    with scripted(listing(dict.fromkeys(names, 2), dict.fromkeys(names, 2), asked_for)) as url:
        outcome = collected(url, tmp_path / "found", CollectPlan(wanted, {"lists": 100, "info": calls}, concurrency))
    spent = sum(number for what, number in asked_for.items() if what.startswith("info"))
    assert (spent, outcome.failed, outcome.resets_at, outcome.stopped) == (calls - calls // 4, {}, {}, "")
    assert not collection.replay(tmp_path / "found").incomplete(wanted)


def test_the_last_calls_for_user_info_go_to_likely_caps(tmp_path: Path) -> None:
    """A list that ends at 4,000 rows is counted when no others are any more."""
    names, asked_for = ["a", "b", "c", "d", "e", "capped"], Counter[str]()
    rows = dict.fromkeys(names, 2) | {"capped": 4_000}
    with scripted(listing(rows, dict.fromkeys(names, 4_100), asked_for)) as url:
        plan = CollectPlan([Item(name, "following") for name in names], {"lists": 100, "info": 4}, 1)
        collected(url, tmp_path / "found", plan)
    assert [what for what in asked_for if what.startswith("info")] == ["info a", "info b", "info c", "info capped"]


def test_one_call_counts_both_lists_of_an_account_and_user_info_needs_none(tmp_path: Path) -> None:
    """Counts that come anyway, or came before, are not asked for."""
    names = ["a", "b"]
    for lists, calls in (("following,followers", 2), ("following,followers,info", 2)):
        asked_for = Counter[str]()
        with scripted(listing({"a": 1, "b": 1}, {"a": 3, "b": 3}, asked_for)) as url:
            done = asked(url, tmp_path / f"found{len(lists)}", names, "--lists", lists)
        assert done.returncode == 0, done.stderr
        assert sum(number for what, number in asked_for.items() if what.startswith("info")) == calls
        assert "following: 2 rows, profiles count 6, gap 4 (lists with a known count: 2)" in done.stdout
        assert "followers: 2 rows, profiles count 0, gap -2 (lists with a known count: 2)" in done.stdout


INFO_FAILURES = {
    "not served": Said(b"", 404),
    "broken": Said(b"", 502),
    "spent": enveloped({}, "daily_quota_limit_exceeded", "spent", 429),
    "no scope": enveloped({}, "scope_not_authorized", "no", 401),
    "no counts": enveloped({}),
    "hidden": enveloped({}, "invalid_params", "username a is private", 400),
    "odd counts": enveloped({"following_count": -5, "follower_count": 2**70}),
}


@pytest.mark.parametrize("said", INFO_FAILURES.values(), ids=INFO_FAILURES)
def test_lists_are_complete_without_counts(tmp_path: Path, said: Said) -> None:
    """Unknown counts cause neither a failure nor a wait, even if waiting for the quota is allowed."""
    folder = tmp_path / "found"
    with scripted(lambda path, _body: said if "/info/" in path else page([{"username": "z"}])) as url:
        done = asked(url, folder, ["a", "b", "c"], "--concurrency", "3", "--wait")
    assert (done.returncode, done.stderr) == (0, "")
    assert tables(folder, "SELECT DISTINCT state, profile_count, gap, counted_at FROM {}lists.parquet'") == [
        ("complete", None, None, None)
    ]
    assert manifest_in(folder)["counts"] == {}
    assert "complete.\n" in verified(folder).stdout


def test_user_info_collected_later_reveals_a_cap(tmp_path: Path) -> None:
    """A list whose count was unknown is compared as soon as it is known."""
    folder = tmp_path / "found"
    with scripted(listing({"a": 5_000}, {"a": 5_413})) as url:
        assert asked(url, folder, ["a"], "--info-calls-per-day", "0").returncode == 0
        done = asked(url, folder, ["a"], "--lists", "following,info")
    assert (done.returncode, "following of a: maybe capped: 5,000 rows, profile counts 5,413" in done.stderr) == (
        3,
        True,
    )


NOTE = "retinue: lists that end at a likely cap with an unknown count: 2; run the same command again"


def test_an_unknown_count_is_requested_by_the_next_run(tmp_path: Path) -> None:
    """It is no failure. Runs ask for it once their calls allow it, and only for lists that end at a likely cap."""
    folder, asked_for, names = tmp_path / "found", Counter[str](), ["a", "b", "c"]
    rows = {"a": 4_000, "b": 5_000, "c": 7}
    with scripted(listing(rows, {"a": 4_013, "b": 5_000, "c": 9}, asked_for)) as url:
        for calls in ("0", "0", "2", "2"):
            done = asked(url, folder, names, "--info-calls-per-day", calls)
            seen = verified(folder)
            assert (done.returncode, seen.returncode) == ((0, 0) if calls == "0" else (3, 3)), done.stderr
            assert (NOTE in done.stderr, NOTE in seen.stderr) == ((True, True) if calls == "0" else (False, False))
            assert manifest_in(folder)["uncounted_likely_caps"] == (2 if calls == "0" else 0)
            assert calls != "0" or seen.stdout.endswith("; complete.\n")
    assert (asked_for["info a"], asked_for["info b"], asked_for["info c"]) == (1, 1, 0)
    assert asked_for["following a"] == 40


def test_missing_counts_of_a_service_that_is_gone_fail_nothing(tmp_path: Path) -> None:
    """All lists are there: tables can be made again without the service."""
    folder = tmp_path / "found"
    with scripted(listing({"a": 4_000}, {"a": 4_013})) as url:
        assert asked(url, folder, ["a"], "--info-calls-per-day", "0").returncode == 0
    done = asked(url, folder, ["a"], "--format", "csv")
    assert (done.returncode, (folder / "rows.csv").exists()) == (0, True), done.stderr


@pytest.mark.parametrize(
    ("said", "failing", "asked_of"),
    [
        (Said(b"", 502), "ab", "abcdef"),
        (Said(b"", 502), "abc", "abc"),
        (Said(b"", 502), "abdef", "abcdef"),
        (enveloped({}, "invalid_params", "fields", 400), "abc", "abc"),
        (enveloped({}, "invalid_params", "fields", 400), "b", "abcdef"),
        (enveloped({}, "scope_not_authorized", "no", 401), "b", "ab"),
        (enveloped({}, "daily_quota_limit_exceeded", "spent", 429), "b", "ab"),
        (enveloped({}, "invalid_params", "username is private", 400), "abcde", "abcdef"),
    ],
)
def test_counting_stops_after_a_refusal_or_several_failures(
    tmp_path: Path, said: Said, failing: str, asked_of: str
) -> None:
    """The failure of one account costs no other its count."""
    names, asked_for = list("abcdef"), Counter[str]()
    good = listing(dict.fromkeys(names, 2), dict.fromkeys(names, 2), asked_for)

    def answer(path: str, body: dict[str, Any]) -> Said:
        usual = good(path, body)
        return said if "/info/" in path and body["username"] in failing else usual

    with scripted(answer) as url:
        plan = CollectPlan([Item(name, "following") for name in names], {"lists": 100, "info": 1_000}, 1)
        outcome = collected(url, tmp_path / "found", plan)
    assert (outcome.failed, outcome.stopped) == ({}, "")
    assert "".join(sorted(what[-1] for what in asked_for if what.startswith("info"))) == asked_of


def test_one_foreign_response_ends_no_collection(tmp_path: Path) -> None:
    """A gateway's 404 in the middle of a run is asked for again."""
    hiccups = iter([Said(b"<html>no</html>", 404)])
    good = listing({"a": 2, "b": 250, "c": 2}, {"a": 2, "b": 250, "c": 2})

    def answer(path: str, body: dict[str, Any]) -> Said:
        is_middle = body["username"] == "b" and "cursor" in body
        return next(hiccups, None) or good(path, body) if is_middle else good(path, body)

    with scripted(answer) as url:
        plan = CollectPlan([Item(name, "following") for name in "abc"], {"lists": 100, "info": 100}, 1)
        outcome = collected(url, tmp_path / "found", plan)
    assert (outcome.failed, outcome.stopped) == ({}, "")
    assert collection.replay(tmp_path / "found").rows == 254


def test_no_calls_for_user_info_and_wanting_it_is_refused(tmp_path: Path) -> None:
    """It would wait without end."""
    done = asked("http://127.0.0.1:9", tmp_path / "found", ["a"], "--lists", "info", "--info-calls-per-day", "0")
    assert (done.returncode, "--info-calls-per-day: 0 calls" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.update(maybe_capped=[]),
        lambda manifest: manifest["maybe_capped"][0].update(profile_count=4_000, gap=0),
        lambda manifest: manifest["counts"]["following"].update(gap=0),
        lambda manifest: manifest.update(counts={}),
        lambda manifest: manifest.update(is_complete=True),
        lambda manifest: manifest.update(uncounted_likely_caps=1),
    ],
)
def test_a_manifest_cannot_hide_a_cap(tmp_path: Path, change: Callable[[Any], object]) -> None:
    """Its figures are those of the journal."""
    folder = tmp_path / "found"
    with scripted(listing({"a": 4_000}, {"a": 4_100})) as url:
        asked(url, folder, ["a"], "--format", "csv")
    changed_manifest(folder, change)
    assert verified(folder).returncode == 1


def test_a_manifest_without_counts_is_refused(tmp_path: Path) -> None:
    """Each manifest has them, so a missing field is an error of its own."""
    folder = tmp_path / "found"
    with scripted(listing({"a": 4_000}, {"a": 4_100})) as url:
        asked(url, folder, ["a"], "--format", "csv")
    changed_manifest(folder, lambda manifest: manifest.pop("counts"))
    done = verified(folder)
    assert (done.returncode, "missing required field `counts`" in done.stderr) == (2, True)


def test_a_list_that_may_be_capped_is_not_compared(tmp_path: Path) -> None:
    """Rows that a service left out were not unfollowed."""
    for folder, rows in (("old", 4_100), ("new", 4_000)):
        with scripted(listing({"a": rows}, {"a": 4_100})) as url:
            asked(url, tmp_path / folder, ["a"], "--format", "csv")
    command = [sys.executable, "-m", "retinue", "collect", "diff", str(tmp_path / "old"), str(tmp_path / "new")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, "not complete in both: 1 lists" in done.stderr) == ("change,follower,followee,list\n", True)


def test_a_program_compares_a_list_with_its_profile() -> None:
    """A list that was read from now to its end; of any other the count is unknown."""
    with scripted(listing({"a": 4_000}, {"a": 4_100})) as url, Client("k", "s", url, policy=LIMITED) as client:
        found, profile = client.following("a"), client.user_info("a")
        assert found.count(profile) == ListCount(0, None)
        list(found)
        assert (found.count(profile), found.count(profile).gap) == (ListCount(4_000, 4_100), 100)
        assert found.count(profile).is_maybe_capped
        assert client.followers("a").count(profile).profile_count is None
        for start in ({"cursor": 50}, {"as_of": 50}):
            part = client.following("a", **start)  # type: ignore[arg-type]  # of either name
            list(part)
            assert part.count(profile).profile_count is None
