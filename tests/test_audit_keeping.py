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
from support.coordinators import DAY, KEEP, LOG_ID, AuditedStore
from support.frozen_clock import FrozenClock


@pytest.fixture
def audited(tmp_path: Path) -> AuditedStore:
    """A coordinator with a new store."""
    return AuditedStore(tmp_path / "graph.db", FrozenClock())


# Retention


def test_a_clock_jump_removes_nothing_until_confirmed(audited: AuditedStore) -> None:
    """Neither records nor tokens go, also over restarts; with an operator's confirmation both do, and that is told."""
    audited.add_token("t")
    for _ in range(2):
        audited.take(200, 3, client="a")
        audited.clock.advance(2000)
    audited.clock.jump(400 * DAY)
    audited.take(200, 3, client="a")
    audited.apply()
    assert (3, True) == (len(files_of(audited.folder)), audited.has_token("t"))
    audited.finish()
    audited = AuditedStore(Path(audited.store), audited.clock)
    audited.take(200, client="a")
    audited.apply()
    assert (4, True) == (len(files_of(audited.folder)), audited.has_token("t"))
    assert 400 * DAY == audited.retention.trusted.doubted()

    audited.time_files.confirmed.write(audited.clock.now())
    audited.apply()

    assert (3, False) == (len(files_of(audited.folder)), audited.has_token("t"))
    found = audited.verified()
    assert ([], 0) == (found.problems, found.lost)
    assert "records 1 to 3 were removed for their age; last, at 2024-12-18T" in found.notes[0]
    assert "records 1 to 3, 2023-11-14T22:13:20Z to 2023-11-14T22:13:20Z" in found.notes[0]
    assert audited.finish()
    assert 0 == retinue("audit", "verify", "--store", audited.store).returncode


def test_old_files_and_tokens_expire_when_both_clocks_advance(audited: AuditedStore) -> None:
    """Each removal has its record in the chain, which names the file's records and the hash of the last."""
    audited.add_token("t")
    audited.take(200, 3, client="a")
    audited.clock.advance(2000)
    audited.take(200, client="a")
    expected = json.loads(files_of(audited.folder)[0].read_text().splitlines()[-1])
    audited.clock.advance(KEEP)
    audited.apply()

    assert not audited.has_token("t")
    (removal,) = [json.loads(line) for line in files_of(audited.folder)[-1].read_text().splitlines()]
    assert {"first": 1, "last": 3, "hash": expected["hash"]}.items() <= removal["removed"].items()
    assert (1, 3) == (audited.verified().records - 1, audited.checkpoint.before_count)
    assert [1] == [row.requests for row in usage_of(records_of(audited.folder, audited.checkpoint))]
    assert audited.finish()


def test_an_interrupted_removal_is_not_reported_as_tampering(audited: AuditedStore) -> None:
    """A removal may be interrupted after its record, or after the store knows of it."""
    audited.take(200, 3, client="a")
    audited.clock.advance(2000)
    audited.take(200, client="a")
    audited.settle()
    (old, _), before = files_of(audited.folder), audited.checkpoint
    content = old.read_bytes()
    audited.clock.advance(KEEP)
    audited.apply()
    after = audited.checkpoint
    old.write_bytes(content)

    assert [] == verify(audited.folder, after).problems
    assert [] == verify(audited.folder, before).problems


def test_concurrent_settling_and_removal_do_not_undo_each_other(audited: AuditedStore) -> None:
    """The store never hears again of a beginning that was given up."""
    for _ in range(6):
        audited.take(200, client="a")
        audited.clock.advance(2000)
    audited.clock.advance(KEEP)
    audited.take(200, client="a")

    async def both() -> None:
        await asyncio.gather(audited.retention.apply(), *(audited.audit.settle() for _ in range(20)))

    asyncio.run(both())

    assert ([], 5) == (audited.verified().problems, audited.checkpoint.before_count)


def test_retention_works_if_the_time_cannot_be_saved(audited: AuditedStore, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, removal goes on, and the time is saved once that is possible."""
    audited.add_token("t")
    audited.clock.advance(KEEP)
    audited.time_files.trusted.path.unlink()
    audited.time_files.trusted.path.mkdir()
    audited.apply()
    assert not audited.has_token("t")
    assert "the trusted time cannot be saved" in caplog.text
    assert not audited.time_files.trusted.path.is_file()

    audited.time_files.trusted.path.rmdir()
    audited.apply()
    assert audited.time_files.trusted.path.is_file()
    assert audited.finish()


# Sums of refusals


def test_a_flood_of_refusals_is_summarized_and_fully_counted(audited: AuditedStore) -> None:
    """The log has few lines; `usage` and the chain have the exact number; `verify` and `show` name the summaries."""
    for _ in range(100):
        audited.take(401, 100)
        audited.take(200, client="a")
    audited.clock.advance(WINDOW_SECONDS)
    audited.settle()
    lines = sum(path.read_bytes().count(b"\n") for path in files_of(audited.folder))
    assert BURST + 100 + 1 == lines
    assert 10_000 - BURST == audited.audit.sums.total
    found = audited.verified()
    assert (10_100, 0, []) == (found.records + found.summed - 1, found.lost, found.problems)
    assert audited.checkpoint.count == 10_100
    assert audited.finish()

    shown = retinue("audit", "usage", "--store", audited.store, "--json")
    assert {"": 10_000, "a": 100} == {row["client"]: row["requests"] for row in json.loads(shown.stdout)}
    told = retinue("audit", "verify", "--store", audited.store)
    assert (0, True) == (told.returncode, "9400 refusals are summed up" in told.stdout), told.stdout
    shown = retinue("audit", "show", LOG_ID[:-1] + "A", "--store", audited.store)
    assert (0, 9400) == (shown.returncode, json.loads(shown.stdout)["summed"])
    assert "refusals of its second are summed up" in shown.stderr
    assert 2 == retinue("audit", "show", "2" + LOG_ID, "--store", audited.store).returncode


def test_summaries_lost_by_a_kill_are_counted(audited: AuditedStore) -> None:
    """While they grow they are no loss; after a kill the next start writes their number into the chain."""
    audited.take(401, BURST + 50)
    audited.settle()
    found = audited.verified()
    assert (0, 0, []) == (found.missing, found.lost, found.problems)
    assert "50 refusals are being summed up; they are lost if the server was killed" in found.notes
    os.close(audited.audit_log._lock)  # the kernel does so at a kill
    audited.access.close()

    audited = AuditedStore(Path(audited.store), audited.clock)
    audited.settle()

    assert (50, 0) == (audited.verified().lost, audited.verified().missing)
    assert audited.finish()


# The bound


def test_a_full_log_stops_requests_and_loses_nothing(tmp_path: Path) -> None:
    """The last batch is written; the next has to wait until retention, or an operator, has made room."""
    clock = FrozenClock()
    audited = AuditedStore(tmp_path / "graph.db", clock, max_bytes=40_000)
    audited.take(200, 100, client="a")
    clock.advance(2000)
    with pytest.raises(OSError, match="--audit-max-mib"):
        audited.take(200, 100, client="a")
    was_full = audited.audit.is_full
    assert was_full
    assert audited.audit.monitor.space.is_exhausted
    with pytest.raises(OSError, match="--audit-max-mib"):
        audited.audit.flush()
    audited.settle()
    assert ([], audited.worker.made) == (audited.verified().problems, audited.checkpoint.count)
    clock.advance(KEEP)
    audited.apply()
    audited.audit.flush()
    audited.take(200, 1, client="a")
    assert not audited.audit.is_full
    assert audited.finish()


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


def test_a_shortage_is_logged_once(audited: AuditedStore, caplog: pytest.LogCaptureFixture) -> None:
    """And again after there was room in between."""
    with closing(audited.access):
        room = SpaceMonitor(audited.folder, 100)
        for size in (0, 90, 90, 0, 90):
            (audited.folder / f"{1:015d}.000.jsonl").write_bytes(b"x" * size)
            room.update(0)
    assert 2 == caplog.text.count("the audit log has")
