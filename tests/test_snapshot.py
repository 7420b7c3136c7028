"""`retinue import --snapshot-at`: what a full dump ends, what it leaves alone, and that this is said."""

import asyncio
import json
import tempfile
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retinue.ingest.importer import Import, ImportCounts, end_missing, import_follows
from retinue.ingest.records import FOLLOW_COLUMNS
from retinue.ingest.rejects import RejectsFile
from retinue.ingest.snapshot import Snapshot
from retinue.ingest.tables import open_table
from retinue.model import (
    AccountEvent,
    AccountRecord,
    Direction,
    ErasureEvent,
    FollowEvent,
    FollowRecord,
    PageRequest,
    Row,
)
from retinue.names import fold
from retinue.store.contract import GraphReader, GraphWriter
from retinue.store.open import open_store
from support.commands import imported, list_of, retinue, tally
from support.frozen_clock import FrozenClock
from support.model_store import ModelGraph
from support.service import Service
from support.thorough import examples

NOW = 1_700_000_000
T = 1_690_000_000


class Outcome(NamedTuple):
    """The outcome of a dump: counts of each file, and owners and rows for which nothing was ended."""

    tallies: list[ImportCounts]
    withheld: int
    nameless: int
    reason: str  # why the first of them was withheld


def loaded(store: str, writer: GraphWriter, at: int, *files: Path) -> Outcome:
    """Import files as a full dump, as the command does it."""
    with closing(RejectsFile(open_store(store).paths.rejects)) as rejects, closing(Snapshot(at)) as snapshot:
        run = Import(writer, at, rejects, {}, snapshot)
        for path in files:
            with closing(open_table(path, FOLLOW_COLUMNS)) as table:
                asyncio.run(import_follows(run, str(path), table, lambda _position: None))
        asyncio.run(end_missing(run, snapshot, lambda _rows: None))
        reason = snapshot.first_nameless or next(iter(snapshot.withheld.values()), "")
        return Outcome(list(run.counts.values()), len(snapshot.withheld), snapshot.nameless, reason)


def csv(path: Path, *rows: str) -> Path:
    """A table of follows; times may be left away."""
    path.write_text("follower,followee,followed_at\n" + "".join(f"{row}\n" for row in rows))
    return path


def jsonl(path: Path, rows: Iterable[tuple[str, str]]) -> Path:
    """The same, for names of any kind."""
    path.write_text("".join(json.dumps({"follower": a, "followee": b}) + "\n" for a, b in rows))
    return path


def names_of(service: Service, username: str, as_of: int = NOW) -> list[str]:
    """A following list over the API."""
    answer = service.ask({"username": username, "max_count": 100, "as_of": as_of}).json()
    return [row["username"] for row in answer["data"]["user_following"]]


def unfollow(follower: str, followee: str, at: int) -> FollowEvent:
    """Return an unfollow."""
    return FollowEvent(follower, followee, at, is_follow=False)


def test_a_dump_ends_follows_it_lacks(store_path: Path, tmp_path: Path) -> None:
    """Missing follows end at its time, other owners are untouched, and the same dump again changes nothing."""
    old = csv(tmp_path / "old.csv", f"a,b,{T - 30}", f"a,c,{T - 20}", f"x,y,{T - 10}")
    dump = csv(tmp_path / "dump.csv", f"a,d,{T - 5}", f"a,b,{T - 30}", f"z,a,{T - 1}")
    assert (0, {"old.csv": tally(accepted=3)}) == imported(store_path, old)

    first = imported(store_path, "--snapshot-at", "2023-07-22T04:26:40Z", dump)
    second = imported(store_path, "--snapshot-at", str(T), dump)

    assert (0, {"dump.csv": tally(accepted=2, duplicate=1, ended=1)}) == first
    assert (0, {"dump.csv": tally(duplicate=3)}) == second
    for arguments, expected in (
        (["a"], "d\nb\n"),
        (["a", "--as-of", str(T)], "d\nb\n"),
        (["a", "--as-of", str(T - 1)], "d\nc\nb\n"),
        (["x"], "y\n"),
        (["c", "--direction", "followers"], ""),
    ):
        done = retinue("following", *arguments, "--store", store_path)
        assert f"username  display name\n{expected}" == done.stdout


def test_follows_in_a_dump_hold_at_its_time(service: Service, tmp_path: Path) -> None:
    """Also where the follow had ended before, or is known from a later time only."""
    service.apply(
        FollowEvent("a", "before", T - 50), unfollow("a", "before", T - 40), FollowEvent("a", "after", T + 50)
    )

    loaded(service.store, service.writer, T, csv(tmp_path / "d.csv", f"a,before,{T - 50}", "a,after,", "a,new,"))

    assert ["before"] == names_of(service, "a", T - 41)
    assert [] == names_of(service, "a", T - 40) == names_of(service, "a", T - 1)
    assert {"before", "after", "new"} == set(names_of(service, "a", T)) == set(names_of(service, "a"))


def test_ended_follows_are_not_in_a_dump(service: Service, tmp_path: Path) -> None:
    """Such a row is rejected, and its owner's other rows prove nothing either."""
    service.apply(FollowEvent("a", "b", T - 50), FollowEvent("x", "b", T - 50))
    rows = [
        {"follower": "a", "followee": "c", "followed_at": T - 9, "ended_at": T - 1},
        {"follower": "x", "followee": "c", "followed_at": T - 9},
    ]
    dump = tmp_path / "d.jsonl"
    dump.write_text("".join(json.dumps(row) + "\n" for row in rows))

    outcome = loaded(service.store, service.writer, T, dump)

    assert (1, 1, 1) == (outcome.tallies[0].rejected, outcome.tallies[0].ended, outcome.withheld)
    assert ["b"] == names_of(service, "a")
    assert ["c"] == names_of(service, "x")


def test_events_after_the_dump_stay(service: Service, tmp_path: Path) -> None:
    """Later follows and unfollows hold; the dump only states its own time."""
    service.apply(
        FollowEvent("a", "kept", T - 50),
        FollowEvent("a", "left", T - 40),
        FollowEvent("a", "again", T - 30),
        unfollow("a", "left", T + 10),
        FollowEvent("a", "new", T + 20),
    )

    outcome = loaded(service.store, service.writer, T, csv(tmp_path / "d.csv", "a,left,", "a,kept,"))
    service.apply(FollowEvent("a", "again", T + 30))

    assert 1 == outcome.tallies[0].ended
    assert ["left", "kept"] == names_of(service, "a", T)
    assert ["again", "new", "kept"] == names_of(service, "a")


def test_a_follow_repeated_after_the_dump_begins_again(service: Service, tmp_path: Path) -> None:
    """The later follow gets a free slot if another follow has its second."""
    service.apply(FollowEvent("a", "b", T - 50), FollowEvent("a", "b", T + 10), FollowEvent("a", "c", T + 10))

    outcome = loaded(service.store, service.writer, T, csv(tmp_path / "d.csv", "a,d,"))

    assert 1 == outcome.tallies[0].ended
    assert ["d"] == names_of(service, "a", T)
    assert {"b", "c", "d"} == set(names_of(service, "a"))


def test_an_unfollow_at_the_very_second_of_the_dump_wins(service: Service, tmp_path: Path) -> None:
    """At one second an unfollow comes after a follow, whatever its source."""
    service.apply(FollowEvent("a", "b", T - 50), unfollow("a", "b", T))

    loaded(service.store, service.writer, T, csv(tmp_path / "d.csv", "a,b,"))

    assert ["b"] == names_of(service, "a", T - 1)
    assert [] == names_of(service, "a", T)


def test_a_list_may_lie_anywhere_in_any_file(service: Service, tmp_path: Path) -> None:
    """Owners whose rows are scattered over several files keep all of them; the first such file counts what is ended."""
    owners, friends = [f"o{n}" for n in range(7)], [f"f{n}" for n in range(90)]
    service.add_follows(*((owner, f"old{owner}", T - 9) for owner in owners))
    rows = [[f"{owner},{friend}," for owner in owners] for friend in friends]
    first = csv(tmp_path / "first.csv", *(row for some in rows[::3] for row in some[:5]))
    second = csv(tmp_path / "second.csv", *(row for some in rows[::3] for row in some[5:]))
    third = csv(tmp_path / "third.csv", *(row for n, some in enumerate(rows) if n % 3 for row in some))

    outcome = loaded(service.store, service.writer, T, first, second, third)

    assert [5, 2, 0] == [each.ended for each in outcome.tallies]
    for owner in owners:
        assert sorted(friends) == sorted(names_of(service, owner))


def test_all_names_of_an_owner_mean_one_list(service: Service, tmp_path: Path) -> None:
    """By key, by username, in other letters, with an @: what any of the rows holds stays."""
    service.apply(AccountEvent(AccountRecord(key="17", username="Änna"), T - 90))
    service.apply(AccountEvent(AccountRecord(key="18", username="ben"), T - 90))
    service.apply(*(FollowEvent("17", other, T - 50) for other in ("18", "19", "20", "21")))

    outcome = loaded(service.store, service.writer, T, csv(tmp_path / "d.csv", "17,Ben,", "Änna,19,", "@äNNA,20,"))

    assert [ImportCounts(duplicate=3, ended=1)] == outcome.tallies
    assert {"ben", "19", "20"} == set(names_of(service, "änna"))


def test_names_of_any_kind_come_through(service: Service, tmp_path: Path) -> None:
    """Signs that mean something in tables are just signs in a name."""
    strange = ["#x", '"q"', "'s'", "\\N", "NULL", "a,b", "\\", '"', "x" * 255, "名前", "e\u0301é", "1e3"]
    service.add_follows(*((owner, other, T - 50) for owner in strange for other in (*strange, "missing")))
    kept = [(owner, other) for owner in strange for other in strange]

    outcome = loaded(service.store, service.writer, T, jsonl(tmp_path / "d.jsonl", kept))

    assert len(strange) == outcome.tallies[0].ended
    for owner in strange:
        assert {fold(other) for other in strange if other != owner} == {*map(fold, names_of(service, owner))}


@pytest.mark.parametrize(
    ("row", "withheld", "nameless", "reason"),
    [
        ({"follower": "a", "followee": "ben\ud83d"}, 1, 0, "followee: 'ben\ufffd' has half of a character"),
        ({"follower": "a\ud83d", "followee": "ben"}, 0, 1, "follower: 'a\ufffd' has half of a character"),
        ({"follower": "a\ud83d", "followee": "ben", "followed_at": "soon"}, 0, 1, "followed_at: expected"),
    ],
)
def test_a_row_with_altered_names_ends_no_possible_follow(
    service: Service, tmp_path: Path, row: dict[str, str], withheld: int, nameless: int, reason: str
) -> None:
    """Half of a character in a name was replaced: the account that the dump meant is not known."""
    service.add_follows(("a", "ben😀", T - 50), ("x", "y", T - 50))
    dump = jsonl(tmp_path / "d.jsonl", [("x", "z"), ("a", "d\ufffd")])
    with dump.open("a") as file:
        file.write(json.dumps(row) + "\n")

    outcome = loaded(service.store, service.writer, T, dump)

    assert (withheld, nameless) == (outcome.withheld, outcome.nameless)
    assert outcome.reason.startswith(reason)
    assert {"ben😀", "d\ufffd"} <= set(names_of(service, "a"))
    assert ({"z"} if withheld else {"y", "z"}) == set(names_of(service, "x"))


def test_texts_that_were_altered_withhold_nothing_but_altered_accounts_do(store_path: Path, tmp_path: Path) -> None:
    """An account's display name is no name that a follow could mean; its id and its username are."""
    dump, accounts = csv(tmp_path / "d.csv", "a,c,"), tmp_path / "accounts.jsonl"
    for field, expected in (("id", {"b", "c"}), ("username", {"b", "c"}), ("display_name", {"c"})):
        imported(store_path, csv(tmp_path / "old.csv", f"a,b,{T - 30}"))
        accounts.write_text(json.dumps({"id": "1", "username": "u"} | {field: "b\ud83d"}) + "\n")

        done = retinue("import", "--store", store_path, "--snapshot-at", str(T), "--accounts", accounts, dump)

        assert expected == {name for name, _ in list_of(store_path, "a")}
        assert (len(expected) == 2) == (f"{field}: 'b\ufffd' has half of a character" in done.stderr)


@pytest.mark.parametrize(
    ("old", "lines"),
    [
        (("an na", "ben"), ["an ny,ben,notatime", "an na,carl,"]),
        (("carl", "dora"), ['anna,"ben', "carl,dora,", 'emil,frida",', "carl,gus,"]),
        (("carl", "dora"), ['anna,"ben\rcarl,dora",', "carl,gus,"]),
    ],
)
def test_a_row_that_may_have_been_of_any_owner_ends_nothing(
    service: Service, tmp_path: Path, old: tuple[str, str], lines: list[str]
) -> None:
    """A rejected row of an unknown follower that is no name, or one that swallowed other rows in its quotes."""
    service.apply(FollowEvent(*old, T - 50), FollowEvent("x", "y", T - 50))

    outcome = loaded(service.store, service.writer, T, csv(tmp_path / "d.csv", "x,z,", *lines))

    assert (0, 1, 0) == (outcome.withheld, outcome.nameless, sum(each.ended for each in outcome.tallies))
    assert {"y", "z"} == set(names_of(service, "x"))


@pytest.mark.parametrize("row", ["a,c,soon", "A,c,0", "@a,,", 'a,"x y",5'])
def test_an_owner_of_a_row_that_cannot_be_read_is_withheld(service: Service, tmp_path: Path, row: str) -> None:
    """The owner's list is incomplete without the row; other owners' lists are complete."""
    service.add_follows(("a", "b", T - 50), ("x", "y", T - 50))

    outcome = loaded(service.store, service.writer, T, csv(tmp_path / "d.csv", "a,d,", "x,z,", row))

    assert (1, 0) == (outcome.withheld, outcome.nameless)
    assert [ImportCounts(accepted=2, rejected=1, ended=1, withheld=1)] == outcome.tallies
    assert {"b", "d"} == set(names_of(service, "a"))
    assert ["z"] == names_of(service, "x")


@pytest.mark.parametrize("row", ["a,c", ",c,", "x y,c,", '"a,c', f"{'x' * 256},c,"])
def test_rows_without_a_known_owner_end_nothing(service: Service, tmp_path: Path, row: str) -> None:
    """The row may have belonged to any owner."""
    service.add_follows(("a", "b", T - 50), ("x", "y", T - 50))

    outcome = loaded(service.store, service.writer, T, csv(tmp_path / "d.csv", "a,d,", "x,z,", row))

    assert (0, 1) == (outcome.withheld, outcome.nameless)
    assert [ImportCounts(accepted=2, rejected=1, withheld=2)] == outcome.tallies
    assert {"b", "d"} == set(names_of(service, "a"))


def test_a_row_in_a_crowded_list_takes_a_later_slot(service: Service, tmp_path: Path) -> None:
    """Its list is compared like any other, though no slot up to the dump's second is free."""
    service.add_follows(("a", "b", 1), ("a", "c", 2))

    outcome = loaded(service.store, service.writer, 2, csv(tmp_path / "d.csv", "a,c,", "a,d,"))

    assert (0, [ImportCounts(accepted=1, duplicate=1, ended=1)]) == (outcome.withheld, outcome.tallies)
    assert ["d", "c"] == names_of(service, "a")


def test_rows_about_one_account_withhold_no_other(service: Service, tmp_path: Path) -> None:
    """A rejected follow of oneself or of an erased account does not affect the rest of the list."""
    service.add_follows(("a", "b", T - 50), ("a", "gone", T - 40), ("gone", "a", T - 30))
    service.apply(ErasureEvent("gone", T - 20))

    outcome = loaded(service.store, service.writer, T, csv(tmp_path / "d.csv", "a,a,", "a,gone,", "gone,a,", "a,d,"))

    assert (0, 0, [ImportCounts(accepted=1, rejected=3, ended=1)]) == (
        outcome.withheld,
        outcome.nameless,
        outcome.tallies,
    )
    assert ["d"] == names_of(service, "a")


def test_a_dump_that_was_cut_off_is_completed_by_the_next_run(service: Service, tmp_path: Path) -> None:
    """Rows alone end nothing; once the whole import ran, everything missing has ended."""
    service.add_follows(("a", "b", T - 50))
    dump = csv(tmp_path / "d.csv", "a,c,", "a,d,")
    asyncio.run(service.writer.add_follows([FollowRecord("a", "c", None, T)], T))
    assert {"b", "c"} == set(names_of(service, "a"))

    outcome = loaded(service.store, service.writer, T, dump)

    assert [ImportCounts(accepted=1, duplicate=1, ended=1)] == outcome.tallies
    assert {"c", "d"} == set(names_of(service, "a"))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            "a,c,soon",
            (
                "lists from which no follow was ended, since rows of them were rejected or altered: 1\n"
                "retinue:   of a: followed_at: expected Unix seconds or an ISO 8601 time, got 'soon'\n"
            ),
        ),
        (
            "a,c",
            (
                "no follows were ended: it is not known whose lists 1 of the rejected or altered rows belong to, the"
                " first because of expected 3 columns, got 2; correct them and import the dump again\n"
            ),
        ),
    ],
)
def test_the_command_reports_withheld_owners(store_path: Path, tmp_path: Path, row: str, words: str) -> None:
    """On standard error, after the table of what was ended, and the exit code is 1."""
    imported(store_path, csv(tmp_path / "old.csv", f"a,b,{T - 30}"))
    rejects = tmp_path / "graph.rejects.jsonl"

    done = retinue("import", "--store", store_path, "--snapshot-at", str(T), csv(tmp_path / "d.csv", row))

    assert (1, True) == (done.returncode, "ended" in done.stdout)
    assert f"retinue: rejected rows: 1; all are in {rejects}\nretinue:   1 like d.csv line 2: " in done.stderr
    assert f"retinue: {words}" in done.stderr
    assert [("b", "")] == list_of(store_path, "a")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--snapshot-at", "2023-01-01"], "give tables of follows"),
        (["--snapshot-at", "2023-01-01", "--accounts", "a.csv"], "--snapshot-at: give the tables of follows"),
        (["--snapshot-at", "2999-01-01", "f.csv"], "--snapshot-at: 2999-01-01 is in the future"),
        (["--snapshot-at", "then", "f.csv"], "--snapshot-at: expected Unix seconds or an ISO 8601 time, got 'then'"),
        (
            ["--snapshot-at", "1690000000000", "f.csv"],
            "--snapshot-at: '1690000000000' is too large for a Unix second (milliseconds?)",
        ),
        (["--snapshot-at", "2023-01-01", "f.csv", "none.csv"], "none.csv: cannot be read"),
    ],
)
def test_an_invalid_dump_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    """One clear line, exit code 2, and no store is made."""
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("username\na\n")
    csv(Path("f.csv"), "a,b,")

    done = retinue("import", *arguments)

    assert (2, 1) == (done.returncode, done.stderr.count("\n"))
    assert words in done.stderr
    assert {"a.csv", "f.csv"} == {path.name for path in tmp_path.iterdir()}


# Any graph, any dump

PEOPLE = [f"p{n}" for n in range(5)]
BEGIN, DUMPED, END = 100, 110, 120
PAIRS = st.tuples(st.sampled_from(PEOPLE), st.sampled_from(PEOPLE)).filter(lambda pair: pair[0] != pair[1])
# But for the dump's own second, at which an unfollow would win.
UNFOLLOWS = st.integers(BEGIN, END).filter(lambda at: at != DUMPED)
EVENTS = st.lists(
    st.builds(lambda pair, at: FollowEvent(pair[0], pair[1], at), PAIRS, st.integers(BEGIN, END))
    | st.builds(lambda pair, at: unfollow(pair[0], pair[1], at), PAIRS, UNFOLLOWS),
    max_size=25,
)
ROWS = st.lists(st.tuples(PAIRS, st.none() | st.integers(BEGIN - 5, DUMPED + 5)), max_size=15)


async def lists_of(graph: GraphReader[Row], as_of: int) -> dict[str, set[str]]:
    """Return all following lists at a second."""
    found = {}
    for name in PEOPLE:
        account = await graph.find_account(name)
        if account is not None:
            rows = (await graph.read(PageRequest(account.id, Direction.FOLLOWING, 1 << 40, 100, as_of))).rows
            found[name] = {row.username for row in rows}
    return found


@settings(max_examples=examples(60))
@given(events=EVENTS, rows=ROWS, number=st.integers(1, 3))
def test_after_a_dump_every_owner_in_it_has_its_list(
    events: list[FollowEvent], rows: list[tuple[tuple[str, str], int | None]], number: int
) -> None:
    """As of its time exactly the dump's rows; at every other second, and for others, what the model says."""
    model, clock = ModelGraph(), FrozenClock(END)
    dumped: dict[str, set[str]] = {}
    for (owner, other), _ in rows:
        dumped.setdefault(owner, set()).add(other)
    asyncio.run(model.apply(events, END))
    asyncio.run(model.add_follows([FollowRecord(*pair, at, DUMPED) for pair, at in rows], DUMPED))
    for owner, others in dumped.items():
        asyncio.run(model.end_missing(owner, others, DUMPED))

    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "graph.db")
        lines = [f"{owner},{other},{at or ''}" for (owner, other), at in rows]
        files = [csv(Path(folder) / f"{n}.csv", *lines[n::number]) for n in range(number)]
        open_store(store).create()
        with (
            closing(open_store(store).writer(clock)) as writer,
            closing(open_store(store).graph(clock)) as graph,
        ):
            asyncio.run(writer.apply(events, END))
            loaded(store, writer, DUMPED, *files)
            after = asyncio.run(lists_of(graph, DUMPED))
            assert dumped == {owner: after[owner] for owner in dumped}
            for second in range(BEGIN - 5, END + 1):
                assert asyncio.run(lists_of(model, second)) == asyncio.run(lists_of(graph, second))
