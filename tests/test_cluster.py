"""Promises of the store in a cluster: queries, buckets, interrupted groups, leases and locations."""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from retinue import errors
from retinue.model import AccountRecord, Direction, FollowRecord, PageRequest, Row
from retinue.store.cassandra import account_cache, session
from retinue.store.cassandra import keyspace as cluster
from retinue.store.cassandra.lease import RENEW_AFTER_SECONDS, STOP_AFTER_SECONDS, Lease
from retinue.store.cassandra.location import Location, parse
from retinue.store.cassandra.session import Statement
from retinue.store.cassandra.writer import GROUP, CassandraGraphWriter
from retinue.store.contract import Verdict
from retinue.store.open import open_store
from running import Server, Session, fresh_token, retinue, running_server
from support.backends import Keyspace, Lent, backoff_on
from support.clusters import NOW, ClusterStore, run
from support.frozen_clock import FrozenClock
from support.served import metrics
from support.waiting import waiting_for

INSERT = "INSERT INTO entry (owner, kind, bucket, position, account) VALUES (?, ?, ?, ?, ?)"


def names(numbers: Iterable[int]) -> list[str]:
    """Return the names of the accounts that an account follows."""
    return [f"f{number}" for number in numbers]


def test_a_page_is_one_query(cluster_store: ClusterStore) -> None:
    """When names are known, reading any page of a list asks the cluster once."""
    cluster_store.follow(*(("a", f"f{n}", 1000 + n) for n in range(100)))
    cluster_store.walked("a", 100)
    owner = cluster_store.id("a")

    for bound in (NOW, 1080, 1020):
        before = cluster_store.session.counts["reads"]
        page = run(cluster_store.graph.read(PageRequest(owner, Direction.FOLLOWING, bound, 10)))
        assert (1, 10) == (cluster_store.session.counts["reads"] - before, len(page.rows))


def test_an_entry_may_become_visible_before_its_account(cluster_store: ClusterStore) -> None:
    """While a group is being written: what the reader did not find then it looks for again."""
    cluster_store.follow(("a", "b", 100))
    cluster_store.session.write(INSERT, (cluster_store.id("a"), "following", 0, 200, 99))
    assert ["b"] == cluster_store.walked("a", 5)

    cluster_store.session.run_as_is(
        "INSERT INTO account (id, key, folded, username, display_name, visibility) VALUES (99, 'c', 'c', 'c', '', 0)"
    )
    assert ["c", "b"] == cluster_store.walked("a", 5)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (
            "DELETE FROM entry WHERE owner = {b} AND kind = 'followers' AND bucket = 0",
            "of the followers list of account {b}",
        ),
        (
            "DELETE FROM entry WHERE owner = {a} AND kind = 'following' AND bucket = 0",
            "of the following list of account {a}",
        ),
        ("DELETE FROM pair WHERE follower = {a}", "what stands on second 100 is no interval"),
        (
            "DELETE FROM entry WHERE owner = {d} AND kind = 'following_unbegun' AND bucket = 0",
            "never began of the following list of account {d}",
        ),
        ("DELETE FROM pair WHERE follower = {d}", "account {a} is among what never began"),
        ("DELETE FROM list WHERE owner = {b}", "has 1 entries, but 0 are counted"),
        ("DELETE FROM account WHERE id = {b}", "account {b} is in it, which there is not"),
        ("UPDATE account SET visibility = 2 WHERE id = {b}", "stands in the range of pages, where it does not belong"),
        ("INSERT INTO late (owner, direction) VALUES ({a}, 'following')", ""),
    ],
)
def test_damage_is_found(cluster_store: ClusterStore, damage: str, found: str) -> None:
    """Damage in one table is found from the others; extra index entries are no damage."""
    cluster_store.follow(("a", "b", 100), ("a", "c", 90))
    cluster_store.unfollow(("a", "c"), ("d", "a"))
    numbers = {name: cluster_store.id(name) for name in ("a", "b", "c", "d")}
    assert [] == cluster_store.backend.problems()

    cluster_store.session.run_as_is(damage.format(**numbers))
    problems = cluster_store.backend.problems()
    assert bool(found) == any(found.format(**numbers) in problem for problem in problems if found)
    assert bool(found) == bool(problems)


def test_a_page_across_two_partitions_is_two_queries(cluster_store: ClusterStore, small_buckets: None) -> None:
    """A partitioned list is read exactly, and no page needs more than two buckets."""
    cluster_store.follow(*(("a", f"f{n}", 1000 + n) for n in range(50)))
    assert names(range(49, -1, -1)) == cluster_store.walked("a", 7)
    owner = cluster_store.id("a")
    counts = []
    for bound in range(1049, 1005, -1):
        before = cluster_store.session.counts["reads"]
        run(cluster_store.graph.read(PageRequest(owner, Direction.FOLLOWING, bound, 5)))
        counts.append(cluster_store.session.counts["reads"] - before)

    assert {1, 2} == set(counts)
    assert cluster_store.backend.problems() == []


def test_pages_read_no_tombstones_of_unfollows(cluster_store: ClusterStore, small_buckets: None) -> None:
    """A bucket with many deletions is rewritten, so that pages read no tombstones."""
    cluster_store.follow(*(("a", f"f{n}", 1000 + n) for n in range(60)))
    cluster_store.unfollow(*(("a", f"f{n}") for n in range(20, 60)))

    assert names(range(19, -1, -1)) == cluster_store.walked("a", 6)
    cluster_store.follow(("a", "g", 1100))
    assert ["g", *names(range(19, -1, -1))] == cluster_store.walked("a", 6)
    cut = {
        row[0]: row[1]
        for row in cluster_store.session.rows(
            "SELECT kind, buckets FROM list WHERE owner = ?", (cluster_store.id("a"),)
        )
    }
    assert all(rows and removed <= 5 for _, _, rows, removed in cut["following"])
    assert cluster_store.backend.problems() == []
    run(cluster_store.writer.compact())
    assert ["g", *names(range(19, -1, -1))] == cluster_store.walked("a", 6)


@pytest.mark.parametrize("survivors", range(6))
def test_an_interrupted_group_is_finished_by_the_next_writer(
    cluster_store: ClusterStore, monkeypatch: pytest.MonkeyPatch, survivors: int
) -> None:
    """However far it came: either nothing of it was done, or after the next one all of it is."""
    cluster_store.follow(("a", "b", 100))
    sent = 0
    whole = type(cluster_store.session).write_all

    def broken(session: Any, statements: Iterable[Statement], before_each: Any = None) -> None:
        nonlocal sent
        for statement in statements:
            if sent == survivors:
                raise errors.StoreUnavailable("killed")
            sent += 1
            whole(session, [statement])

    monkeypatch.setattr(type(cluster_store.session), "write_all", broken)
    with pytest.raises(errors.StoreUnavailable, match="killed"):
        cluster_store.follow(("a", "c", 100), ("a", "d", 100))
    monkeypatch.undo()
    next_one = ClusterStore.__new__(ClusterStore)
    next_one.__dict__.update(cluster_store.__dict__)
    next_one.writer = CassandraGraphWriter(cluster_store.session, backoff_on(cluster_store.clock))

    expected = Verdict.DUPLICATE if survivors else Verdict.ACCEPTED
    assert [expected, expected] == next_one.follow(("a", "c", 100), ("a", "d", 100))
    assert ["b", "c", "d"] == next_one.walked("a", 2)
    assert cluster_store.backend.problems() == []


class Late(Lent):
    """A session whose lightweight transactions take some seconds of a clock."""

    def __init__(self, session: session.Session, clock: FrozenClock) -> None:
        self.__dict__ = dict(session.__dict__)
        self.seconds = 0.0
        self.clock = clock

    def compare_and_set(self, query: str, values: Any = ()) -> tuple[bool, Any]:
        """Answer late."""
        result = super().compare_and_set(query, values)
        self.clock.advance(self.seconds)
        return result


def test_a_writer_that_lost_the_lease_writes_nothing(cluster_store: ClusterStore) -> None:
    """A lease that is not renewed in time, or that another writer has, is not relied on."""
    late = Late(cluster_store.session, FrozenClock())
    stopped = Lease(late, "stopped", backoff_on(late.clock))
    stopped.take()
    late.clock.advance(RENEW_AFTER_SECONDS)
    late.seconds = STOP_AFTER_SECONDS + 1
    with pytest.raises(errors.StoreUnavailable, match="not renewed in time"):
        stopped.renew_if_due()

    cluster_store.session.run_as_is("TRUNCATE lease")  # its time is over
    assert [Verdict.ACCEPTED] == cluster_store.follow(("a", "b", 100))
    with pytest.raises(errors.StoreUnavailable, match="taken over"):
        stopped.renew_if_due()


def test_a_long_copy_keeps_the_lease(
    cluster_store: ClusterStore, small_buckets: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease is renewed between the pieces while a bucket is rewritten."""
    monkeypatch.setattr(session, "BATCHES_AT_ONCE", 1)
    monkeypatch.setattr(session, "BATCH_ROWS", 1)
    ticks = count()
    renewed = []
    whole = type(cluster_store.session).compare_and_set

    def seen(one: Any, query: str, values: Any = ()) -> tuple[bool, Any]:
        renewed.append(query.startswith("UPDATE lease"))
        return whole(one, query, values)

    monkeypatch.setattr(type(cluster_store.session), "compare_and_set", seen)
    backoff = replace(backoff_on(cluster_store.clock), elapsed=lambda: float(next(ticks)))
    cluster_store.writer = CassandraGraphWriter(cluster_store.session, backoff)
    cluster_store.follow(*(("a", f"f{n}", 1000 + n) for n in range(30)))

    assert sum(renewed) > 30  # of two seconds each: more than one lease would have lasted
    assert names(range(29, -1, -1)) == cluster_store.walked("a", 7)
    assert cluster_store.backend.problems() == []


def test_maintenance_without_work_sends_no_queries(cluster_store: ClusterStore) -> None:
    """An idle server reads and writes nothing; it finishes an interrupted group."""
    cluster_store.follow(("a", "b", 100))
    coordinator = CassandraGraphWriter(cluster_store.session, backoff_on(cluster_store.clock))
    before = cluster_store.session.counts["writes"]
    assert not run(coordinator.run_maintenance())
    assert before == cluster_store.session.counts["writes"]

    ((timestamp, body),) = cluster_store.session.rows("SELECT writing, body FROM redo WHERE name = 'graph'")
    cluster_store.session.run_as_is("TRUNCATE entry")
    cluster_store.session.write("UPDATE redo SET writing = ?, body = ? WHERE name = 'graph'", (timestamp + 1, body))
    assert not run(coordinator.run_maintenance())
    assert ["b"] == cluster_store.walked("a", 1)


def test_a_reader_finds_accounts_outside_its_cache(
    cluster_store: ClusterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of accounts that are partly remembered, when there is no room for the rest."""
    monkeypatch.setattr(account_cache, "PER_GENERATION", 10)
    cluster_store.follow(*(("a", f"f{n}", 1000 + n) for n in range(30)))

    for limit in (7, 3, 30, 1, 8):
        assert names(range(29, -1, -1)) == cluster_store.walked("a", limit)


def test_the_account_cache_is_bounded(cluster_store: ClusterStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many names are asked for, only so many are kept, and each is found."""
    monkeypatch.setattr(account_cache, "PER_GENERATION", 5)
    cluster_store.follow(*(("a", f"f{n}", 1000 + n) for n in range(23)))
    cache = account_cache.AccountCache(cluster_store.session, cluster_store.clock, Row)
    sizes = []

    async def ask() -> None:
        await cache.refresh()
        for n in range(23):
            assert await cache.account(f"f{n}") is not None
            sizes.append(len(cache._names))
            assert len(cache._young) <= 5
            assert len(cache._old) <= 5

    run(ask())
    assert [1 + n % 5 for n in range(23)] == sizes


def test_a_later_holder_has_later_timestamps(cluster_store: ClusterStore) -> None:
    """So what an earlier one sends too late changes nothing."""
    tokens = []
    for name in ("one", "two", "one"):
        lease = Lease(cluster_store.session, name, backoff_on(cluster_store.clock))
        tokens.append(lease.take())
        lease.release()

    assert sorted(set(tokens)) == tokens


def test_equal_positions_are_reported_and_lose_no_row(cluster_store: ClusterStore) -> None:
    """Two accounts on one second, as a broken lease would leave them: `check` says so, and both are there."""
    cluster_store.follow(("a", "b", 100), ("x", "c", 500))
    cluster_store.session.write(INSERT, (cluster_store.id("a"), "following", 0, 100, cluster_store.id("c")))

    assert ["b", "c"] == sorted(cluster_store.walked("a", 10))
    assert any("2 intervals stand on second 100" in problem for problem in cluster_store.backend.problems())
    cluster_store.session.run_as_is("TRUNCATE entry")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cassandra://h/k", Location(("h",), 9042, "k")),
        ("cassandra://h:1,i:1,j/k_2", Location(("h", "i", "j"), 1, "k_2")),
        ("cassandra://[::1]:9/k", Location(("::1",), 9, "k")),
        ("cassandra://me:p%40ss@h/k", Location(("h",), 9042, "k", "me", "p@ss")),
        ("cassandra://h/k?consistency=quorum", Location(("h",), 9042, "k", consistency="QUORUM")),
    ],
)
def test_locations_are_read(text: str, expected: Location) -> None:
    """Hosts, port, keyspace, user and options."""
    assert expected == parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cassandra:///k", "no host"),
        ("cassandra://h", "keyspace"),
        ("cassandra://h/K", "keyspace"),
        ("cassandra://h/k; DROP", "keyspace"),
        ("cassandra://h:x/k", "not a port"),
        ("cassandra://h:1,i:2/k", "one port"),
        ("cassandra://h/k?color=red", "color"),
        ("cassandra://h/k?consistency=maybe", "consistency"),
        ("cassandra://h/k?tls_cert=x", "belong together"),
    ],
)
def test_wrong_locations_are_refused(text: str, words: str) -> None:
    """Each with what is wrong, and never with the password."""
    with pytest.raises(errors.InputError, match=words) as caught:
        parse(text.replace("://", "://me:hidden@") if text.startswith("cassandra://h") else text)
    assert "hidden" not in str(caught.value)


def test_a_location_without_a_store_is_not_opened(keyspace: Keyspace, clock: FrozenClock) -> None:
    """The location may be empty, hold something else, or not respond."""
    base = keyspace.location.rpartition("/")[0]
    with pytest.raises(errors.MissingStore, match="store init"):
        open_store(f"{base}/nothing").graph(clock)
    with pytest.raises(errors.NotAStore, match="other tables"):
        open_store(f"{base}/system").graph(clock)
    with pytest.raises(errors.StoreError, match="no node can be reached"):
        open_store("cassandra://127.0.0.1:1/nothing").graph(clock)


def statements(server: Server, store: Path, pages: int) -> float:
    """How many statements a server has sent to the cluster, by its metrics, when it has counted so many pages."""
    waiting_for(lambda: metrics(server, store).get('retinue_requests_total{code="ok",endpoint="following"}') == pages)
    return metrics(server, store)["retinue_store_statements_total"]


def test_a_kept_connection_is_answered(
    cassandra_keyspace: str, clock: FrozenClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server on a cluster waits for it, also where the embedded store would answer at once.

    Its metrics count what it asks: a page is one statement, and once in a while it looks for changes and for the token.
    """
    monkeypatch.chdir(tmp_path)
    with closing(open_store(cassandra_keyspace).writer(clock)) as writer:
        run(writer.add_follows([FollowRecord("a", f"f{n}", 1000 + n, NOW) for n in range(30)]))
    local = open_store(cassandra_keyspace).paths.base
    with running_server(cassandra_keyspace) as server:
        with Session(server.base_url, fresh_token(server, cassandra_keyspace)) as session:
            pages = [session.following({"username": "a", "max_count": 10}) for _ in range(3)]
            before = statements(server, local, 3)
            for _ in range(50):
                session.following({"username": "a", "max_count": 10})
            asked = statements(server, local, 53) - before

    assert 50 <= asked <= 60
    assert [[f"f{n}" for n in range(29, 19, -1)]] * 3 == [
        [row["username"] for row in page["user_following"]] for page in pages
    ]
    assert "every invariant holds" in retinue("check", "--store", cassandra_keyspace)


def test_impossible_replication_is_refused(keyspace: Keyspace, cassandra_keyspace: str) -> None:
    """Before anything is made; what is there keeps the replicas that it has."""
    elsewhere = cassandra_keyspace.replace("retinue_tests", "retinue_others")
    with pytest.raises(errors.InputError, match="has 1 nodes, and a replica needs its own"):
        cluster.create(parse(elsewhere), replication=3)
    with pytest.raises(errors.MissingStore):
        cluster.open_session(parse(elsewhere))
    with pytest.raises(errors.InputError, match="with other replicas than 3 \\(datacenter1: 1\\)"):
        cluster.create(parse(cassandra_keyspace), replication=3)
    assert not cluster.create(parse(cassandra_keyspace), replication=1)


def test_a_keyspace_may_have_the_name_of_a_keyword(cassandra_keyspace: str) -> None:
    """As `asc`, which CQL keeps for itself."""
    location = parse(cassandra_keyspace.rpartition("/")[0] + "/asc")
    cluster.create(location, replication=1)
    with closing(cluster.open_session(location)) as opened:
        assert len(opened.rows("SELECT secret FROM store")) == 1
        opened.run_as_is('DROP KEYSPACE "asc"')


def test_an_entry_keeps_nothing_of_the_one_it_replaces(cluster_store: ClusterStore) -> None:
    """A follow that really began at its shifted position keeps that position."""
    cluster_store.follow(("a", "b", 100), ("a", "c", 100))
    cluster_store.writer = CassandraGraphWriter(cluster_store.session, backoff_on(cluster_store.clock))
    cluster_store.follow(("a", "c", 99))

    assert cluster_store.backend.problems() == []
    then = PageRequest(cluster_store.id("a"), Direction.FOLLOWING, NOW, 10, as_of=99)
    assert ["c"] == [row.username for row in run(cluster_store.graph.read(then)).rows]


def test_groups_are_smaller_than_the_largest_row(cluster_store: ClusterStore) -> None:
    """Accounts with as much text as they may have, as many as are written at once: 18 MB, where a row takes 16 MiB."""
    bio = "x" * 9_000
    accounts = [AccountRecord(f"u{n}", bio_description=bio) for n in range(GROUP)]

    assert {Verdict.ACCEPTED} == set(run(cluster_store.writer.add_accounts(accounts, NOW)))
    assert [(GROUP,)] == cluster_store.session.rows("SELECT count(*) FROM account")
