"""Verification of the audit log by its checkpoint and by signed heads. Writes nothing."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct, field

from retinue.access.contract import Checkpoint
from retinue.audit import trusted_time
from retinue.audit.hash_chain import BrokenChain, ChainHead, stated_head
from retinue.audit.log_files import (
    ChainStep,
    content_of,
    describe_loss,
    first_in,
    follow_retained,
    is_log_file,
    lines_of,
    utc,
)
from retinue.audit.record import AuditRecord
from retinue.audit.record_counters import COUNTERS_NAME, RecordsMade, read_made
from retinue.audit.signed_heads import HeadComparison, SignedHead
from retinue.durable import finished_name

MAX_PROBLEMS = 20

_LOST = b'"lost":'
_SUMMED = b'"summed":'


class VerifyReport(Struct):
    """The result of verification. The log does not mention `missing` of the `lost` records."""

    records: int
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    lost: int = 0
    missing: int = 0
    summed: int = 0


def verify(folder: Path, checkpoint: Checkpoint, heads: Sequence[SignedHead] = ()) -> VerifyReport:
    """Report each change, removal or addition in the log."""
    report, comparison = VerifyReport(0), HeadComparison(heads, checkpoint)
    made = read_made(folder)  # before the log is read, which may grow meanwhile
    report.problems += _foreign_files(folder, checkpoint)
    last = ChainHead(checkpoint.before_count, checkpoint.before_hash)
    matches_checkpoint = checkpoint.count == checkpoint.before_count
    for step in follow_retained(folder, checkpoint):
        last = step.head
        _add_step(report, step, checkpoint)
        comparison.add(step)
        matches_checkpoint = matches_checkpoint or step.head == ChainHead(checkpoint.count, checkpoint.hash)
    _compare_end(report, last, checkpoint, matches_checkpoint=matches_checkpoint)
    _compare_made(report, last, checkpoint, made)
    report.problems += comparison.problems(last)
    report.notes += comparison.notes()
    if report.summed:
        report.notes.append(f"{report.summed} refusals are summed up; the log has no record of each")
    if len(report.problems) > MAX_PROBLEMS:
        report.problems[MAX_PROBLEMS:] = [f"and {len(report.problems) - MAX_PROBLEMS} more"]
    return report


def _foreign_files(folder: Path, checkpoint: Checkpoint) -> Iterator[str]:
    # The file removed last may remain if the server was killed.
    for path in content_of(folder):
        if path.name == COUNTERS_NAME or finished_name(path.name) in trusted_time.FILE_NAMES:
            continue
        if not is_log_file(path):
            yield f"{path.name}: is not a file of the log"
        elif first_in(path) <= checkpoint.before_count and not _ends_before(path, checkpoint):
            yield f"{path.name}: is older than the oldest retained file"


def _ends_before(path: Path, checkpoint: Checkpoint) -> bool:
    last: ChainHead | None = None
    with contextlib.suppress(BrokenChain):
        for line in lines_of([path]):
            last = stated_head(line.content) if line.is_whole else last
    return last == ChainHead(checkpoint.before_count, checkpoint.before_hash)


def _add_step(report: VerifyReport, step: ChainStep, checkpoint: Checkpoint) -> None:
    place = step.line.place
    if step.problem:
        report.problems.append(f"{place}: {step.problem}")
    elif step.is_torn and checkpoint.is_open:
        report.notes.append(f"{place}: the last line is unfinished; the server was killed or its disk was full")
    elif step.is_torn:
        report.problems.append(f"{place}: the last line is unfinished, although the server was stopped in order")
    else:
        report.records += 1
        if _LOST in step.line.content:
            _add_loss(report, step.line.record)
        if _SUMMED in step.line.content:
            report.summed += step.line.record.summed


def _add_loss(report: VerifyReport, record: AuditRecord) -> None:
    if record.lost:
        report.records -= 1
        report.lost += record.lost
        report.losses.append(describe_loss(record.lost, record.since, record.time))


def _compare_end(report: VerifyReport, last: ChainHead, checkpoint: Checkpoint, *, matches_checkpoint: bool) -> None:
    if last.count < checkpoint.count:
        report.problems.append(
            f"the end is missing: the last record is {last.count}, the store knows {checkpoint.count}"
        )
    elif not matches_checkpoint:
        report.problems.append(f"record {checkpoint.count} differs from the one in the store's checkpoint")
    beyond = last.count - checkpoint.count
    if beyond > 0 and checkpoint.is_open:
        report.notes.append(f"{beyond} records since the last checkpoint: the server runs, or was killed")
    elif beyond > 0:
        report.problems.append(f"{beyond} records follow the store's last checkpoint")


def _compare_made(report: VerifyReport, last: ChainHead, checkpoint: Checkpoint, made: RecordsMade | None) -> None:
    if made is None:
        if checkpoint.is_open and checkpoint.count:
            report.notes.append("records may be missing at the end: the file of record counters is missing or damaged")
        return
    report.missing = max(0, made.count - max(last.count, checkpoint.count))
    if checkpoint.is_open and made.summing:
        summing = min(made.summing, report.missing)
        report.missing -= summing
        report.notes.append(f"{summing} refusals are being summed up; they are lost if the server was killed")
    report.lost += report.missing
    if report.missing:
        report.losses.append(
            f"{report.missing} records at least since {utc(made.since)}: either the server runs and could not write "
            "them yet, or its next start records the loss"
        )
