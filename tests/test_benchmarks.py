"""Requests, measurements and verdicts of the benchmarks, and every scenario in its quick form."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import run
import scenario
import senders
from billion import follows_that_fit
from comparison import TARGETS, Run, disturbed_lines, judge, late_lines, table, verdict_lines
from contestants import HANDMADE, LIMIT, OURS
from debian import Program, require
from figures import spread
from graph_size import KINDS, Kind
from importing import Imported, lines
from processes import cpu_seconds, folder_bytes, proportional_bytes, require_cores, resident_bytes, tree, watched
from retinue.sample import SampleSize, write_sample
from retinue.sample_files import ParquetFiles
from running import Failed
from senders import Plan, requests_of, schedule, summary
from workload import BODIES, draw_bodies

RUN = Run(OURS, 20, 30_000, 30, 99, 100, 15_000, 1, 2, 0.1, kept_schedule=True)
PLAN = Plan("http://127.0.0.1:1/v2/list/", "", "token", rate=5_000, seconds=2, connections=8, seed=1)


def runs_of(speeds: dict[str, list[float]], costs: dict[str, list[float]]) -> list[Run]:
    """Runs in turns, the same at both sizes of pages."""
    return [
        replace(RUN, server=name, max_count=count, requests_per_second=speeds[name][turn], cpu_microseconds=cost)
        for count in (20, 100)
        for turn in range(3)
        for name, cost in ((name, costs[name][turn]) for name in speeds)
    ]


FAST = runs_of(
    {LIMIT: [60_000, 61_000, 30_000], HANDMADE: [1_000, 1_000, 500], OURS: [26_000, 24_000, 13_500]},
    {LIMIT: [10, 10, 20], HANDMADE: [800, 800, 1_600], OURS: [19, 21, 39]},
)


# --- what is asked --------------------------------------------------------------------------------------------------


def test_bodies_are_the_same_for_both_kinds_of_files(tmp_path: Path) -> None:
    """Drawn from CSV or from Parquet: heavy-tailed over owners, each second with a full page before it."""
    size = SampleSize(400, 20_000, 1)
    from_csv = draw_bodies(*write_sample(size, tmp_path), 20)
    from_parquet = draw_bodies(*write_sample(size, tmp_path, ParquetFiles), 20)

    queries = [json.loads(body) for body in from_csv]
    counts = sorted(Counter(query["username"] for query in queries).values(), reverse=True)
    assert from_csv == from_parquet
    assert BODIES == len(queries)
    assert counts[0] > 20 * counts[len(counts) // 2]
    assert {20} == {query["max_count"] for query in queries}


def test_a_graph_without_long_lists_is_refused(tmp_path: Path) -> None:
    """The error says what to change."""
    with pytest.raises(Failed, match="ask for more follows"):
        draw_bodies(*write_sample(SampleSize(20, 30, 1), tmp_path), 100)


@given(rate=st.floats(10, 50_000), seconds=st.floats(0.1, 2), seed=st.integers(0, 2**32))
def test_the_schedule_of_any_plan_keeps_its_rate(rate: float, seconds: float, seed: int) -> None:
    """As many instants as rate and time say, in order, none before the beginning; the same seed gives the same."""
    plan = replace(PLAN, rate=rate, seconds=seconds, seed=seed)
    instants = schedule(plan)

    assert max(1, round(rate * seconds)) == len(instants)
    assert sorted(instants) == instants
    assert instants[0] >= 0
    assert instants == schedule(plan)


def test_gaps_are_those_of_a_poisson_process() -> None:
    """Their mean is that of the rate, and they vary as much as they are long."""
    gaps = np.diff(schedule(replace(PLAN, rate=1_000, seconds=100)))

    assert float(gaps.mean()) == pytest.approx(1e6, rel=0.02)
    assert float(gaps.std()) == pytest.approx(1e6, rel=0.02)


def test_bodies_use_post_and_paths_use_get(tmp_path: Path) -> None:
    """Whole requests, ready to be sent."""
    targets = tmp_path / "targets"
    targets.write_text('{"username": "é"}\n/20/7.json\n')

    posted, got = requests_of(replace(PLAN, targets=str(targets)))

    assert posted.startswith(b"POST /v2/list/ HTTP/1.1\r\nHost: 127.0.0.1:1\r\nAuthorization: Bearer token\r\n")
    assert posted.endswith('Content-Length: 18\r\n\r\n{"username": "é"}'.encode())
    assert got == b"GET /20/7.json HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n"


# --- what is measured -----------------------------------------------------------------------------------------------


def answer_slowly(listener: socket.socket) -> None:
    """One connection's server, which stands still when the first request comes, and answers in two pieces each."""
    pause = iter([0.8])
    connection, _ = listener.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while connection.recv(65_536):
            time.sleep(next(pause, 0))
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab")
            connection.sendall(b"cd")


def test_time_in_which_a_server_stands_still_counts_as_latency(tmp_path: Path) -> None:
    """Requests that were due meanwhile are charged for, though the only connection was taken."""
    targets = tmp_path / "targets"
    targets.write_text("/page\n")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        thread = threading.Thread(target=answer_slowly, args=(listener,))
        thread.start()
        sent = senders.send_paced(Plan(address, str(targets), "", rate=200, seconds=0.3, connections=1, seed=1))
        thread.join()

    assert (60, 60, 0) == (sent.due, sent.answered, sent.refused)
    assert sent.p50_milliseconds > 200
    assert sent.p99_milliseconds > sent.p50_milliseconds


def test_a_schedule_is_kept_if_requests_are_sent_in_time_and_answered() -> None:
    """It is not kept with more than 1 % late by over a millisecond, or more than 1 % unanswered."""
    in_time, late = [100_000] * 100, [100_000] * 98 + [2_000_000] * 2
    latencies = [1_000_000] * 100

    assert summary(100, latencies, in_time, 0).kept_schedule
    assert not summary(100, latencies, late, 0).kept_schedule
    assert not summary(200, latencies, in_time, 0).kept_schedule


def test_a_tree_of_processes_is_measured_whole() -> None:
    """Time of children that have ended counts, and memory of those that run."""
    code = (
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'sum(range(10**7))'])\n"
        "child = subprocess.Popen([sys.executable, '-c', 'x = bytearray(1 << 26); print(flush=True); input()'],"
        " stdin=subprocess.PIPE)\n"
        "child.wait()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        processes = tree(process.pid)
        memory = proportional_bytes(process.pid), resident_bytes(process.pid)
        used = cpu_seconds(process.pid)
    finally:
        for pid in tree(process.pid)[::-1]:
            os.kill(pid, 9)
        process.communicate()

    assert 2 == len(processes)
    assert min(memory) > 1 << 26
    assert used > 0.05
    assert [] == tree(process.pid)


def test_a_memory_peak_is_kept(tmp_path: Path) -> None:
    """Also where it is over before the end."""
    seen = threading.Event()

    def size() -> int:
        seen.set()
        return folder_bytes(tmp_path)

    with watched(size) as (peak,):
        (tmp_path / "file").write_bytes(b"x" * 1_000_000)
        for _ in range(2):
            seen.clear()
            assert seen.wait(5)
        (tmp_path / "file").unlink()

    assert peak.value >= 1_000_000
    assert folder_bytes(tmp_path) == 0


def test_impossible_benchmarks_are_reported() -> None:
    """A missing core or program is reported, with how to install it."""
    with pytest.raises(Failed, match="there is no core 4095"):
        require_cores(4095)
    require(Program("sh", "dash", Path("/bin")))
    if os.geteuid() != 0:
        with pytest.raises(Failed, match="apt-get install no-such-package"):
            require(Program("no-such-program", "no-such-package"))


# --- what is said ---------------------------------------------------------------------------------------------------


def test_targets_are_judged_by_medians_of_ratios_within_rounds() -> None:
    """A round in which everything took twice as long changes nothing."""
    verdicts = [judge(FAST, target) for target in TARGETS]

    assert [(2, True), (3, True), (25, False), (25, False)] == [
        (each.target.bound, each.target.is_most) for each in verdicts
    ]
    assert [1.95, 1.95, 26, 26] == [each.ratio.median for each in verdicts]
    assert [True] * 4 == [each.is_met for each in verdicts]
    assert (
        f"CPU of {OURS} / CPU of {LIMIT} at 20 rows: 1.95 (1.90-2.10); target at most 2: met, though not in every round"
        == verdict_lines(verdicts)[0]
    )


@pytest.mark.parametrize(("factor", "expected"), [(1.0, [True] * 4), (1.2, [False, True, False, False])])
def test_missed_targets_are_reported(factor: float, expected: list[bool]) -> None:
    """A bound holds on its own side, at each size of pages."""
    runs = [
        replace(
            run,
            cpu_microseconds=run.cpu_microseconds * factor,
            requests_per_second=run.requests_per_second / factor,
        )
        if run.server == OURS
        else run
        for run in FAST
    ]

    verdicts = [judge(runs, target) for target in TARGETS]
    assert expected == [each.is_met for each in verdicts]
    assert expected == [": met" in line for line in verdict_lines(verdicts)]


def test_the_table_has_a_line_for_each_server_and_size() -> None:
    """All as wide as the head; medians with the ends."""
    head, *rows = table(FAST)

    assert [LIMIT, HANDMADE, OURS] * 2 == [row.split()[1] for row in rows]
    assert {len(head)} == {len(row) for row in rows}
    assert "24,000 (13,500-26,000)" in rows[2]


def test_a_sender_that_was_late_is_named() -> None:
    """By server and size, with how often."""
    late = [replace(run, kept_schedule=run.server != OURS or run.max_count != 20) for run in FAST]

    assert [] == late_lines(FAST)
    assert [f"at half load of {OURS}, 20 rows, the sender could not keep its schedule in 3 rounds"] == late_lines(late)


def test_a_core_that_was_shared_is_named() -> None:
    """By server and size, with how often."""
    shared = [replace(run, core_percent=21 if run.server != OURS and run.max_count == 100 else 99) for run in FAST]

    assert [
        f"NOT A QUIET MACHINE: {server}, 100 rows, had less than 90 % of its core in 3 rounds"
        for server in (LIMIT, HANDMADE)
    ] == disturbed_lines(shared)


@given(st.lists(st.floats(0, 1e9), min_size=1))
def test_a_spread_holds_all_figures(values: list[float]) -> None:
    """The ends are the lowest and the highest, the median lies between."""
    found = spread(values)

    assert (min(values), max(values)) == (found.low, found.high)
    assert found.low <= found.median <= found.high


def test_as_many_follows_are_taken_as_the_disk_has_room_for(capsys: pytest.CaptureFixture[str]) -> None:
    """A billion, or the largest power of ten below it, which is said; a wish for more is refused."""
    assert 10**9 == follows_that_fit(None, 1_000, 10**12)
    assert 5_000 == follows_that_fit(5_000, 1_000, 10**9)
    assert "" == capsys.readouterr().out
    assert 10**8 == follows_that_fit(None, 10**7, 60 * 10**9)
    assert "60.0 GB are free: taking 100,000,000" in capsys.readouterr().out
    with pytest.raises(Failed, match=r"1,000,000,000 follows .* need 110\.0 GB .* --follows 100000000 would fit"):
        follows_that_fit(10**9, 1_000, 60 * 10**9)
    with pytest.raises(Failed, match="not even 1,000"):
        follows_that_fit(None, 1_000, 10**5)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_pages_of_graphs_of_different_size_are_the_same_but_for_names(kind: Kind) -> None:
    """The owners asked for lie at the same places among all accounts, and are asked for the same pages."""
    small, large = ([json.loads(body) for body in kind.bodies(accounts)[:1000]] for accounts in (10_000, 10_000_000))

    assert [query["cursor"] for query in small] == [query["cursor"] for query in large]
    assert [int(query["username"][1:]) * 1_000 for query in small] == [int(query["username"][1:]) for query in large]
    assert {kind.lists == "far"} == {bool(int(query["username"][1:]) % 2) for query in small}


def test_loads_are_shown_by_follow_and_by_second() -> None:
    """One line each below a head of the same width."""
    head, line = lines([Imported("import", 2_000_000, 4.0, 1 << 30, 1 << 20, 60_000_000)])

    assert len(head) == len(line)
    assert ["import", "2,000,000", "4.0", "500,000", "1,024", "1", "30.0"] == line.split()


# --- scenarios ------------------------------------------------------------------------------------------------------

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", run.TABLE)
def test_every_scenario_has_options_and_a_command_in_the_docs(name: str) -> None:
    """Flags change the full and the quick options; the page names the command."""
    options = run.load(name).read_options(name, "", ["--quick"])

    assert options == run.load(name).quick
    assert f"make bench SCENARIO={name}" in (ROOT / "docs" / "benchmarks.md").read_text() or name == "comparison"


def test_a_flag_changes_one_option() -> None:
    """The others stay as they are in the full or the quick form."""
    found = run.load("size").read_options("size", "", ["--quick", "--follows", "7"])

    assert replace(run.load("size").quick, follows=7) == found


def test_an_unknown_scenario_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The error names those that exist."""
    assert 2 == run.main(["no-such-scenario"])
    assert "there are comparison, steps" in capsys.readouterr().err


# The scenarios of a few seconds. `make bench SCENARIO=all QUICK=1` runs every one.
@pytest.mark.parametrize("name", ["size", "events", "withheld", "collect", "http", "worker"])
def test_a_scenario_runs_in_its_quick_form(name: str, tmp_path: Path) -> None:
    """It ends well and saves its figures."""
    loaded = run.load(name)
    if len(os.sched_getaffinity(0)) < loaded.cores or any(program.path() is None for program in loaded.programs):
        pytest.skip("needs another core or wrk")
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "run.py", name, "--quick"],
        env={**os.environ, "BENCH_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert f"all figures are in {tmp_path / name}.json" in done.stdout, done.stdout + done.stderr
    assert scenario.machine() == json.loads((tmp_path / f"{name}.json").read_text())["machine"]
