"""Counters of quotas that are missing or damaged: refused, and counted again from the audit log, never given again."""

import asyncio
import itertools
import json
import os
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from retinue.access.quotas import TOKEN_RATE
from retinue.audit.hash_chain import line_of
from retinue.audit.log import AuditLog, RotationPolicy
from retinue.audit.record import AuditRecord
from retinue.audit.recount import FutureDayWarnings, Recount
from retinue.errors import StoreError, StoreUnavailable
from retinue.model import Pool, Quota, QuotaKey, RateLimit, RegisteredClient, Usage
from retinue.store.contract import Checkpoint
from retinue.store.counter_file import FIRST_RECORDS, RECORD_BYTES
from retinue.store.file_quota_counters import FileQuotaCounters
from retinue.store.quota_counters import DAY_SECONDS, Counted
from running import Client as ApiClient
from running import Server, running_server
from support.commands import retinue
from support.served import pages_written, posted, token_of
from support.service import FOLLOWING
from support.waiting import waiting_for

DAY = 20_000
NOON = DAY * DAY_SECONDS + DAY_SECONDS // 2
QUOTA_KEY = QuotaKey(3, 1_000)
CALLS = 5
SECRET = b"s" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the counters."""
    return tmp_path / "graph.quotas"


def charged(path: Path, times: int, quota: Quota | None = None) -> None:
    """A file in which a client has had answers, beside another client."""
    quota = quota or Quota(list_calls=CALLS)
    with closing(FileQuotaCounters(path)) as counters:
        for quota_key in [QUOTA_KEY] * times + [QuotaKey(4, 1_000)]:
            assert counters.charge(quota_key, NOON, Pool.LISTS, 7, quota) is not None
        assert 0 == counters.admit(QUOTA_KEY, NOON, TOKEN_RATE)


def changed(path: Path, place: int, content: bytes) -> None:
    """Put other bytes into a file."""
    with path.open("r+b") as file:
        file.seek(place)
        file.write(content)


# Damage


@settings(max_examples=300, deadline=None)
@given(st.integers(0, RECORD_BYTES - 1), st.binary(min_size=1, max_size=16))
def test_a_changed_counter_record_grants_no_quota(offset: int, content: bytes) -> None:
    """The client of a changed record is refused, or has exactly its former use."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "graph.quotas"
        limited = Quota(list_calls=CALLS, rate=RateLimit(CALLS, 60))
        charged(path, 3, limited)
        changed(path, QUOTA_KEY.id * RECORD_BYTES + offset, content[: RECORD_BYTES - offset])
        with closing(FileQuotaCounters(path)) as counters:
            for left in (1, 0):
                try:
                    quota_status = counters.charge(QUOTA_KEY, NOON, Pool.LISTS, 7, limited)
                except StoreUnavailable:
                    assert QUOTA_KEY.id in counters.damaged()
                    break
                assert quota_status is not None
                assert left == quota_status.calls
            else:
                assert counters.charge(QUOTA_KEY, NOON, Pool.LISTS, 7, limited) is None


def zeros(path: Path) -> None:
    """A record of zeros, as a file system leaves it after an outage."""
    changed(path, QUOTA_KEY.id * RECORD_BYTES, bytes(RECORD_BYTES))


def negative(path: Path) -> None:
    """Counts below nothing, as they would stand in the file."""
    changed(path, QUOTA_KEY.id * RECORD_BYTES + 16, struct.pack("<3q", -(10**9), -(10**9), -(10**9)))


def another_day(path: Path) -> None:
    """The day before."""
    changed(path, QUOTA_KEY.id * RECORD_BYTES + 8, struct.pack("<q", DAY - 1))


def another_record(path: Path) -> None:
    """The record of another client."""
    content = path.read_bytes()
    changed(
        path,
        QUOTA_KEY.id * RECORD_BYTES,
        content[(QUOTA_KEY.id + 1) * RECORD_BYTES : (QUOTA_KEY.id + 2) * RECORD_BYTES],
    )


def cut(path: Path) -> None:
    """A file without its end."""
    changed_to = path.read_bytes()[: QUOTA_KEY.id * RECORD_BYTES]
    path.write_bytes(changed_to)


DAMAGES = [zeros, negative, another_day, another_record, cut]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_counters_are_refused(path: Path, damage: Callable[[Path], None]) -> None:
    """Every way of counting and looking names the file; other clients are served."""
    charged(path, 3)
    damage(path)
    with closing(FileQuotaCounters(path)) as counters:
        for attempt in (
            lambda: counters.charge(QUOTA_KEY, NOON, Pool.LISTS, 1, Quota()),
            lambda: counters.remaining(QUOTA_KEY, NOON, Pool.LISTS, Quota(), 1),
            lambda: counters.usage(QUOTA_KEY, NOON),
        ):
            with pytest.raises(StoreUnavailable, match=r"graph\.quotas: the counters of client 3 are damaged"):
                attempt()
        if damage is not cut:
            assert Usage(1, 7, 0) == counters.usage(QuotaKey(4, 1_000), NOON)
        counters.restore(QUOTA_KEY, NOON, Counted(Usage(3, 21, 0), {}, {}))
        left = counters.charge(QUOTA_KEY, NOON, Pool.LISTS, 1, Quota(list_calls=CALLS))
        assert left is not None
        assert CALLS - 4 == left.calls


def test_only_records_that_were_changed_are_damaged(path: Path) -> None:
    """None is in a new file, none in one that has grown."""
    charged(path, 1)
    with closing(FileQuotaCounters(path)) as counters:
        counters.charge(QuotaKey(10 * FIRST_RECORDS, 1), NOON, Pool.LISTS, 1, Quota())
        assert {} == counters.damaged()
        negative(path)
        assert [QUOTA_KEY.id] == list(counters.damaged())


def test_a_symbolic_link_is_refused_as_a_counter_file(path: Path, tmp_path: Path) -> None:
    """They would lie where it leads, which may be anywhere."""
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="cannot be kept here"):
        FileQuotaCounters(path)
    assert not (tmp_path / "elsewhere").exists()


# Days


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30))
def test_no_daily_quota_is_granted_twice(days: list[int]) -> None:
    """However a clock is moved, each new day grants at most one daily quota."""
    with TemporaryDirectory() as folder, closing(FileQuotaCounters(Path(folder) / "graph.quotas")) as counters:
        given_on: dict[int, int] = {}
        for day in days:
            second = (DAY + day) * DAY_SECONDS + 10
            newest = max([day, *given_on])
            given = counters.charge(QUOTA_KEY, second, Pool.OTHERS, 0, Quota(other_calls=2)) is not None
            assert given == (given_on.get(newest, 0) < 2)
            given_on[newest] = given_on.get(newest, 0) + given
            left = counters.status(QUOTA_KEY, second, Pool.OTHERS, Quota(other_calls=2))
            assert (newest - day + 1) * DAY_SECONDS - 10 == left.reset


# Counting again


def client_of(quota_key: QuotaKey, key: str, quota: Quota) -> RegisteredClient:
    """A client of a number."""
    return RegisteredClient(key, key, frozenset(), quota_key.since, id=quota_key.id, quota=quota)


class Registered:
    """Clients, and the checkpoint of a log."""

    def __init__(self, clients: list[RegisteredClient], checkpoint: Checkpoint) -> None:
        self._clients = clients
        self._checkpoint = checkpoint

    async def clients(self) -> list[RegisteredClient]:
        """All of them."""
        return self._clients

    async def audit_checkpoint(self) -> Checkpoint:
        """The checkpoint."""
        return self._checkpoint


ANSWERS = st.tuples(
    st.sampled_from(["following", "followers", "info", "token", "none"]),
    st.integers(0, 9),
    st.sampled_from([0, 0, 1, 30, 61, 40_000]),  # seconds since the one before
    st.sampled_from(["a", "b", ""]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ANSWERS, max_size=25), st.integers(1, 60), st.integers(1, 3))
def test_counters_rebuilt_from_the_log_equal_the_lost_ones(
    answers: list[tuple[str, int, int, str]], window: int, records_per_file: int
) -> None:
    """For every story of answers, over midnights and many files, what is left is the same as before the loss."""
    quota = Quota(list_calls=50, list_rows=300, other_calls=50, rate=RateLimit(40, window))
    clients = {"a": client_of(QuotaKey(1, 5), "a", quota), "b": client_of(QuotaKey(2, 6), "b", quota)}
    with TemporaryDirectory() as name:
        folder, now = Path(name), NOON
        audit_log = AuditLog(
            folder / "audit",
            Checkpoint(SECRET, 0, bytes(20), 0, bytes(20), True),
            RotationPolicy(records_per_file * 150, 9**9),
            lambda: now,
        )
        with closing(FileQuotaCounters(folder / "before")) as before:
            for endpoint, rows, pause, key in answers:
                now += pause
                status = counted(before, clients.get(key), endpoint, rows, now)
                record = AuditRecord(
                    time=now,
                    log_id="x",
                    endpoint=endpoint,
                    status=status,
                    code="-",
                    microseconds=1,
                    peer="",
                    client=key,
                    rows=rows,
                )
                audit_log.write([msgspec.json.encode(record)])
            checkpoint = Checkpoint(SECRET, audit_log.written.count, audit_log.written.hash, 0, bytes(20), False)
            audit_log.close()
            with closing(FileQuotaCounters(folder / "after")) as after:
                recount = Recount(after, folder / "audit")
                asyncio.run(recount.at_start(Registered(list(clients.values()), checkpoint), now))
                assert after.is_recounted
                for client in clients.values():
                    assert before.usage(client.quota_key, now) == after.usage(client.quota_key, now)
                    for pool in Pool:
                        assert before.status(client.quota_key, now, pool, quota) == after.status(
                            client.quota_key, now, pool, quota
                        )
                    tokens = RateLimit(10, 60)
                    assert before.admit(client.quota_key, now, tokens) == after.admit(client.quota_key, now, tokens)


def counted(counters: FileQuotaCounters, client: RegisteredClient | None, endpoint: str, rows: int, now: int) -> int:
    """The status of an answer, charged as a server charges it."""
    if client is None or endpoint == "none":
        return 401
    if endpoint == "token":
        return 429 if counters.admit(client.quota_key, now, RateLimit(10, 60)) else 200
    pool = Pool.OTHERS if endpoint == "info" else Pool.LISTS
    return 429 if counters.charge(client.quota_key, now, pool, rows, client.quota) is None else 200


def test_a_record_is_restored_if_it_stays_damaged(path: Path, tmp_path: Path) -> None:
    """One that changes between two looks is being written; and the numbers of clients that are gone are freed."""
    charged(path, 3)
    access = Registered([client_of(QUOTA_KEY, "a", Quota())], Checkpoint(SECRET, 0, bytes(20), 0, bytes(20), True))
    with closing(FileQuotaCounters(path)) as counters:
        recount = Recount(counters, tmp_path / "audit")
        for content in (b"1", b"2"):
            changed(path, QUOTA_KEY.id * RECORD_BYTES + 20, content)
            assert [] == asyncio.run(recount.of_damaged(access, NOON, 0, 0))
        assert QUOTA_KEY.id in counters.damaged()
        changed(path, 9 * RECORD_BYTES + 20, b"x")
        asyncio.run(recount.of_damaged(access, NOON, 0, 0))
        asyncio.run(recount.of_damaged(access, NOON, 0, 0))
        assert {} == counters.damaged()


def test_counters_are_restored_after_all_records_arrived(path: Path, tmp_path: Path) -> None:
    """Records that were made before and not received may be answers of the client whose record is damaged."""
    charged(path, 3)
    access = Registered([client_of(QUOTA_KEY, "a", Quota())], Checkpoint(SECRET, 0, bytes(20), 0, bytes(20), True))
    with closing(FileQuotaCounters(path)) as counters:
        recount = Recount(counters, tmp_path / "audit")
        changed(path, QUOTA_KEY.id * RECORD_BYTES + 20, b"1")
        for made, received in ((7, 4), (7, 4), (8, 6)):
            asyncio.run(recount.of_damaged(access, NOON, made, received))
            assert QUOTA_KEY.id in counters.damaged()
        asyncio.run(recount.of_damaged(access, NOON, 8, 8))
        assert {} == counters.damaged()


class Log:
    """A log in which records are written, with the counters of a store beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "audit"
        self.client = client_of(QUOTA_KEY, "a", Quota(list_calls=10))
        self._audit_log = AuditLog(
            self.folder, Checkpoint(SECRET, 0, bytes(20), 0, bytes(20), True), RotationPolicy(1, 9**9), lambda: NOON
        )

    def answer(self, time: int) -> None:
        """One answer, in a file of its own."""
        self._audit_log.write(
            [
                msgspec.json.encode(
                    AuditRecord(
                        time=time,
                        log_id="x",
                        endpoint="following",
                        status=200,
                        code="ok",
                        microseconds=1,
                        peer="",
                        client="a",
                        rows=1,
                    )
                )
            ]
        )

    def lose(self, since: int, time: int) -> None:
        """A record that says that others are lost."""
        lost = AuditRecord(
            time=time, log_id="", endpoint="keeper", status=0, code="lost", microseconds=0, peer="", since=since
        )
        line, link = line_of(msgspec.json.encode(lost), self._audit_log.written, SECRET, lost=3)
        (self.folder / f"{link.count - 2:015d}.000.jsonl").write_bytes(line)
        self._audit_log.close()
        checkpoint = Checkpoint(SECRET, link.count, link.hash, 0, bytes(20), True)
        self._audit_log = AuditLog(self.folder, checkpoint, RotationPolicy(1, 9**9), lambda: NOON)

    def access(self, *, is_open: bool = False) -> Registered:
        """The store's knowledge of it."""
        last = self._audit_log.written
        return Registered([self.client], Checkpoint(SECRET, last.count, last.hash, 0, bytes(20), is_open))

    def used_after_start(self, counters: FileQuotaCounters, *, is_open: bool = False) -> int:
        """The client's list calls after a start at noon."""
        asyncio.run(Recount(counters, self.folder).at_start(self.access(is_open=is_open), NOON))
        return counters.usage(QUOTA_KEY, NOON).list_calls


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-2, 2), max_size=8))
def test_days_in_any_order_are_all_counted(days: list[int]) -> None:
    """A clock that was put back and forth leaves days in any order; each of today's answers counts."""
    days = [-1, *days] if days else days  # a log does not begin in the middle of a jump
    with TemporaryDirectory() as name:
        log = Log(Path(name))
        for day in days:
            log.answer(NOON + day * DAY_SECONDS)
        with closing(FileQuotaCounters(Path(name) / "quotas")) as counters:
            assert days.count(0) == log.used_after_start(counters)


@pytest.mark.parametrize(("since", "time"), [(-1, 0), (0, 0), (0, 1), (-1, 1), (1, 0), (2, -1)])
def test_lost_records_of_a_day_spend_its_quota(tmp_path: Path, since: int, time: int) -> None:
    """Also if the clock was put back between the last complete second and the record of the loss."""
    log = Log(tmp_path)
    log.lose(NOON + since * DAY_SECONDS, NOON + time * DAY_SECONDS)
    with closing(FileQuotaCounters(tmp_path / "quotas")) as counters:
        assert 10 == log.used_after_start(counters)


def test_an_incompletely_counted_log_spends_the_quota_of_the_day(tmp_path: Path) -> None:
    """Without the counters of audit records no log that was left open is known to be whole."""
    log = Log(tmp_path)
    log.answer(NOON)
    with closing(FileQuotaCounters(tmp_path / "quotas")) as counters:
        assert 10 == log.used_after_start(counters, is_open=True)


def test_an_older_copy_of_the_counters_is_raised_to_the_log(path: Path, tmp_path: Path) -> None:
    """This holds for copies from running and stopped servers; matching counters are left unchanged."""
    log = Log(tmp_path)
    copies = []
    with closing(FileQuotaCounters(path)) as counters:
        assert 0 == log.used_after_start(counters)
        for _ in range(3):
            copies.append(path.read_bytes())
            counters.charge(QUOTA_KEY, NOON, Pool.LISTS, 1, log.client.quota)
            log.answer(NOON)
        counters.set_closed_at(3)
        copies.append(path.read_bytes())
        counters.charge(QUOTA_KEY, NOON, Pool.LISTS, 1, log.client.quota)
        log.answer(NOON)
    for copy in copies:
        path.write_bytes(copy)
        with closing(FileQuotaCounters(path)) as counters:
            assert 4 == log.used_after_start(counters)
            counters.charge(QUOTA_KEY, NOON, Pool.LISTS, 1, log.client.quota)
            assert 5 == log.used_after_start(counters)
            counters.set_closed_at(4)
            log_is_read = log.folder.rename(tmp_path / "away")
            assert 5 == log.used_after_start(counters)
            log_is_read.rename(log.folder)


def test_older_copies_of_counters_and_log_grant_no_quota(path: Path, tmp_path: Path) -> None:
    """The store knows how long the log was; so the day is spent."""
    log = Log(tmp_path)
    with closing(FileQuotaCounters(path)) as counters:
        assert 0 == log.used_after_start(counters)
        log.answer(NOON)
        log.answer(NOON)
        max(log.folder.iterdir()).unlink()
        assert 10 == log.used_after_start(counters)


def test_a_day_far_ahead_is_reported_once() -> None:
    """Tomorrow is none: its first second may be on the way."""
    days = FutureDayWarnings()
    assert [] == days.warnings(0, NOON) == days.warnings(DAY + 1, NOON)
    (told,) = days.warnings(DAY + 365, NOON)
    assert "began 2025-10-04" in told
    assert [] == days.warnings(DAY + 365, NOON)
    assert 1 == len(days.warnings(10**9, NOON))


def test_an_emptied_counter_file_is_refused_while_a_server_runs(path: Path) -> None:
    """Its processes would count from nothing; and a file whose head was changed does not grow by new records."""
    charged(path, 3)
    with closing(FileQuotaCounters(path)) as counters:
        changed(path, 20, b"x")
        with pytest.raises(StoreUnavailable, match="is damaged"):
            counters.charge(QuotaKey(10 * FIRST_RECORDS, 1), NOON, Pool.LISTS, 1, Quota())
        assert 3 == counters.usage(QUOTA_KEY, NOON).list_calls
    path.write_bytes(b"")
    with pytest.raises(StoreError, match="is damaged"):
        FileQuotaCounters(path, creates=False)
    assert b"" == path.read_bytes()


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


def test_an_older_copy_of_the_counters_grants_no_quota_again(store: Path, client: ApiClient) -> None:
    """A copy of a running server's counters, put back after the stop or a kill, has what the log has."""
    quotas = store.with_suffix(".quotas")
    with running_server(store) as server:
        token = token_of(server, client)
        older = quotas.read_bytes()
        assert [200] * 3 == list(itertools.islice(statuses(server, token), 3))
    quotas.write_bytes(older)
    with running_server(store) as server:
        answered = statuses(server, token_of(server, client))
        assert [200, 200, 429] == list(itertools.islice(answered, 3))
        waiting_for(lambda: pages_written(store) == 6)
        for pid in server.processes():
            os.kill(pid, signal.SIGKILL)
    quotas.write_bytes(older)
    with running_server(store) as server:
        assert 429 == next(statuses(server, token_of(server, client)))


@pytest.mark.parametrize("damage", [removed, empty, in_debt])
def test_a_restart_grants_no_quota_again(store: Path, client: ApiClient, damage: Callable[[Path], None]) -> None:
    """Exactly five calls of five a day are answered, whatever happens to the counters."""
    with running_server(store) as server:
        assert [200] * 3 == list(itertools.islice(statuses(server, token_of(server, client)), 3))
    damage(store.with_suffix(".quotas"))

    with running_server(store) as server:
        answered = statuses(server, token_of(server, client))
        assert [200, 200, 429, 429] == list(itertools.islice(answered, 4))


def test_an_unknown_use_counts_as_a_spent_quota(store: Path, client: ApiClient) -> None:
    """Without counters and with an audit log that was changed, all calls of the day are refused."""
    with running_server(store) as server:
        assert 200 == next(statuses(server, token_of(server, client)))
    removed(store.with_suffix(".quotas"))
    (log,) = store.with_suffix(".audit").glob("*.jsonl")
    log.write_bytes(log.read_bytes().replace(b'"status":200', b'"status":201'))

    with running_server(store) as server:
        assert 429 == next(statuses(server, token_of(server, client)))


@pytest.mark.parametrize("workers", [1, 2])
def test_damage_while_a_server_runs_grants_no_quota_again(store: Path, client: ApiClient, workers: int) -> None:
    """The client is refused for a moment, and then has what is left."""
    with running_server(store, "--workers", str(workers)) as server:
        token = token_of(server, client)
        answered = statuses(server, token)
        assert [200] * 3 == list(itertools.islice(answered, 3))
        waiting_for(lambda: pages_written(store) == 3)
        in_debt(store.with_suffix(".quotas"))
        assert 503 == posted(server, FOLLOWING, '{"username":"p"}', token)[0]
        assert [200, 200, 429] == list(itertools.islice(answered, 3))


def test_removed_counters_are_not_recreated_while_a_server_runs(store: Path, client: ApiClient) -> None:
    """The workers that have them open count on in them."""
    with running_server(store) as server:
        answered = statuses(server, token_of(server, client))
        assert [200] * 3 == list(itertools.islice(answered, 3))
        removed(store.with_suffix(".quotas"))
        assert [200, 200, 429] == list(itertools.islice(answered, 3))
        assert not store.with_suffix(".quotas").exists()


def test_commands_report_missing_counters(store: Path, client: ApiClient) -> None:
    """They show no use, say why, and make no file."""
    with running_server(store) as server:
        assert 200 == next(statuses(server, token_of(server, client)))
    removed(store.with_suffix(".quotas"))

    done = retinue("client", "list", "--store", store)

    assert (0, True) == (done.returncode, "graph.quotas is missing: today's usage is not known" in done.stderr)
    assert not store.with_suffix(".quotas").exists()


def test_usage_of_a_changed_log_fails(store: Path, client: ApiClient) -> None:
    """It says that it leaves out what was changed."""
    with running_server(store) as server:
        assert 200 == next(statuses(server, token_of(server, client)))
    (log,) = store.with_suffix(".audit").glob("*.jsonl")
    log.write_bytes(log.read_bytes().replace(b'"status":200', b'"status":201'))

    done = retinue("audit", "usage", "--store", store)

    assert (1, True) == (done.returncode, "changed records are not counted" in done.stderr)
