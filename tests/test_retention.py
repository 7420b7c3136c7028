"""Removal of what is too old, and which clocks have to agree on that."""

import json
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retinue.audit.log import AuditLog, RotationPolicy
from retinue.audit.log_files import files_of
from retinue.audit.record import AuditRecord
from retinue.audit.retention import oldest_expired, time_without_jumps
from retinue.audit.trusted_time import SLACK_SECONDS, TimeFiles, TrustedTime
from support.audit_logs import new_checkpoint
from support.frozen_clock import FrozenClock

DAY = 86_400
YEARS = 10 * 366 * DAY
SECRET = bytes(range(32))


@pytest.fixture
def files(tmp_path: Path) -> TimeFiles:
    """The files of a store's trusted time."""
    return TimeFiles(tmp_path, SECRET)


def started(files: TimeFiles, clock: FrozenClock, newest_record: int | None = None) -> TrustedTime:
    """The trusted time of a server that just started."""
    return TrustedTime(files, clock, lambda: newest_record)


# Two clocks


@given(st.lists(st.tuples(st.sampled_from(["pass", "jump"]), st.integers(-YEARS, YEARS)), max_size=12))
def test_time_on_one_clock_alone_is_not_trusted(changes: list[tuple[str, int]]) -> None:
    """For every course of two clocks in one process, trusted time is behind both and exact if they agree."""
    clock = FrozenClock()
    files = TimeFiles(Path("/nonexistent"), SECRET)
    trusted, begun, passed = started(files, clock), clock.now(), 0
    has_jumped = False
    for kind, seconds in changes:
        if kind == "jump":
            clock.jump(seconds)
            has_jumped = True
        else:
            clock.advance(abs(seconds))
            passed += abs(seconds)
        assert trusted.now() == min(clock.now(), begun + passed)
        assert has_jumped or trusted.now() == clock.now()
        ahead = clock.now() - begun - passed
        assert trusted.doubted() == (ahead if ahead > SLACK_SECONDS else 0)


@pytest.mark.parametrize("gap", [0, 60, SLACK_SECONDS, SLACK_SECONDS + 1, YEARS])
def test_a_restart_adds_at_most_a_day(files: TimeFiles, gap: int) -> None:
    """After a longer stop, which a jump of the clock looks like, time goes on from where it was."""
    clock = FrozenClock()
    started(files, clock).update()
    before = clock.now()
    clock.jump(gap)
    after = started(files, clock, newest_record=clock.now())  # records that were made since do not matter

    assert after.now() == (clock.now() if gap <= SLACK_SECONDS else before)
    assert after.doubted() == (0 if gap <= SLACK_SECONDS else gap)
    clock.advance(1000)
    assert after.now() == (clock.now() if gap <= SLACK_SECONDS else before + 1000)


def test_restarts_do_not_make_a_wrong_clock_right(files: TimeFiles) -> None:
    """A server destroys nothing early if it is restarted while its clock is wrong, or after it was put right."""
    clock = FrozenClock()
    right = started(files, clock)
    right.update()
    begun = clock.now()
    clock.jump(YEARS)
    right.update()
    for restart in range(5):
        again = started(files, clock, newest_record=clock.now())
        again.update()
        clock.advance(3600)
        again.update()
        assert again.now() == begun + 3600 * (restart + 1)
    clock.jump(-YEARS)
    last = started(files, clock)
    assert (clock.now(), 0) == (last.now(), last.doubted())


def test_an_operator_confirms_a_clock(files: TimeFiles, caplog: pytest.LogCaptureFixture) -> None:
    """A running server takes it; a confirmation of another time is ignored, and each counts once."""
    clock = FrozenClock()
    trusted = started(files, clock)
    trusted.update()
    clock.jump(YEARS)
    trusted.update()
    assert "retinue audit confirm-clock" in caplog.text
    files.confirmed.write(clock.now() - YEARS)
    trusted.update()
    assert YEARS == trusted.doubted()
    files.confirmed.write(clock.now())
    trusted.update()
    assert (clock.now(), 0) == (trusted.now(), trusted.doubted())
    assert (clock.now(), 0) == (started(files, clock).now(), started(files, clock).doubted())
    clock.jump(YEARS)
    trusted.update()
    assert YEARS == trusted.doubted()
    assert ["clock"] == [path.name for path in files.trusted.path.parent.iterdir()]
    assert 0o600 == files.trusted.path.stat().st_mode & 0o777


def test_a_changed_time_file_is_not_trusted(files: TimeFiles) -> None:
    """After any change of a byte, with another secret, or with the other file's content, the newest record counts."""
    clock = FrozenClock()
    begun = clock.now()
    started(files, clock).update()
    content = files.trusted.path.read_bytes()
    clock.jump(YEARS)
    files.confirmed.write(clock.now())
    forged = [files.confirmed.path.read_bytes(), b"", b"\xff", content[:-4], b"[]"]
    forged += [content[:place] + b"7" + content[place + 1 :] for place in range(len(content) - 1)]
    files.confirmed.path.unlink()
    for each in forged:
        files.trusted.path.write_bytes(each)
        after = started(files, clock, newest_record=begun + 5)
        assert after.now() == (begun if each == content else begun + 5), each
    assert started(TimeFiles(files.folder, bytes(32)), clock, begun + 5).now() == begun + 5
    files.trusted.path.unlink()
    assert started(files, clock, begun + 5).now() == begun + 5
    assert started(files, clock).now() == clock.now()  # a new store has nothing that could be destroyed


# Which file may go


def log_of(folder: Path, files_times: list[list[int]]) -> None:
    """A log with a file for each list, whose records have these times."""
    checkpoint = new_checkpoint()
    for times in files_times:
        with closing(AuditLog(folder, checkpoint, RotationPolicy(2**30, 2**30), lambda: 0)) as audit_log:
            audit_log.write(
                [
                    msgspec.json.encode(
                        AuditRecord(
                            time=time,
                            log_id="L",
                            endpoint="following",
                            status=200,
                            code="ok",
                            microseconds=1,
                            peer="::1",
                        )
                    )
                    for time in times
                ]
            )
            checkpoint = msgspec.structs.replace(checkpoint, count=audit_log.written.count, hash=audit_log.written.hash)


NOW = 1_700_000_000
OLD, NEW, AHEAD, DEAD = NOW - 400 * DAY, NOW - DAY, NOW + YEARS, 86_400


@pytest.mark.parametrize(
    ("times", "is_removable"),
    [
        ([[OLD, OLD + 5], [OLD + 9], [NEW]], True),
        ([[OLD], [NEW]], False),  # its end is not known to be old
        ([[OLD, NEW], [OLD + 9], [NEW]], False),  # the clock was put back
        ([[NEW], [DEAD], [NEW]], False),  # the machine started without a clock
        ([[NEW], [DEAD]], False),
        ([[DEAD], [DEAD], [NEW]], False),
        ([[OLD, AHEAD], [OLD + 9], [NEW]], True),  # a clock that was ahead keeps nothing longer
        ([[OLD, AHEAD], [AHEAD], [OLD + 9], [NEW]], True),
        ([[NEW, AHEAD], [AHEAD]], False),
        ([[OLD]], False),  # the newest file stays
        ([[AHEAD], [OLD], [NEW]], True),
    ],
)
def test_a_file_is_as_old_as_its_newest_credible_time(
    tmp_path: Path, times: list[list[int]], is_removable: bool
) -> None:
    """A wrong clock neither removes a file early nor keeps it without end."""
    log_of(tmp_path, times)

    found = oldest_expired(tmp_path, NOW, 365 * DAY)

    assert is_removable == (found is not None)
    if found is not None:
        assert found.content is not None
        lines = [json.loads(line) for line in files_of(tmp_path)[0].read_text().splitlines()]
        assert (1, lines[-1]["n"], lines[-1]["hash"]) == (found.content.first, found.content.last, found.content.hash)
        assert (min(times[0]), max(times[0])) == (found.content.oldest, found.content.newest)


@given(st.lists(st.integers(-YEARS, YEARS) | st.integers(0, SLACK_SECONDS + 1), max_size=12))
def test_a_jump_of_the_clock_in_the_log_does_not_count(steps: list[int]) -> None:
    """Without a saved time the log says how far time went: by steps of a day at most."""
    times, reached = [NEW], NEW
    for step in steps:
        times.append(times[-1] + step)
        reached += times[-1] - reached if 0 < times[-1] - reached <= SLACK_SECONDS else 0
    with TemporaryDirectory() as name:
        assert time_without_jumps(Path(name)) is None
        kept = [max(0, time) for time in times]
        log_of(Path(name), [part for part in (kept[:3], kept[3:]) if part])
        assert reached == time_without_jumps(Path(name))


def test_a_wrong_clock_removes_nothing_without_its_file(tmp_path: Path) -> None:
    """A log that was written under a clock years ahead does not make that clock right."""
    log_of(tmp_path, [[NEW], [NEW + 5], [NEW + YEARS]])
    clock = FrozenClock(NEW + YEARS + 60)
    trusted = TrustedTime(TimeFiles(tmp_path, SECRET), clock, lambda: time_without_jumps(tmp_path))
    assert NEW + 5 == trusted.now()
    assert trusted.doubted()
    assert oldest_expired(tmp_path, trusted.now(), 30 * DAY) is None


def test_damaged_files_stay(tmp_path: Path) -> None:
    """A file that is not as it was written is for those who will look into that."""
    log_of(tmp_path, [[OLD, OLD], [OLD], [NEW]])
    path = files_of(tmp_path)[0]
    content = path.read_bytes()
    for damaged in (content.replace(b'"n":2', b'"n":x'), content.replace(b'"time":', b'"tame":'), b"\xff\n" + content):
        path.write_bytes(damaged)
        assert oldest_expired(tmp_path, NOW, 365 * DAY) is None
    path.write_bytes(content)
    assert oldest_expired(tmp_path, NOW, 365 * DAY) is not None
