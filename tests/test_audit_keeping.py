"""The coordinator's side of the audit log: retention, summaries and bounds, on a real store."""

import asyncio
import json
import os
from contextlib import closing
from pathlib import Path

import pytest

from retinue.audit.log_files import files_of, records_of
from retinue.audit.refusals import BURST, WINDOW_SECONDS
from retinue.audit.space import MAX_COUNTED_DISK_BYTES, LogSpace, SpaceMonitor
from retinue.audit.usage import usage_of
from retinue.audit.verify import verify
from support.commands import retinue
from support.coordinators import DAY, KEEP, LOG_ID, House
from support.frozen_clock import FrozenClock


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A coordinator with a new store."""
    return House(tmp_path / "graph.db", FrozenClock())


# Retention


def test_a_clock_jump_removes_nothing_until_confirmed(house: House) -> None:
    """Neither records nor tokens go, also over restarts; with an operator's confirmation both do, and that is told."""
    house.add_token("t")
    for _ in range(2):
        house.take(200, 3, client="a")
        house.clock.advance(2000)
    house.clock.jump(400 * DAY)
    house.take(200, 3, client="a")
    house.apply()
    assert (3, True) == (len(files_of(house.folder)), house.has_token("t"))
    house.finish()
    house = House(Path(house.store), house.clock)
    house.take(200, client="a")
    house.apply()
    assert (4, True) == (len(files_of(house.folder)), house.has_token("t"))
    assert 400 * DAY == house.retention.trusted.doubted()

    house.time_files.confirmed.write(house.clock.now())
    house.apply()

    assert (3, False) == (len(files_of(house.folder)), house.has_token("t"))
    found = house.verified()
    assert ([], 0) == (found.problems, found.lost)
    assert "records 1 to 3 were removed for their age; last, at 2024-12-18T" in found.notes[0]
    assert "records 1 to 3, 2023-11-14T22:13:20Z to 2023-11-14T22:13:20Z" in found.notes[0]
    assert house.finish()
    assert 0 == retinue("audit", "verify", "--store", house.store).returncode


def test_old_files_and_tokens_expire_when_both_clocks_advance(house: House) -> None:
    """Each removal has its record in the chain, which names the file's records and the hash of the last."""
    house.add_token("t")
    house.take(200, 3, client="a")
    house.clock.advance(2000)
    house.take(200, client="a")
    expected = json.loads(files_of(house.folder)[0].read_text().splitlines()[-1])
    house.clock.advance(KEEP)
    house.apply()

    assert not house.has_token("t")
    (removal,) = [json.loads(line) for line in files_of(house.folder)[-1].read_text().splitlines()]
    assert {"first": 1, "last": 3, "hash": expected["hash"]}.items() <= removal["removed"].items()
    assert (1, 3) == (house.verified().records - 1, house.checkpoint.before_count)
    assert [1] == [row.requests for row in usage_of(records_of(house.folder, house.checkpoint))]
    assert house.finish()


def test_an_interrupted_removal_is_not_reported_as_tampering(house: House) -> None:
    """A removal may be interrupted after its record, or after the store knows of it."""
    house.take(200, 3, client="a")
    house.clock.advance(2000)
    house.take(200, client="a")
    house.settle()
    (old, _), before = files_of(house.folder), house.checkpoint
    content = old.read_bytes()
    house.clock.advance(KEEP)
    house.apply()
    after = house.checkpoint
    old.write_bytes(content)

    assert [] == verify(house.folder, after).problems
    assert [] == verify(house.folder, before).problems


def test_concurrent_settling_and_removal_do_not_undo_each_other(house: House) -> None:
    """The store never hears again of a beginning that was given up."""
    for _ in range(6):
        house.take(200, client="a")
        house.clock.advance(2000)
    house.clock.advance(KEEP)
    house.take(200, client="a")

    async def both() -> None:
        await asyncio.gather(house.retention.apply(), *(house.audit.settle() for _ in range(20)))

    asyncio.run(both())

    assert ([], 5) == (house.verified().problems, house.checkpoint.before_count)


def test_retention_works_if_the_time_cannot_be_saved(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, removal goes on, and the time is saved once that is possible."""
    house.add_token("t")
    house.clock.advance(KEEP)
    house.time_files.trusted.path.unlink()
    house.time_files.trusted.path.mkdir()
    house.apply()
    assert not house.has_token("t")
    assert "the trusted time cannot be saved" in caplog.text
    assert not house.time_files.trusted.path.is_file()

    house.time_files.trusted.path.rmdir()
    house.apply()
    assert house.time_files.trusted.path.is_file()
    assert house.finish()


# Sums of refusals


def test_a_flood_of_refusals_is_summarized_and_fully_counted(house: House) -> None:
    """The log has few lines; `usage` and the chain have the exact number; `verify` and `show` name the summaries."""
    for _ in range(100):
        house.take(401, 100)
        house.take(200, client="a")
    house.clock.advance(WINDOW_SECONDS)
    house.settle()
    lines = sum(path.read_bytes().count(b"\n") for path in files_of(house.folder))
    assert BURST + 100 + 1 == lines
    assert 10_000 - BURST == house.audit.sums.total
    found = house.verified()
    assert (10_100, 0, []) == (found.records + found.summed - 1, found.lost, found.problems)
    assert house.checkpoint.count == 10_100
    assert house.finish()

    shown = retinue("audit", "usage", "--store", house.store, "--json")
    assert {"": 10_000, "a": 100} == {row["client"]: row["requests"] for row in json.loads(shown.stdout)}
    told = retinue("audit", "verify", "--store", house.store)
    assert (0, True) == (told.returncode, "9400 refusals are summed up" in told.stdout), told.stdout
    shown = retinue("audit", "show", LOG_ID[:-1] + "A", "--store", house.store)
    assert (0, 9400) == (shown.returncode, json.loads(shown.stdout)["summed"])
    assert "refusals of its second are summed up" in shown.stderr
    assert 2 == retinue("audit", "show", "2" + LOG_ID, "--store", house.store).returncode


def test_summaries_lost_by_a_kill_are_counted(house: House) -> None:
    """While they grow they are no loss; after a kill the next start writes their number into the chain."""
    house.take(401, BURST + 50)
    house.settle()
    found = house.verified()
    assert (0, 0, []) == (found.missing, found.lost, found.problems)
    assert "50 refusals are being summed up; they are lost if the server was killed" in found.notes
    os.close(house.audit_log._lock)  # the kernel does so at a kill
    house.access.close()

    house = House(Path(house.store), house.clock)
    house.settle()

    assert (50, 0) == (house.verified().lost, house.verified().missing)
    assert house.finish()


# The bound


def test_a_full_log_stops_requests_and_loses_nothing(tmp_path: Path) -> None:
    """The last batch is written; the next has to wait until retention, or an operator, has made room."""
    clock = FrozenClock()
    house = House(tmp_path / "graph.db", clock, max_bytes=40_000)
    house.take(200, 100, client="a")
    clock.advance(2000)
    with pytest.raises(OSError, match="--audit-max-mib"):
        house.take(200, 100, client="a")
    was_full = house.audit.is_full
    assert was_full
    assert house.audit.monitor.space.is_exhausted
    with pytest.raises(OSError, match="--audit-max-mib"):
        house.audit.flush()
    house.settle()
    assert ([], house.worker.made) == (house.verified().problems, house.checkpoint.count)
    clock.advance(KEEP)
    house.apply()
    house.audit.flush()
    house.take(200, 1, client="a")
    assert not house.audit.is_full
    assert house.finish()


@pytest.mark.parametrize(
    ("space", "warning", "is_critical"),
    [
        (LogSpace(0, 0, 2**40, 2**42), "", False),
        (LogSpace(800, 1000, 2**40, 2**42), "at most", False),
        (LogSpace(799, 1000, 2**40, 2**42), "", False),
        (LogSpace(950, 1000, 2**40, 2**42), "at most", True),
        (LogSpace(2**50, 0, MAX_COUNTED_DISK_BYTES // 5, 2**42), "disk", False),
        (LogSpace(0, 0, MAX_COUNTED_DISK_BYTES // 20, 2**42), "disk", True),
        (LogSpace(0, 0, 2**20, 2**21), "", False),  # a small disk, half full
        (LogSpace(0, 0, 2**16, 2**21), "disk", True),
    ],
)
def test_a_shortage_of_space_is_reported_before_it_is_used_up(space: LogSpace, warning: str, is_critical: bool) -> None:
    """Both of the bound and of the disk, first as a warning, then as a reason not to be ready."""
    assert (bool(warning), is_critical) == (bool(space.warning), space.is_critical)
    assert warning in space.warning


def test_a_shortage_is_logged_once(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """And again after there was room in between."""
    with closing(house.access):
        room = SpaceMonitor(house.folder, 100)
        for size in (0, 90, 90, 0, 90):
            (house.folder / f"{1:015d}.000.jsonl").write_bytes(b"x" * size)
            room.update(0)
    assert 2 == caplog.text.count("the audit log has")
