"""Audit records that are lost: they are counted, the log says how many, and the server ends with an error."""

import json
import os
import re
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retinue.audit.hash_chain import BEGINNING, BrokenChain, line_of, next_head, stated_head
from retinue.audit.record_counters import RecordCounters, RecordsMade, open_counters, read_made
from retinue.errors import StoreError
from running import STOP_SECONDS, Client, Server, Session, command_of, running_server
from support.audit_logs import SECRET, closing_descriptor, record
from support.served import answers, audit, checkpoint_count, posted, token_of
from support.service import FOLLOWING
from support.waiting import waiting_for

QUERY = '{"username":"p"}'
LOST = "retinue: stopped, but audit records are lost; `retinue audit verify` counts them"


class Stopped:
    """The end of a server: exit code and output."""

    code = 0
    errors = ""


@contextmanager
def served(store: Path, tmp_path: Path) -> Iterator[tuple[Server, Stopped]]:
    """A server that is stopped at the end of the block, whatever its exit code."""
    stopped, log = Stopped(), tmp_path / "stderr"
    command = command_of("serve", "--store", store, "--port", "0", "--management-port", "0")
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            public, management = re.findall(r"https?://[^ )]+", process.stdout.readline())
            server = Server(public, management, process.pid)
            waiting_for(lambda: sorted(server.processes().values()) == ["coordinator", "supervisor", "worker"])
            yield server, stopped
        finally:
            process.terminate()
            stopped.code = process.wait(STOP_SECONDS)
    stopped.errors = log.read_text()


def processes_of(server: Server, role: str) -> list[int]:
    """The processes of a role."""
    return [pid for pid, its_role in server.processes().items() if its_role == role]


def is_replaced(server: Server, role: str, process: int) -> bool:
    """Whether another process has a process's role."""
    return processes_of(server, role) not in ([], [process])


def file_of(store: Path) -> Path:
    """The newest file of the log."""
    return max(store.with_suffix(".audit").glob("*.jsonl"))


def lines_in(store: Path) -> int:
    """How many whole lines the log has."""
    return sum(path.read_bytes().count(b"\n") for path in store.with_suffix(".audit").glob("*.jsonl"))


def fill_disk_for(process: int, path: Path) -> None:
    """Let a process write no file beyond the present size of one, and a part of a record."""
    _, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (path.stat().st_size + 100, hard))


def test_records_lost_on_a_full_disk_are_reported(list_store: Path, client: Client, tmp_path: Path) -> None:
    """The server ends with an error, `verify` says how many, and the next start writes that into the chain."""
    with served(list_store, tmp_path) as (server, stopped):
        token = token_of(server, client)
        with Session(server.base_url, token) as session:
            for _ in range(700):  # the log is larger than other files that the coordinator writes
                session.raw_page(QUERY.encode())
            waiting_for(lambda: lines_in(list_store) == 701)
            (coordinator,) = processes_of(server, "coordinator")
            fill_disk_for(coordinator, file_of(list_store))
            for _ in range(250):
                session.raw_page(QUERY.encode())
    assert (2, LOST) == (stopped.code, stopped.errors.strip().splitlines()[-1])
    assert "Traceback" not in stopped.errors
    code, told = audit(list_store, "verify")
    lost = 951 - lines_in(list_store)
    assert 0 < lost
    assert (3, True) == (code, f"LOST     {lost} records at least since " in told), told
    assert f"{lines_in(list_store)} records, as they were written; {lost} are lost\n" in told

    with running_server(list_store) as server:
        assert answers(server, token)
    code, told = audit(list_store, "verify")
    assert (3, True) == (code, f"LOST     {lost} records between " in told), told
    assert told.endswith(f"{953 - lost} records, as they were written; {lost} are lost\n"), told
    usage = json.loads(audit(list_store, "usage", "--json")[1])
    assert (lost, 952 - lost) == (sum(row["lost"] for row in usage), sum(row["requests"] for row in usage))


def test_records_lost_by_killed_processes_are_counted_exactly(list_store: Path, client: Client, tmp_path: Path) -> None:
    """Workers are killed before they can send, again and again: the log says how many records that took."""
    asked = 1
    with served(list_store, tmp_path) as (server, stopped):
        token = token_of(server, client)
        for _ in range(3):
            (worker,) = processes_of(server, "worker")
            for _ in range(20):
                assert 200 == posted(server, FOLLOWING, QUERY, token)[0]
            os.kill(worker, signal.SIGKILL)  # within 50 ms of the last answers, which it has not sent then
            waiting_for(partial(is_replaced, server, "worker", worker))
            asked += 20
        waiting_for(partial(answers, server, token))
    code, told = audit(list_store, "verify")
    lost = sum(each.get("lost", 0) for each in lines_of(list_store))
    requests = sum("lost" not in each for each in lines_of(list_store))
    assert asked + 1 == requests + lost
    assert ((0, 3)[lost > 0], 0, lost) == (code, stopped.code, lost_in(told))


def test_the_next_coordinator_reports_records_lost_by_a_killed_one(
    list_store: Path, client: Client, tmp_path: Path
) -> None:
    """Records that reached it, and were not in the log when it was killed, are counted."""
    with served(list_store, tmp_path) as (server, stopped):
        token = token_of(server, client)
        with Session(server.base_url, token) as session:
            for _ in range(700):
                session.raw_page(QUERY.encode())
            waiting_for(lambda: lines_in(list_store) == 701)
            (coordinator,) = processes_of(server, "coordinator")
            fill_disk_for(coordinator, file_of(list_store))
            session.raw_page(QUERY.encode())
            waiting_for(lambda: b"cannot be written" in log_of(tmp_path))
            os.kill(coordinator, signal.SIGKILL)
            waiting_for(partial(is_replaced, server, "coordinator", coordinator))
            session.raw_page(QUERY.encode())
    assert 0 == stopped.code
    code, told = audit(list_store, "verify")
    assert (3, 1) == (code, lost_in(told))
    assert [1] == [each["lost"] for each in lines_of(list_store) if "lost" in each]


def log_of(tmp_path: Path) -> bytes:
    """The log of a server up to now."""
    return (tmp_path / "stderr").read_bytes()


def lines_of(store: Path) -> list[dict[str, Any]]:
    """All whole lines of the log."""
    paths = sorted(store.with_suffix(".audit").glob("*.jsonl"))
    lines = [line for path in paths for line in path.read_bytes().splitlines(keepends=True)]
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def lost_in(told: str) -> int:
    """How many records `verify` calls lost."""
    found = re.search(r"; ([0-9]+) are lost$", told.strip())
    return int(found[1]) if found else 0


# The counters


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("make"), st.integers(0, 3)),
            st.tuples(st.just("send"), st.integers(0, 3)),
            st.tuples(st.just("kill"), st.integers(0, 3)),
            st.tuples(st.sampled_from(["own", "kill the coordinator", "restart"]), st.just(0)),
        )
    )
)
def test_lost_records_are_the_difference_of_the_counters(steps: list[tuple[str, int]]) -> None:
    """This holds for every order of records, batches, kills of workers and of the coordinator, and restarts."""
    with TemporaryDirectory() as name, closing_descriptor(open_counters(Path(name))) as descriptor:
        counters = RecordCounters(descriptor)
        counters.begin_run(1)
        kept, made, written, told = [0] * 4, 0, 0, 0
        for step, worker in [*steps, ("restart", 0)]:
            counter = counters.of_worker(worker)
            first = counter.made - kept[worker]
            if step == "make":
                counter.add()
                kept[worker], made = kept[worker] + 1, made + 1
            elif step == "own":
                counters.count_own()
                made, written = made + 1, written + 1
            elif step == "send":
                told += counters.receive(worker, first, kept[worker])
                written, kept[worker] = written + kept[worker], 0
            elif step == "kill":
                kept[worker] = 0
            else:
                if step == "restart":
                    kept = [0] * 4
                    counters.begin_run(2)
                else:  # the coordinator is killed between receiving a batch and writing it
                    counters.receive(worker, first, kept[worker])
                    kept[worker] = 0
                told += counters.received - written - told  # said by the next coordinator
        assert made == written + told == counters.received
        assert RecordsMade(made, 1) == read_made(Path(name))


@given(st.lists(st.integers(0, 5)))
def test_a_lost_line_covers_its_record_numbers(losses: list[int]) -> None:
    """Any mix of records and losses follows, and a line that claims another loss does not."""
    link = before = BEGINNING
    line = b""
    for lost in losses:
        before = link
        line, link = line_of(record(1), before, SECRET, lost=lost)
        assert link == next_head(line[:-1], before, SECRET) == stated_head(line[:-1])
    assert sum(max(1, lost) for lost in losses) == link.count
    if losses and losses[-1]:
        claimed = line.replace(b'"lost":%d' % losses[-1], b'"lost":%d' % (losses[-1] + 1))
        with pytest.raises(BrokenChain):
            next_head(claimed[:-1], before, SECRET)


def test_a_log_without_its_counters_says_so(list_store: Path, client: Client) -> None:
    """If they are removed while records may be missing, `verify` tells; the next start counts from the log's end."""
    with running_server(list_store) as server:
        assert 200 == posted(server, FOLLOWING, QUERY, token_of(server, client))[0]
        waiting_for(lambda: checkpoint_count(list_store) == 2)
        for pid in server.processes():
            os.kill(pid, signal.SIGKILL)
    (list_store.with_suffix(".audit") / "counters").unlink()
    code, told = audit(list_store, "verify")
    assert (0, True) == (code, "records may be missing at the end" in told)
    with running_server(list_store) as server:
        assert 200 == posted(server, FOLLOWING, QUERY, token_of(server, client))[0]
    assert (0, "4 records, as they were written\n") == audit(list_store, "verify")
    made = read_made(list_store.with_suffix(".audit"))
    assert made is not None
    assert 4 == made.count


@given(st.integers(0, 8191), st.integers(0, 7), st.lists(st.integers(0, 2), max_size=9))
def test_a_flipped_bit_reports_no_loss(place: int, bit: int, workers: list[int]) -> None:
    """The counters give the count or nothing after any flipped bit, and the next run starts from sound ones."""
    with TemporaryDirectory() as name, closing_descriptor(open_counters(Path(name))) as descriptor:
        counters = RecordCounters(descriptor)
        assert not counters.begin_run(1)
        for worker in workers:
            counters.of_worker(worker).add()
        counters.count_own(2)
        path = Path(name) / "counters"
        content = bytearray(path.read_bytes())
        content[place] ^= 1 << bit
        path.write_bytes(content)
        made = read_made(Path(name))
        assert made is None or abs(made.count - len(workers) - 2) <= 1
        assert counters.begin_run(2) == (made is not None)
        assert read_made(Path(name)) is not None


def test_counters_that_were_cut_while_they_are_used_stop_no_process(tmp_path: Path) -> None:
    """A process that is started then begins with nothing, and the next run says that nothing is known."""
    with closing_descriptor(open_counters(tmp_path)) as descriptor:
        RecordCounters(descriptor).begin_run(1)
        os.truncate(tmp_path / "counters", 0)
        counters = RecordCounters(descriptor)
        counters.of_worker(1).add()
        assert read_made(tmp_path) is None
        assert not counters.begin_run(2)
        assert RecordsMade(0, 2) == read_made(tmp_path)


def test_a_counter_file_without_space_is_refused(tmp_path: Path) -> None:
    """Counting never needs space later: without it nothing is begun, and a file that was left unfinished is no trap."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StoreError, match="counters: audit records cannot be counted here: "):
            open_counters(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_made(tmp_path) is None
    os.close(open_counters(tmp_path))
