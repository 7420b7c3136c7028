"""Damaged quota counters are refused, and no daily quota is granted twice."""

import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from retinue.errors import StoreError, StoreUnavailable
from retinue.model import Pool, Quota, QuotaKey, RateLimit, Usage
from retinue.quota.counter_file import FIRST_RECORDS, RECORD_BYTES
from retinue.quota.counters import DAY_SECONDS, Counted
from retinue.quota.file_counters import FileQuotaCounters
from support.counter_files import CALLS, DAY, NOON, QUOTA_KEY, charge, overwrite
from support.thorough import examples


@settings(max_examples=examples(300), deadline=None)
@given(st.integers(0, RECORD_BYTES - 1), st.binary(min_size=1, max_size=16))
def test_a_changed_counter_record_grants_no_quota(offset: int, content: bytes) -> None:
    """The client of a changed record is refused, or has exactly its former use."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "graph.quotas"
        limited = Quota(list_calls=CALLS, rate=RateLimit(CALLS, 60))
        charge(path, 3, limited)
        overwrite(path, QUOTA_KEY.id * RECORD_BYTES + offset, content[: RECORD_BYTES - offset])
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
    overwrite(path, QUOTA_KEY.id * RECORD_BYTES, bytes(RECORD_BYTES))


def negative(path: Path) -> None:
    """Counts below nothing, as they would stand in the file."""
    overwrite(path, QUOTA_KEY.id * RECORD_BYTES + 16, struct.pack("<3q", -(10**9), -(10**9), -(10**9)))


def another_day(path: Path) -> None:
    """The day before."""
    overwrite(path, QUOTA_KEY.id * RECORD_BYTES + 8, struct.pack("<q", DAY - 1))


def another_record(path: Path) -> None:
    """The record of another client."""
    content = path.read_bytes()
    overwrite(
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
def test_damaged_counters_are_refused(counters_path: Path, damage: Callable[[Path], None]) -> None:
    """Every way of counting and looking names the file; other clients are served."""
    charge(counters_path, 3)
    damage(counters_path)
    with closing(FileQuotaCounters(counters_path)) as counters:
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


def test_only_records_that_were_changed_are_damaged(counters_path: Path) -> None:
    """None is in a new file, none in one that has grown."""
    charge(counters_path, 1)
    with closing(FileQuotaCounters(counters_path)) as counters:
        counters.charge(QuotaKey(10 * FIRST_RECORDS, 1), NOON, Pool.LISTS, 1, Quota())
        assert {} == counters.damaged()
        negative(counters_path)
        assert [QUOTA_KEY.id] == list(counters.damaged())


def test_a_symbolic_link_is_refused_as_a_counter_file(counters_path: Path, tmp_path: Path) -> None:
    """They would lie where it leads, which may be anywhere."""
    counters_path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="cannot be stored here"):
        FileQuotaCounters(counters_path)
    assert not (tmp_path / "elsewhere").exists()


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


def test_an_emptied_counter_file_is_refused_while_a_server_runs(counters_path: Path) -> None:
    """Its processes would count from nothing; and a file whose head was changed does not grow by new records."""
    charge(counters_path, 3)
    with closing(FileQuotaCounters(counters_path)) as counters:
        overwrite(counters_path, 20, b"x")
        with pytest.raises(StoreUnavailable, match="is damaged"):
            counters.charge(QuotaKey(10 * FIRST_RECORDS, 1), NOON, Pool.LISTS, 1, Quota())
        assert 3 == counters.usage(QUOTA_KEY, NOON).list_calls
    counters_path.write_bytes(b"")
    with pytest.raises(StoreError, match="is damaged"):
        FileQuotaCounters(counters_path, creates=False)
    assert b"" == counters_path.read_bytes()
