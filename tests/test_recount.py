"""Counters of quotas that are missing or damaged: refused, and counted again from the audit log, never given again."""

import asyncio
import itertools
import json
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from retinue.access.audit import Record
from retinue.access.quotas import TOKEN_RATE
from retinue.access.recount import Recount
from retinue.access.trail import Keeping, Trail
from retinue.errors import StoreError, StoreUnavailable
from retinue.model import Client, Meter, Pool, Quota, Rate, Used
from retinue.store.base import Anchor
from retinue.store.counter_file import FIRST_RECORDS, RECORD_BYTES
from retinue.store.ledger import FileLedger
from retinue.store.quota_counters import DAY_SECONDS, Counted
from running import Client as ApiClient
from running import Server, running_server
from test_cli import retinue
from test_served_access import FOLLOWING, pages_written, posted, token_of
from waiting import waiting_for

DAY = 20_000
NOON = DAY * DAY_SECONDS + DAY_SECONDS // 2
METER = Meter(3, 1_000)
CALLS = 5
SECRET = b"s" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the counters."""
    return tmp_path / "graph.quotas"


def charged(path: Path, times: int, quota: Quota | None = None) -> None:
    """A file in which a client has had answers, beside another client."""
    quota = quota or Quota(list_calls=CALLS)
    with closing(FileLedger(path)) as ledger:
        for meter in [METER] * times + [Meter(4, 1_000)]:
            assert ledger.charge(meter, NOON, Pool.LISTS, 7, quota) is not None
        assert 0 == ledger.admit(METER, NOON, TOKEN_RATE)


def changed(path: Path, place: int, content: bytes) -> None:
    """Put other bytes into a file."""
    with path.open("r+b") as file:
        file.seek(place)
        file.write(content)


# Damage


@settings(max_examples=300, deadline=None)
@given(st.integers(0, RECORD_BYTES - 1), st.binary(min_size=1, max_size=16))
def test_no_change_of_a_record_gives_anything(offset: int, content: bytes) -> None:
    """Whatever bytes stand in a record, its client is refused or has exactly what it had."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "graph.quotas"
        limited = Quota(list_calls=CALLS, rate=Rate(CALLS, 60))
        charged(path, 3, limited)
        changed(path, METER.id * RECORD_BYTES + offset, content[: RECORD_BYTES - offset])
        with closing(FileLedger(path)) as ledger:
            for left in (1, 0):
                try:
                    allowance = ledger.charge(METER, NOON, Pool.LISTS, 7, limited)
                except StoreUnavailable:
                    assert METER.id in ledger.damaged()
                    break
                assert allowance is not None
                assert left == allowance.calls
            else:
                assert ledger.charge(METER, NOON, Pool.LISTS, 7, limited) is None


def zeros(path: Path) -> None:
    """A record of zeros, as a file system leaves it after an outage."""
    changed(path, METER.id * RECORD_BYTES, bytes(RECORD_BYTES))


def negative(path: Path) -> None:
    """Counts below nothing, as they would stand in the file."""
    changed(path, METER.id * RECORD_BYTES + 16, struct.pack("<3q", -(10**9), -(10**9), -(10**9)))


def another_day(path: Path) -> None:
    """The day before."""
    changed(path, METER.id * RECORD_BYTES + 8, struct.pack("<q", DAY - 1))


def another_record(path: Path) -> None:
    """The record of another client."""
    content = path.read_bytes()
    changed(path, METER.id * RECORD_BYTES, content[(METER.id + 1) * RECORD_BYTES : (METER.id + 2) * RECORD_BYTES])


def cut(path: Path) -> None:
    """A file without its end."""
    changed_to = path.read_bytes()[: METER.id * RECORD_BYTES]
    path.write_bytes(changed_to)


DAMAGES = [zeros, negative, another_day, another_record, cut]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_counters_are_refused(path: Path, damage: Callable[[Path], None]) -> None:
    """Every way of counting and looking names the file; other clients are served."""
    charged(path, 3)
    damage(path)
    with closing(FileLedger(path)) as ledger:
        for attempt in (
            lambda: ledger.charge(METER, NOON, Pool.LISTS, 1, Quota()),
            lambda: ledger.room(METER, NOON, Pool.LISTS, Quota(), 1),
            lambda: ledger.used(METER, NOON),
        ):
            with pytest.raises(StoreUnavailable, match=r"graph\.quotas: the counters of client 3 are damaged"):
                attempt()
        if damage is not cut:
            assert Used(1, 7, 0) == ledger.used(Meter(4, 1_000), NOON)
        ledger.restore(METER, NOON, Counted(Used(3, 21, 0), {}, {}))
        left = ledger.charge(METER, NOON, Pool.LISTS, 1, Quota(list_calls=CALLS))
        assert left is not None
        assert CALLS - 4 == left.calls


def test_only_records_that_were_changed_are_damaged(path: Path) -> None:
    """None is in a new file, none in one that has grown."""
    charged(path, 1)
    with closing(FileLedger(path)) as ledger:
        ledger.charge(Meter(10 * FIRST_RECORDS, 1), NOON, Pool.LISTS, 1, Quota())
        assert {} == ledger.damaged()
        negative(path)
        assert [METER.id] == list(ledger.damaged())


def test_a_link_is_no_place_for_counters(path: Path, tmp_path: Path) -> None:
    """They would lie where it leads, which may be anywhere."""
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="cannot be kept here"):
        FileLedger(path)
    assert not (tmp_path / "elsewhere").exists()


# Days


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30))
def test_no_day_is_given_twice(days: list[int]) -> None:
    """However a clock is moved, all that was given is at most a day's quota for each day that was newer than any."""
    with TemporaryDirectory() as folder, closing(FileLedger(Path(folder) / "graph.quotas")) as ledger:
        given_on: dict[int, int] = {}
        for day in days:
            second = (DAY + day) * DAY_SECONDS + 10
            newest = max([day, *given_on])
            given = ledger.charge(METER, second, Pool.OTHERS, 0, Quota(other_calls=2)) is not None
            assert given == (given_on.get(newest, 0) < 2)
            given_on[newest] = given_on.get(newest, 0) + given
            left = ledger.left(METER, second, Pool.OTHERS, Quota(other_calls=2))
            assert (newest - day + 1) * DAY_SECONDS - 10 == left.reset


# Counting again


def client_of(meter: Meter, key: str, quota: Quota) -> Client:
    """A client of a number."""
    return Client(key, key, frozenset(), meter.since, id=meter.id, quota=quota)


class Registered:
    """Clients, and the anchor of a log."""

    def __init__(self, clients: list[Client], anchor: Anchor) -> None:
        self._clients = clients
        self._anchor = anchor

    async def clients(self) -> list[Client]:
        """All of them."""
        return self._clients

    async def audit_anchor(self) -> Anchor:
        """The anchor."""
        return self._anchor


ANSWERS = st.tuples(
    st.sampled_from(["following", "followers", "info", "token", "none"]),
    st.integers(0, 9),
    st.sampled_from([0, 0, 1, 30, 61, 40_000]),  # seconds since the one before
    st.sampled_from(["a", "b", ""]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ANSWERS, max_size=25), st.integers(1, 60), st.integers(1, 3))
def test_counters_from_the_log_are_those_that_were_lost(
    answers: list[tuple[str, int, int, str]], window: int, records_per_file: int
) -> None:
    """For every story of answers, over midnights and many files, what is left is the same as before the loss."""
    quota = Quota(list_calls=50, list_rows=300, other_calls=50, rate=Rate(40, window))
    clients = {"a": client_of(Meter(1, 5), "a", quota), "b": client_of(Meter(2, 6), "b", quota)}
    with TemporaryDirectory() as name:
        folder, now = Path(name), NOON
        trail = Trail(
            folder / "audit",
            Anchor(SECRET, 0, bytes(20), 0, bytes(20), True),
            Keeping(records_per_file * 150, 9**9),
            lambda: now,
        )
        with closing(FileLedger(folder / "before")) as before:
            for endpoint, rows, pause, key in answers:
                now += pause
                status = counted(before, clients.get(key), endpoint, rows, now)
                record = Record(now, "x", endpoint, status, "-", 1, "", key, rows=rows)
                trail.write([msgspec.json.encode(record)])
            anchor = Anchor(SECRET, trail.written.count, trail.written.hash, 0, bytes(20), True)
            trail.close()
            with closing(FileLedger(folder / "after")) as after:
                recount = Recount(after, folder / "audit")
                asyncio.run(recount.at_start(Registered(list(clients.values()), anchor), now))
                assert after.is_recounted
                for client in clients.values():
                    assert before.used(client.meter, now) == after.used(client.meter, now)
                    for pool in Pool:
                        assert before.left(client.meter, now, pool, quota) == after.left(client.meter, now, pool, quota)
                    tokens = Rate(10, 60)
                    assert before.admit(client.meter, now, tokens) == after.admit(client.meter, now, tokens)


def counted(ledger: FileLedger, client: Client | None, endpoint: str, rows: int, now: int) -> int:
    """The status of an answer, charged as a server charges it."""
    if client is None or endpoint == "none":
        return 401
    if endpoint == "token":
        return 429 if ledger.admit(client.meter, now, Rate(10, 60)) else 200
    pool = Pool.OTHERS if endpoint == "info" else Pool.LISTS
    return 429 if ledger.charge(client.meter, now, pool, rows, client.quota) is None else 200


def test_a_record_is_restored_if_it_stays_damaged(path: Path, tmp_path: Path) -> None:
    """One that changes between two looks is being written; and the numbers of clients that are gone are freed."""
    charged(path, 3)
    access = Registered([client_of(METER, "a", Quota())], Anchor(SECRET, 0, bytes(20), 0, bytes(20), True))
    with closing(FileLedger(path)) as ledger:
        recount = Recount(ledger, tmp_path / "audit")
        for content in (b"1", b"2"):
            changed(path, METER.id * RECORD_BYTES + 20, content)
            assert [] == asyncio.run(recount.of_damaged(access, NOON))
        assert METER.id in ledger.damaged()
        changed(path, 9 * RECORD_BYTES + 20, b"x")
        asyncio.run(recount.of_damaged(access, NOON))
        asyncio.run(recount.of_damaged(access, NOON))
        assert {} == ledger.damaged()


# With a server


@pytest.fixture
def store(store_path: Path, tmp_path: Path) -> Path:
    """A store with one list."""
    follows = tmp_path / "follows.csv"
    follows.write_text("follower,followee,followed_at\np,f,1000000\n")
    assert 0 == retinue("import", "--store", store_path, follows).returncode
    return store_path


@pytest.fixture
def client(store: Path) -> ApiClient:
    """A client with few calls a day."""
    options = ("--name", "x", "--json", "--list-calls", str(CALLS))
    made = json.loads(retinue("client", "create", "--store", store, *options).stdout)
    return ApiClient(made["client_key"], made["client_secret"])


def statuses(server: Server, token: str) -> Iterator[int]:
    """Yield the statuses of answers without end; refusals for the moment are waited out."""
    while True:
        status = posted(server, FOLLOWING, '{"username":"p"}', token)[0]
        if status != 503:
            yield status


def removed(path: Path) -> None:
    """No file."""
    path.unlink()


def empty(path: Path) -> None:
    """A file of no bytes."""
    path.write_bytes(b"")


def in_debt(path: Path) -> None:
    """A count below nothing for the first client."""
    changed(path, RECORD_BYTES + 16, struct.pack("<q", -(10**9)))


@pytest.mark.parametrize("damage", [removed, empty, in_debt])
def test_a_restart_gives_no_quota_anew(store: Path, client: ApiClient, damage: Callable[[Path], None]) -> None:
    """Whatever became of the counters, of five calls a day five are answered."""
    with running_server(store) as server:
        assert [200] * 3 == list(itertools.islice(statuses(server, token_of(server, client)), 3))
    damage(store.with_suffix(".quotas"))

    with running_server(store) as server:
        answered = statuses(server, token_of(server, client))
        assert [200, 200, 429, 429] == list(itertools.islice(answered, 4))


def test_quota_is_spent_if_nothing_knows_how_much_was_used(store: Path, client: ApiClient) -> None:
    """Without counters and with an audit log that was changed, all calls of the day are refused."""
    with running_server(store) as server:
        assert 200 == next(statuses(server, token_of(server, client)))
    removed(store.with_suffix(".quotas"))
    (log,) = store.with_suffix(".audit").glob("*.jsonl")
    log.write_bytes(log.read_bytes().replace(b'"status":200', b'"status":201'))

    with running_server(store) as server:
        assert 429 == next(statuses(server, token_of(server, client)))


@pytest.mark.parametrize("workers", [1, 2])
def test_damage_while_a_server_runs_gives_no_quota_anew(store: Path, client: ApiClient, workers: int) -> None:
    """The client is refused for a moment, and then has what is left."""
    with running_server(store, "--workers", str(workers)) as server:
        token = token_of(server, client)
        answered = statuses(server, token)
        assert [200] * 3 == list(itertools.islice(answered, 3))
        waiting_for(lambda: pages_written(store) == 3)
        in_debt(store.with_suffix(".quotas"))
        assert 503 == posted(server, FOLLOWING, '{"username":"p"}', token)[0]
        assert [200, 200, 429] == list(itertools.islice(answered, 3))


def test_removed_counters_are_not_made_anew_while_a_server_runs(store: Path, client: ApiClient) -> None:
    """The workers that have them open count on in them."""
    with running_server(store) as server:
        answered = statuses(server, token_of(server, client))
        assert [200] * 3 == list(itertools.islice(answered, 3))
        removed(store.with_suffix(".quotas"))
        assert [200, 200, 429] == list(itertools.islice(answered, 3))
        assert not store.with_suffix(".quotas").exists()


def test_commands_say_that_counters_are_missing(store: Path, client: ApiClient) -> None:
    """They show no use, say why, and make no file."""
    with running_server(store) as server:
        assert 200 == next(statuses(server, token_of(server, client)))
    removed(store.with_suffix(".quotas"))

    done = retinue("client", "list", "--store", store)

    assert (0, True) == (done.returncode, "graph.quotas is missing: today's use is not known" in done.stderr)
    assert not store.with_suffix(".quotas").exists()


def test_usage_of_a_changed_log_is_no_success(store: Path, client: ApiClient) -> None:
    """It says that it leaves out what was changed."""
    with running_server(store) as server:
        assert 200 == next(statuses(server, token_of(server, client)))
    (log,) = store.with_suffix(".audit").glob("*.jsonl")
    log.write_bytes(log.read_bytes().replace(b'"status":200', b'"status":201'))

    done = retinue("audit", "usage", "--store", store)

    assert (1, True) == (done.returncode, "what was changed is not counted" in done.stderr)
