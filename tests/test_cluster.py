"""Promises of the store in a cluster: statements, parts of lists, damage, leases and locations."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from retinue import errors
from retinue.model import AccountRecord, Direction, FollowRecord, PageRequest
from retinue.store.cassandra import keyspace as cluster
from retinue.store.cassandra import session
from retinue.store.cassandra.engine import CassandraEngine
from retinue.store.cassandra.graph import CassandraRows
from retinue.store.cassandra.lease import RENEW_AFTER_SECONDS, STOP_AFTER_SECONDS, Lease
from retinue.store.cassandra.location import Location, parse
from retinue.store.contract import Verdict
from retinue.store.layout import blocks, columns, entries
from retinue.store.layout.tables import LISTS, Changes, pair_key
from retinue.store.open import open_store
from retinue.store.reading.row_file import RowFile
from retinue.store.writer import ACCOUNTS_AT_ONCE, EngineGraphWriter
from running import Server, Session, fresh_token, retinue, running_server
from support.backends import Keyspace, Lent, backoff_on, writer_on
from support.cassandra_node import TOMBSTONE_LIMIT
from support.clusters import NOW, ClusterStore, Stop, run
from support.frozen_clock import FrozenClock
from support.served import metrics
from support.waiting import waiting_for


def names(numbers: Iterable[int]) -> list[str]:
    """Return the names of the accounts that an account follows."""
    return [f"f{number}" for number in numbers]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Blocks have four entries."""
    for module in (blocks, entries, columns):
        monkeypatch.setattr(module, "CAPACITY", 4)
    return iter([None])


def dividing(store: ClusterStore) -> None:
    """Give a store a writer that looks after each change whether a list is to be divided."""
    store.writer = writer_on(store.session, store.clock, 0)


def read(store: ClusterStore, owner: int, bound: int, limit: int) -> tuple[int, int]:
    """Return how many statements a page takes, and its number of rows."""
    before = store.session.counts["reads"]
    page = run(store.graph.read(PageRequest(owner, Direction.FOLLOWING, bound, limit)))
    return store.session.counts["reads"] - before, len(page.rows)


def test_a_page_is_one_statement(cluster_store: ClusterStore) -> None:
    """If names are cached, each page of a list takes one statement."""
    cluster_store.follow(*(("a", f"f{n}", 1000 + n) for n in range(300)))
    assert names(range(299, -1, -1)) == cluster_store.walked("a", 100)
    owner = cluster_store.id("a")

    assert [(1, 10)] * 3 == [read(cluster_store, owner, bound, 10) for bound in (NOW, 1080, 1020)]


def test_a_page_of_a_divided_list_takes_at_most_three_statements(
    cluster_store: ClusterStore, small_blocks: None, small_parts: None
) -> None:
    """The newest part tells where the others are. Inside of a part a page takes two statements, in the newest one."""
    dividing(cluster_store)
    cluster_store.follow(*(("a", f"f{n}", 1000 + n) for n in range(100)))
    cluster_store.follow(*(("a", f"f{n}", 1000 + n) for n in range(100, 200)))
    assert names(range(199, -1, -1)) == cluster_store.walked("a", 7)
    owner = cluster_store.id("a")
    found = [read(cluster_store, owner, bound, 3) for bound in range(1199, 1005, -1)]

    assert (1, 3) == found[0]
    assert {(1, 3), (2, 3), (3, 3), (4, 3)} >= set(found)
    assert sum(statements for statements, _ in found) < 2.5 * len(found)
    assert len(cluster_store.session.rows("SELECT DISTINCT owner, part FROM following")) >= 6
    assert [] == cluster_store.backend.problems()


def test_no_part_of_a_list_grows_without_bounds(
    cluster_store: ClusterStore, small_blocks: None, small_parts: None
) -> None:
    """A list may grow at its end, at its beginning, and in between."""
    whole = []
    for step in (4, 1):
        for begin in (2000, 1000, 1500):
            dividing(cluster_store)
            cluster_store.follow(*(("a", f"f{n}", 100 * n) for n in range(begin, begin + 60, step)))
            whole = [*range(2059, 1999, -1), *range(1559, 1499, -1), *range(1059, 999, -1)]
    assert names(whole) == cluster_store.walked("a", 50)

    query = "SELECT count(*) FROM following WHERE kind = 0 GROUP BY owner, part ALLOW FILTERING"
    counts = [number for (number,) in cluster_store.session.rows(query)]
    assert max(counts) <= 24  # with what was moved already
    assert len(counts) > 8
    assert [] == cluster_store.backend.problems()


def test_pages_pass_over_few_tombstones(cluster_store: ClusterStore) -> None:
    """However many rows of a list were removed: nodes of tests refuse to pass over so many."""
    table, backoff = LISTS[Direction.FOLLOWING].visible, backoff_on(cluster_store.clock)
    engine = CassandraEngine(cluster_store.session, "one", backoff, lambda: 0.5)
    keys = [pair_key(1, slot) for slot in range(1, TOMBSTONE_LIMIT // 3)]
    for begin in range(7):
        with engine.exclusive():
            engine.commit([Changes(table, [(key, b"x") for key in keys], [])])
        for step in (begin, begin + 1, begin + 3, begin + 4):
            with engine.exclusive():
                engine.commit([Changes(table, [], [*keys[step::7]])])

    left = run(CassandraRows(cluster_store.session).scan(table, pair_key(1, 0), keys[-1], reverse=True, limit=150))
    assert len(left) == 150
    assert dict(left).items() <= dict(engine.all_rows(table)).items()


def test_an_entry_may_become_visible_before_its_account(cluster_store: ClusterStore) -> None:
    """While a group is being written: what a reader does not find then it looks for again."""
    cluster_store.follow(("a", "b", 100), ("a", "c", 200))
    ((key, value),) = cluster_store.session.rows("SELECT key, value FROM account WHERE key = 3")
    cluster_store.session.run_as_is("DELETE FROM account USING TIMESTAMP 1 WHERE key = 3")
    with pytest.raises(errors.StoreUnavailable, match="it does not exist"):
        cluster_store.walked("a", 5)

    cluster_store.session.write("INSERT INTO account (key, value) VALUES (?, ?) USING TIMESTAMP 2", (key, value))
    assert ["c", "b"] == cluster_store.walked("a", 5)


DAMAGE = [
    "DELETE FROM followers USING TIMESTAMP 99 WHERE owner = {b} AND part = 0",
    "DELETE FROM following USING TIMESTAMP 99 WHERE owner = {a} AND part = 0",
    "DELETE FROM account USING TIMESTAMP 99 WHERE key = {b}",
    "DELETE FROM username USING TIMESTAMP 99 WHERE key = 'b'",
    "UPDATE account USING TIMESTAMP 99 SET value = 0x00 WHERE key = {b}",
    "UPDATE following USING TIMESTAMP 99 SET value = 0x0102 WHERE owner = {a} AND part = 0 AND kind = 0 AND slot = 0",
    "UPDATE followers USING TIMESTAMP 99 SET value = null WHERE owner = {b} AND part = 0 AND kind = 0 AND slot = 0",
    "DELETE FROM meta USING TIMESTAMP 9999999999999999 WHERE key = 'secret'",
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found(cluster_store: ClusterStore, damage: str) -> None:
    """Damage in one table is found from its checksum or from other tables."""
    cluster_store.follow(("a", "b", 100), ("a", "c", 90))
    cluster_store.unfollow(("a", "c"), ("d", "a"))
    ids = {name: cluster_store.id(name) for name in ("a", "b", "c", "d")}
    assert [] == cluster_store.backend.problems()

    cluster_store.session.run_as_is(damage.format(**ids))
    assert cluster_store.backend.problems()


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
        stopped.keep()

    cluster_store.expire_lease()
    assert [Verdict.ACCEPTED] == cluster_store.follow(("a", "b", 100))
    late.seconds = 0
    stopped.keep()  # the lease is free
    with pytest.raises(errors.StoreUnavailable, match="taken over"):
        stopped.commit(1, 1, 1)


def test_a_commit_is_refused_to_a_former_holder(cluster_store: ClusterStore) -> None:
    """Even if it believes that it has the lease; and to the holder, if it is not the next group."""
    stopped = Lease(cluster_store.session, "stopped", backoff_on(cluster_store.clock))
    commits = stopped.take()
    with pytest.raises(errors.StoreUnavailable, match="taken over"):
        stopped.commit(commits.committed + 2, 1, 1)
    cluster_store.expire_lease()
    Lease(cluster_store.session, "another", backoff_on(cluster_store.clock)).take()
    with pytest.raises(errors.StoreUnavailable, match="taken over"):
        stopped.commit(commits.committed + 1, 1, 1)


def test_a_long_group_keeps_the_lease(cluster_store: ClusterStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease is renewed between the pieces while a group is written."""
    monkeypatch.setattr("retinue.store.cassandra.statements.BATCH_PARTITIONS", 1)
    ticks = count()
    renewed = []
    whole = type(cluster_store.session).compare_and_set

    def seen(one: Any, query: str, values: Any = ()) -> tuple[bool, Any]:
        renewed.append("IF holder = ?" in query and "TTL" in query)
        return whole(one, query, values)

    monkeypatch.setattr(type(cluster_store.session), "compare_and_set", seen)
    backoff = replace(backoff_on(cluster_store.clock), elapsed=lambda: float(next(ticks)))
    engine = CassandraEngine(cluster_store.session, "slow", backoff, lambda: 0.5)
    cluster_store.writer = EngineGraphWriter(engine, cluster_store.clock)
    cluster_store.follow(*(("a", f"f{n}", 1000 + n) for n in range(30)))

    assert sum(renewed) > 30  # of two seconds each: more than one lease would have lasted
    assert names(range(29, -1, -1)) == cluster_store.walked("a", 7)
    assert [] == cluster_store.backend.problems()


def test_a_group_may_take_longer_than_the_lease(cluster_store: ClusterStore) -> None:
    """If no other writer has written meanwhile, the lease is taken again."""
    for number in range(1, 6):
        cluster_store.writer = cluster_store.writer_with(Stop(number, cluster_store.expire_lease))
        assert [Verdict.ACCEPTED] == cluster_store.follow(("a", f"f{number}", 100))
    assert len(cluster_store.walked("a", 10)) == 5


def test_maintenance_without_work_writes_nothing(cluster_store: ClusterStore) -> None:
    """An idle server takes no lease."""
    cluster_store.follow(("a", "b", 100))
    coordinator = writer_on(cluster_store.session, cluster_store.clock)
    before = cluster_store.session.counts["writes"]
    assert not run(coordinator.run_maintenance())
    assert before == cluster_store.session.counts["writes"]


def test_the_account_cache_is_bounded(cluster_store: ClusterStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of accounts that are partly cached, when there is no room for the rest."""
    monkeypatch.setattr("retinue.store.reading.account_cache.MAX_CACHED_ROWS", 10)
    cluster_store.follow(*(("a", f"f{n}", 1000 + n) for n in range(30)))

    for limit in (7, 3, 30, 1, 8):
        assert names(range(29, -1, -1)) == cluster_store.walked("a", limit)


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
    with running_server(cassandra_keyspace, "--cache-dir", "rows") as server:
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
    assert RowFile(Path("rows", local.with_suffix(".rows").name)).state.last_id == 31
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
        assert len(opened.rows("SELECT version FROM store")) == 1
        opened.run_as_is('DROP KEYSPACE "asc"')


def test_groups_may_be_larger_than_a_row(cluster_store: ClusterStore) -> None:
    """Accounts with as much text as they may have, as many as are written at once: 36 MB, where a row takes 16 MiB."""
    bio = "x" * 9_000
    accounts = [AccountRecord(f"u{n}", bio_description=bio) for n in range(ACCOUNTS_AT_ONCE)]

    assert {Verdict.ACCEPTED} == set(run(cluster_store.writer.add_accounts(accounts, NOW)))
    assert [(ACCOUNTS_AT_ONCE,)] == cluster_store.session.rows("SELECT count(*) FROM account")
    cluster_store.follow(("u1", "u2", 1))  # removes the redo log too, if the node was too busy before
    assert [] == cluster_store.session.rows("SELECT * FROM redo")
