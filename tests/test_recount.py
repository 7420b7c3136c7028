"""Lost or damaged quota counters are counted again from the audit log."""

import asyncio
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from retinue.access.contract import Checkpoint
from retinue.audit.hash_chain import line_of
from retinue.audit.log import AuditLog, RotationPolicy
from retinue.audit.record import AuditRecord
from retinue.audit.recount import FutureDayWarnings, Recount
from retinue.model import Pool, Quota, QuotaKey, RateLimit, RegisteredClient
from retinue.quota.counter_file import RECORD_BYTES
from retinue.quota.counters import DAY_SECONDS
from retinue.quota.file_counters import FileQuotaCounters
from support.counter_files import DAY, NOON, QUOTA_KEY, charge, overwrite
from support.thorough import examples

SECRET = b"s" * 32


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


@settings(max_examples=examples(60), deadline=None)
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


def test_a_record_is_restored_if_it_stays_damaged(counters_path: Path, tmp_path: Path) -> None:
    """One that changes between two looks is being written; and the numbers of clients that are gone are freed."""
    charge(counters_path, 3)
    access = Registered([client_of(QUOTA_KEY, "a", Quota())], Checkpoint(SECRET, 0, bytes(20), 0, bytes(20), True))
    with closing(FileQuotaCounters(counters_path)) as counters:
        recount = Recount(counters, tmp_path / "audit")
        for content in (b"1", b"2"):
            overwrite(counters_path, QUOTA_KEY.id * RECORD_BYTES + 20, content)
            assert [] == asyncio.run(recount.of_damaged(access, NOON, 0, 0))
        assert QUOTA_KEY.id in counters.damaged()
        overwrite(counters_path, 9 * RECORD_BYTES + 20, b"x")
        asyncio.run(recount.of_damaged(access, NOON, 0, 0))
        asyncio.run(recount.of_damaged(access, NOON, 0, 0))
        assert {} == counters.damaged()


def test_counters_are_restored_after_all_records_arrived(counters_path: Path, tmp_path: Path) -> None:
    """Records that were made before and not received may be answers of the client whose record is damaged."""
    charge(counters_path, 3)
    access = Registered([client_of(QUOTA_KEY, "a", Quota())], Checkpoint(SECRET, 0, bytes(20), 0, bytes(20), True))
    with closing(FileQuotaCounters(counters_path)) as counters:
        recount = Recount(counters, tmp_path / "audit")
        overwrite(counters_path, QUOTA_KEY.id * RECORD_BYTES + 20, b"1")
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
            time=time, log_id="", endpoint="coordinator", status=0, code="lost", microseconds=0, peer="", since=since
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


@settings(max_examples=examples(100), deadline=None)
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


def test_an_older_copy_of_the_counters_is_raised_to_the_log(counters_path: Path, tmp_path: Path) -> None:
    """This holds for copies from running and stopped servers; matching counters are left unchanged."""
    log = Log(tmp_path)
    copies = []
    with closing(FileQuotaCounters(counters_path)) as counters:
        assert 0 == log.used_after_start(counters)
        for _ in range(3):
            copies.append(counters_path.read_bytes())
            counters.charge(QUOTA_KEY, NOON, Pool.LISTS, 1, log.client.quota)
            log.answer(NOON)
        counters.set_closed_at(3)
        copies.append(counters_path.read_bytes())
        counters.charge(QUOTA_KEY, NOON, Pool.LISTS, 1, log.client.quota)
        log.answer(NOON)
    for copy in copies:
        counters_path.write_bytes(copy)
        with closing(FileQuotaCounters(counters_path)) as counters:
            assert 4 == log.used_after_start(counters)
            counters.charge(QUOTA_KEY, NOON, Pool.LISTS, 1, log.client.quota)
            assert 5 == log.used_after_start(counters)
            counters.set_closed_at(4)
            log_is_read = log.folder.rename(tmp_path / "away")
            assert 5 == log.used_after_start(counters)
            log_is_read.rename(log.folder)


def test_older_copies_of_counters_and_log_grant_no_quota(counters_path: Path, tmp_path: Path) -> None:
    """The store knows how long the log was; so the day is spent."""
    log = Log(tmp_path)
    with closing(FileQuotaCounters(counters_path)) as counters:
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
