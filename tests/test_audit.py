"""The audit log: recorded requests, the hash chain, and how tampering is found."""

import asyncio
import json
import random
import resource
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from retinue.access.contract import Checkpoint
from retinue.audit.hash_chain import BEGINNING, BrokenChain, ChainHead, line_of, next_head
from retinue.audit.log import AuditLog, RotationPolicy
from retinue.audit.log_files import files_of, records_of, without_oldest
from retinue.audit.record import name_hmac
from retinue.audit.retention import oldest_expired
from retinue.audit.verify import VerifyReport, verify
from retinue.errors import StoreError
from retinue.model import ErasureEvent, Visibility
from support.audit_logs import BIG, SECRET, checkpoint_after, new_checkpoint, record, written
from support.frozen_clock import FrozenClock
from support.service import FOLLOWERS, FOLLOWING, INFO, TOKEN, Service

if TYPE_CHECKING:
    import httpx

REVOKE = "/v2/oauth/revoke/"


# The chain


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.text(), min_size=1), max_size=8), st.data())
def test_a_line_is_valid_at_one_position_only(records: list[dict[str, str]], data: st.DataObject) -> None:
    """Every line follows the one before it, and no other line and no other secret fits there."""
    link, lines = BEGINNING, []
    for each in records:
        line, after = line_of(json.dumps(each).encode(), link, SECRET)
        assert after == next_head(line.removesuffix(b"\n"), link, SECRET)
        assert each.items() <= json.loads(line).items()
        with pytest.raises(BrokenChain):
            next_head(line.removesuffix(b"\n"), link, bytes(32))
        lines.append((line, link))
        link = after
    if len(lines) > 1:
        one, other = data.draw(st.permutations(range(len(lines))))[:2]
        with pytest.raises(BrokenChain):
            next_head(lines[one][0].removesuffix(b"\n"), lines[other][1], SECRET)


# Verification


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Checkpoint]:
    """A log of forty records in four files, closed in order."""
    folder = tmp_path_factory.mktemp("log") / "audit"
    checkpoint = written(folder, [10, 12, 1, 17])
    assert VerifyReport(40, [], []) == verify(folder, checkpoint)
    assert 4 == len(files_of(folder))
    return folder, checkpoint


@contextmanager
def touched(path: Path, content: bytes) -> Iterator[None]:
    """A file with other content for a while."""
    before = path.read_bytes()
    path.write_bytes(content)
    yield
    path.write_bytes(before)


def test_every_one_of_a_thousand_changes_is_found(log: tuple[Path, Checkpoint]) -> None:
    """Any byte anywhere, changed to any other: newlines, numbers, hashes and all."""
    folder, checkpoint = log
    draw = random.Random(1)
    for _ in range(1000):
        path = draw.choice(files_of(folder))
        content = bytearray(path.read_bytes())
        place = draw.randrange(len(content))
        content[place] = draw.choice([byte for byte in range(256) if byte != content[place]])
        with touched(path, bytes(content)):
            assert verify(folder, checkpoint).problems, (path.name, place)


@pytest.mark.parametrize("is_open", [False, True])
def test_every_removal_is_found(log: tuple[Path, Checkpoint], is_open: bool) -> None:
    """Each record alone, each first and each last part, each whole file; also while a server runs."""
    folder, checkpoint = log
    checkpoint = replace(checkpoint, is_open=is_open)
    for path in files_of(folder):
        lines = path.read_bytes().splitlines(keepends=True)
        for number in range(len(lines)):
            for rest in (lines[:number] + lines[number + 1 :], lines[:number], lines[number + 1 :]):
                with touched(path, b"".join(rest)):
                    assert verify(folder, checkpoint).problems, (path.name, number)
        content = path.read_bytes()
        path.unlink()
        assert verify(folder, checkpoint).problems
        path.write_bytes(content)
    assert [] == verify(folder, checkpoint).problems


def test_every_one_of_a_thousand_swaps_is_found(log: tuple[Path, Checkpoint]) -> None:
    """Any two records, in one file or in two, and any two files."""
    folder, checkpoint = log
    draw = random.Random(2)
    paths = files_of(folder)
    for _ in range(1000):
        lines = [path.read_bytes().splitlines(keepends=True) for path in paths]
        places = [(file, line) for file, of_file in enumerate(lines) for line in range(len(of_file))]
        (file, line), (other_file, other_line) = draw.sample(places, 2)
        lines[file][line], lines[other_file][other_line] = lines[other_file][other_line], lines[file][line]
        before = [path.read_bytes() for path in paths]
        for path, of_file in zip(paths, lines, strict=True):
            path.write_bytes(b"".join(of_file))
        assert verify(folder, checkpoint).problems
        for path, content in zip(paths, before, strict=True):
            path.write_bytes(content)
    first, second = paths[0].read_bytes(), paths[1].read_bytes()
    with touched(paths[0], second), touched(paths[1], first):
        assert verify(folder, checkpoint).problems


def test_additions_and_older_copies_are_found(log: tuple[Path, Checkpoint], tmp_path: Path) -> None:
    """Records made with another secret, records after an orderly stop, and the log of an earlier day."""
    folder, checkpoint = log
    last = files_of(folder)[-1]
    end = ChainHead(checkpoint.count, checkpoint.hash)
    for secret in (SECRET, bytes(32)):
        forged, _ = line_of(record(41), end, secret)
        with touched(last, last.read_bytes() + forged):
            assert verify(folder, checkpoint).problems
            assert bool(verify(folder, replace(checkpoint, is_open=True)).problems) == (secret != SECRET)
    assert verify(folder, written(tmp_path / "other", [39])).problems
    assert verify(tmp_path / "none", checkpoint).problems


def test_every_problem_is_reported_with_its_place(log: tuple[Path, Checkpoint]) -> None:
    """File, line, and what is wrong; records after a changed one are still compared with each other."""
    folder, checkpoint = log
    first, _, _, last = files_of(folder)
    changed = first.read_bytes().replace(b'"rows":3', b'"rows":4')
    lines = last.read_bytes().splitlines(keepends=True)
    with touched(first, changed), touched(last, b"".join(lines[:5] + lines[6:])):
        problems = verify(folder, checkpoint).problems

    assert f"{first.name}, line 3: record 3 or an earlier one was changed" == problems[0]
    assert f"{last.name}, line 6: is record 30, but record 29 belongs here" in problems[1]
    assert 2 == len(problems)


# The writer


def test_a_coordinator_continues_the_log_of_a_killed_one(tmp_path: Path) -> None:
    """Records that the store has not heard of are kept, and a torn last line is reported."""
    checkpoint = written(tmp_path / "a", [5])
    with closing(AuditLog(tmp_path / "a", checkpoint, BIG, lambda: 1)) as audit_log:
        audit_log.write([record(6), record(7)])
    path = files_of(tmp_path / "a")[-1]
    whole = path.read_bytes()
    end_of_first = whole.index(b"\n") + 1
    for cut in range(end_of_first, len(whole) + 1):
        path.write_bytes(whole[:cut])
        is_torn = end_of_first < cut < len(whole)
        before = verify(tmp_path / "a", replace(checkpoint, is_open=True))
        assert [] == before.problems
        assert is_torn == any("unfinished" in note for note in before.notes)
        with closing(AuditLog(tmp_path / "a", checkpoint, BIG, lambda: 1)) as audit_log:
            assert audit_log.fault == ""
            audit_log.write([record(8)])
            after = checkpoint_after(checkpoint, audit_log)
        found = verify(tmp_path / "a", after)
        assert [] == found.problems
        assert [1, 2, 3, 4, 5, 6][: found.records] == [each.rows for each in records_of(tmp_path / "a", after)][:6]
        if is_torn:
            with touched(path, whole[: cut - 1]):
                assert verify(tmp_path / "a", after).problems  # the hash covers the rest of the line too
        for extra in files_of(tmp_path / "a")[2:]:
            extra.unlink()


def test_a_changed_log_is_continued_and_the_change_is_still_found(tmp_path: Path) -> None:
    """The server goes on, from what the store knows, says so, and verification still finds the change."""
    checkpoint = written(tmp_path, [5])
    path = files_of(tmp_path)[0]
    path.write_bytes(path.read_bytes() + line_of(record(6), ChainHead(checkpoint.count, checkpoint.hash), bytes(32))[0])

    with closing(AuditLog(tmp_path, replace(checkpoint, is_open=True), BIG, lambda: 1)) as audit_log:
        assert "line 6: record 6 or an earlier one was changed" in audit_log.fault
        audit_log.write([record(6)])
        checkpoint = checkpoint_after(checkpoint, audit_log)

    assert verify(tmp_path, checkpoint).problems


def test_a_new_file_is_begun_after_a_removed_one(tmp_path: Path) -> None:
    """Later records are in the folder, and the gap is found."""
    with closing(AuditLog(tmp_path, new_checkpoint(), BIG, lambda: 1)) as audit_log:
        audit_log.write([record(1)])
        assert not audit_log.leave_removed_file()
        files_of(tmp_path)[0].unlink()
        assert audit_log.leave_removed_file()
        audit_log.write([record(2)])
        checkpoint = checkpoint_after(new_checkpoint(), audit_log)

    assert [2] == [json.loads(path.read_text())["rows"] for path in files_of(tmp_path)]
    assert 1 == len(verify(tmp_path, checkpoint).problems)


@pytest.mark.parametrize("begun", [1, 3])
def test_files_are_rotated_by_size_and_by_age(tmp_path: Path, begun: int) -> None:
    """Each file begins with a whole record and is named after its number."""
    clock = FrozenClock()
    small = RotationPolicy(2 * len(record(1)), 100) if begun == 3 else RotationPolicy(2**30, 100)
    with closing(AuditLog(tmp_path, new_checkpoint(), small, clock.now)) as audit_log:
        for number in range(6):
            audit_log.write([record(number)])
            clock.advance(40 if begun == 1 else 0)
        checkpoint = checkpoint_after(new_checkpoint(), audit_log)

    names = [path.name for path in files_of(tmp_path)]
    assert ([1, 4] if begun == 1 else [1, 3, 5]) == [int(name[:15]) for name in names]
    assert VerifyReport(6, [], []) == verify(tmp_path, checkpoint)


def test_expired_files_are_removed_and_the_rest_verifies(tmp_path: Path) -> None:
    """A file is removed when all of it is older than the retention period."""
    clock = FrozenClock()
    keeping = RotationPolicy(1, 2**30)
    with closing(AuditLog(tmp_path, new_checkpoint(), keeping, clock.now)) as audit_log:
        for number in range(5):
            audit_log.write([record(number, clock.now())])
            clock.advance(400)
        checkpoint, gone, path, leftover = new_checkpoint(), 0, tmp_path, b""
        while (file := oldest_expired(tmp_path, clock.now(), 1000)) is not None:
            path, last = file.path, file.last
            assert last is not None
            checkpoint = without_oldest(checkpoint, last)
            leftover = path.read_bytes()
            path.unlink()
            gone += 1
        checkpoint = checkpoint_after(checkpoint, audit_log)

    assert 2 == gone
    untold = VerifyReport(3, [], ["records 1 to 2 are not retained, and no record says when they were removed"])
    assert untold == verify(tmp_path, checkpoint)
    path.write_bytes(leftover)  # a crash between the store and the folder
    assert untold == verify(tmp_path, checkpoint)
    path.unlink()
    files_of(tmp_path)[0].unlink()
    assert verify(tmp_path, checkpoint).problems


def test_records_are_written_after_a_full_disk_has_room_again(tmp_path: Path) -> None:
    """Not a byte is lost or doubled, wherever writing stopped."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(AuditLog(tmp_path, new_checkpoint(), BIG, lambda: 1)) as audit_log:
        audit_log.write([record(1)])
        size = files_of(tmp_path)[0].stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
        try:
            for number in (2, 3):
                with pytest.raises(OSError, match="too large"):
                    audit_log.write([record(number)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert 1 == audit_log.written.count
        audit_log.flush()
        audit_log.write([record(4)])
        checkpoint = checkpoint_after(new_checkpoint(), audit_log)

    assert VerifyReport(4, [], []) == verify(tmp_path, checkpoint)


def test_only_one_process_writes_the_log(tmp_path: Path) -> None:
    """A second server is told that the first one runs; folder and files are private."""
    with closing(AuditLog(tmp_path / "a", new_checkpoint(), BIG, lambda: 1)) as audit_log:
        audit_log.write([record(1)])
        with pytest.raises(StoreError, match="another server"):
            AuditLog(tmp_path / "a", new_checkpoint(), BIG, lambda: 1)

    assert 0o700 == (tmp_path / "a").stat().st_mode & 0o777
    assert {0o600} == {path.stat().st_mode & 0o777 for path in files_of(tmp_path / "a")}


# Recorded requests


def said(service: Service) -> dict[str, Any]:
    """The fields of the last record that say something."""
    fields: dict[str, Any] = json.loads(msgspec.json.encode(service.records[-1]))
    return fields


def test_an_answered_page_is_recorded(service: Service) -> None:
    """When, who, whom, up to which second, how many rows; the account by its number."""
    service.follow("anna", ("b", 100), ("c", 200))
    answer = service.ask({"username": "Anna", "max_count": 1, "cursor": 150, "as_of": 500})

    assert {
        "time": service.clock.now(),
        "log_id": answer.headers["x-tt-logid"],
        "endpoint": "following",
        "status": 200,
        "code": "ok",
        "microseconds": 0,
        "peer": "127.0.0.1",
        "client": service.client_key,
        "account": 1,
        "bound": 150,
        "as_of": 500,
        "rows": 1,
    } == said(service)
    service.ask({"username": "anna"}, FOLLOWERS)
    assert ("followers", service.clock.now()) == (said(service)["endpoint"], said(service)["bound"])
    service.ask({"username": "anna"}, f"{INFO}?fields=display_name")
    assert ("info", 1, 1) == (said(service)["endpoint"], said(service)["account"], said(service)["rows"])


def test_every_refusal_is_recorded(service: Service) -> None:
    """A refusal is recorded with its code, client and account; a name is recorded as an HMAC only."""
    service.add_account("hidden", visibility=Visibility.PRIVATE)
    wrong = f"client_key={service.client_key}&client_secret=wrong&grant_type=client_credentials"
    asks: list[tuple[Callable[[], httpx.Response], tuple[Any, ...]]] = [
        (lambda: service.ask({"username": "hidden"}), ("following", 400, "invalid_params", service.client_key, 1)),
        (lambda: service.ask({"username": "Nobody"}), ("following", 400, "invalid_params", service.client_key, None)),
        (lambda: service.post(FOLLOWING, b"{}"), ("following", 401, "access_token_invalid", None, None)),
        (lambda: service.post(TOKEN, wrong.encode()), ("token", 401, "invalid_client", None, None)),
        (lambda: service.post(REVOKE, b""), ("revoke", 400, "invalid_request", None, None)),
        (lambda: service.request("GET", "/x", b"", {}), ("none", 404, "unsupported_path", None, None)),
        (lambda: service.request("GET", TOKEN, b"", {}), ("token", 405, "unsupported_path", None, None)),
    ]
    for ask, expected in asks:
        count = len(service.records)
        answer = ask()
        assert count + 1 == len(service.records)
        found = said(service)
        assert answer.headers["x-tt-logid"] == found["log_id"]
        assert expected == tuple(map(found.get, ("endpoint", "status", "code", "client", "account")))
    nobody = next(each for each in service.records if each.name)
    assert name_hmac(asyncio.run(service.access.audit_checkpoint()).secret, "@NOBODY") == nobody.name
    assert "obody" not in repr(service.records)


def test_erasure_removes_records_from_the_log(service: Service) -> None:
    """The recorded account id resolves to no account afterwards."""
    service.follow("anna", ("b", 100))
    service.ask({"username": "anna"})
    number = said(service)["account"]
    service.apply(ErasureEvent("anna", service.clock.now()))
    service.clock.advance(1)

    assert asyncio.run(service.graph.profile(number)) is None
    service.ask({"username": "anna"})
    assert "account" not in said(service)


def test_requests_that_cannot_be_recorded_are_not_answered(service: Service) -> None:
    """While the audit sink is full, requests are refused with 503 before anything is done."""
    service.follow("a", ("b", 100))
    service.records.is_full = True
    answer = service.ask({"username": "a"})
    assert (503, "1") == (answer.status_code, answer.headers["retry-after"])
    assert 503 == service.post(TOKEN, b"").status_code

    service.records.is_full = False
    assert 200 == service.ask({"username": "a"}).status_code


# Leftovers of strangers and crashes


def test_lines_outside_the_chain_are_reported_and_not_shown(log: tuple[Path, Checkpoint], tmp_path: Path) -> None:
    """A file before the oldest, a name that is none of the log's, a whole record without its newline."""
    folder, checkpoint = log
    forged = record(77)
    for name, words in (
        ("000000000000000.000.jsonl", "is older than the oldest retained file"),
        ("notes.txt", "is not a file of the log"),
        ("²²²²²²²²²²²²²²².000.jsonl", "is not a file of the log"),
    ):
        (folder / name).write_bytes(forged + b"\n")
        assert [f"{name}: {words}"] == verify(folder, checkpoint).problems
        assert 40 == len(list(records_of(folder, checkpoint)))
        (folder / name).unlink()
    last = files_of(folder)[-1]
    with touched(last, last.read_bytes() + forged):
        assert verify(folder, checkpoint).problems
        assert 40 == len(list(records_of(folder, replace(checkpoint, is_open=True))))


@pytest.mark.parametrize("kept", [0, 1, 40])
def test_a_new_file_is_begun_after_a_torn_first_line(tmp_path: Path, kept: int) -> None:
    """However often that happens, verification stays quiet, and so it does when the torn files are removed."""
    checkpoint = written(tmp_path, [2])
    for number in range(3):
        with closing(AuditLog(tmp_path, checkpoint, BIG, lambda: 1_700_000_000)) as audit_log:
            audit_log.write([record(9)])
        path = files_of(tmp_path)[-1]
        path.write_bytes(path.read_bytes().splitlines(keepends=True)[0][:kept])
        assert [] == verify(tmp_path, replace(checkpoint, is_open=True)).problems, number
    with closing(AuditLog(tmp_path, checkpoint, BIG, lambda: 1_700_000_500)) as audit_log:
        audit_log.write([record(10, 1_700_000_500)])
        checkpoint = checkpoint_after(checkpoint, audit_log)
        assert [] == verify(tmp_path, checkpoint).problems
        while (file := oldest_expired(tmp_path, 1_700_000_500, 100)) is not None:
            checkpoint = checkpoint if file.last is None else without_oldest(checkpoint, file.last)
            file.path.unlink()
            assert [] == verify(tmp_path, checkpoint).problems
