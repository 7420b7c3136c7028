"""Exact quotas: eight workers, 64 connections that ask as fast as they can until nothing is left.

Ten runs for calls and ten for rows, each with a new client, and each must end with exactly its quota. Then the same
while workers and the coordinator are killed repeatedly: never more than the quota, and fewer by at most the calls that
were in flight when a worker died. The audit log is verified after both parts, and its counts are compared with those
of the connections. A kill may lose records, if the log says how many.
"""

import argparse
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from running import Client, Failed, Server, Session, command_of, retinue, running_server

WORKERS = 8
PROCESSES = 4
CONNECTIONS = 64
FOLLOWS = 5_000
LONGER = 5  # times the quota, in runs in which processes are killed
ENOUGH_REFUSALS = 30  # in a row, before a connection stops
ANSWER_SECONDS = 20.0
KNOWN_LOSSES = 3  # the exit code of `audit verify`

_PATH = "/v2/research/user/following/"
_SPENT = b"daily_quota_limit_exceeded"


@dataclass(frozen=True, slots=True)
class Target:
    """A server, a token, and the rows of a request."""

    address: str
    token: str
    max_count: int


@dataclass(slots=True)
class Counts:
    """Counts of connections: responses with 200, their rows, refusals, and calls without a response."""

    answered: int = 0
    rows: int = 0
    refused: int = 0
    broken: int = 0

    def add(self, other: "Counts") -> None:
        """Add the counts of others."""
        self.answered += other.answered
        self.rows += other.rows
        self.refused += other.refused
        self.broken += other.broken


@dataclass(frozen=True, slots=True)
class Run:
    """One client and its outcome."""

    calls: int | None
    rows: int | None
    is_killed: bool
    counts: Counts
    token: Counts  # the calls for its token
    seconds: float

    def fault(self) -> str:
        """Return the broken promise; empty if there is none."""
        got, most = (self.counts.answered, self.calls) if self.calls is not None else (self.counts.rows, self.rows)
        assert most is not None
        lost = self.counts.broken * (1 if self.calls is not None else 100)
        if got > most:
            return f"{got} of {most}: more than the quota"
        if got < most - (lost if self.is_killed else 0):
            return f"{got} of {most}, with {self.counts.broken} calls that got no answer: too few"
        return ""


def main() -> int:
    """Run all; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--calls", type=int, default=2000, help="quota of calls a run")
    parser.add_argument("--rows", type=int, default=20011, help="quota of rows a run")
    options = parser.parse_args()
    faults, total = 0, Counts()
    with tempfile.TemporaryDirectory() as folder:
        store = _store(Path(folder))
        for is_killed in (False, True):
            with (
                running_server(store, "--workers", str(WORKERS)) as server,
                ProcessPoolExecutor(PROCESSES) as pool,
            ):
                factor = LONGER if is_killed else 1
                for quota in ((factor * options.calls, None), (None, factor * options.rows)):
                    for number in range(options.runs):
                        run = _run(store, server, pool, quota, is_killed=is_killed)
                        faults += _print(number + 1, run)
                        total.add(run.counts)
                        total.add(run.token)
            print(f"audit log: {_verify(store, is_killed=is_killed)}", flush=True)
            faults += _print_usage(store, total)
    print("every run is as promised" if not faults else f"{faults} RUNS ARE NOT AS PROMISED")
    return 1 if faults else 0


def _verify(store: Path, *, is_killed: bool) -> str:
    """Return the verdict on the audit log."""
    command = command_of("audit", "verify", "--store", store)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and not (is_killed and done.returncode == KNOWN_LOSSES):
        raise Failed(f"audit verify ended with exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip().splitlines()[-1]


def _print_usage(store: Path, total: Counts) -> int:
    """Compare the requests of the audit log with those of the connections; return the number of faults."""
    usages = json.loads(retinue("audit", "usage", "--store", store, "--json"))
    recorded, lost = (sum(usage[field] for usage in usages) for field in ("requests", "lost"))
    # A call without a response may have been recorded. Without kills there is no such call, and no loss.
    received = total.answered + total.refused
    is_right = received <= recorded + lost <= received + total.broken
    verdict = "ok" if is_right else "NOT THE SAME"
    print(f"recorded: {recorded}, lost: {lost}; received: {received}, broken: {total.broken}  {verdict}", flush=True)
    return 0 if is_right else 1


def _store(folder: Path) -> Path:
    follows = folder / "follows.csv"
    rows = "".join(f"hub,f{number},{1_600_000_000 + number}\n" for number in range(FOLLOWS))
    follows.write_text("follower,followee,followed_at\n" + rows)
    retinue("import", "--store", folder / "graph.db", follows)
    return folder / "graph.db"


def _run(
    store: Path,
    server: Server,
    pool: ProcessPoolExecutor,
    quota: tuple[int | None, int | None],
    *,
    is_killed: bool,
) -> Run:
    calls, rows = quota
    token, token_calls = _token(store, server, calls, rows)
    target = Target(server.base_url, token, 1 if rows is None else 100)
    done = threading.Event()
    killer = threading.Thread(target=_kill, args=(server, done))
    if is_killed:
        killer.start()
    started = time.monotonic()
    counts = Counts()
    try:
        for each in pool.map(_ask_from_process, [target] * PROCESSES, range(PROCESSES)):
            counts.add(each)
    finally:
        done.set()
        if is_killed:
            killer.join()
    return Run(calls, rows, is_killed, counts, token_calls, time.monotonic() - started)


def _token(store: Path, server: Server, calls: int | None, rows: int | None) -> tuple[str, Counts]:
    """Return a token of a new client, and the calls that it took."""
    limits = ["--list-calls", calls or "none", "--list-rows", rows or "none"]
    created = retinue("client", "create", "--store", store, "--name", "quota", *map(str, limits), "--json")
    client = json.loads(created)
    for attempt in range(50):
        with suppress(Failed), Session(server.base_url) as session:
            token = session.token(Client(client["client_key"], client["client_secret"]))
            return token, Counts(answered=1, broken=attempt)
        time.sleep(0.1)  # a killed worker's successor is on its way
    raise Failed("no token within five seconds")


def _kill(server: Server, done: threading.Event) -> None:
    """Kill workers, and at times the coordinator, until the run is over."""
    draw = random.Random(1)
    while not done.wait(draw.uniform(0.1, 0.5)):
        with suppress(OSError):
            children = [pid for pid, role in server.processes().items() if role in {"worker", "coordinator"}]
            if children:
                os.kill(draw.choice(children), signal.SIGKILL)


def _ask_from_process(target: Target, number: int) -> Counts:
    each = CONNECTIONS // PROCESSES
    total = Counts()
    with ThreadPoolExecutor(each) as threads:
        for counts in threads.map(lambda seed: _ask(target, seed), range(number * each, (number + 1) * each)):
            total.add(counts)
    return total


def _ask(target: Target, seed: int) -> Counts:
    """Ask until the quota is spent."""
    counts, in_a_row = Counts(), 0
    draw = random.Random(seed)
    connection = _connection(target)
    headers = {"Authorization": f"Bearer {target.token}"}
    while in_a_row < ENOUGH_REFUSALS:
        max_count = draw.randint(1, target.max_count)
        cursor = 1_600_000_000 + draw.randint(100, FOLLOWS)
        try:
            connection.request(
                "POST", _PATH, json.dumps({"username": "hub", "max_count": max_count, "cursor": cursor}), headers
            )
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            counts.broken += 1
            connection.close()
            time.sleep(0.02)
            connection = _connection(target)
            continue
        if answer.status == http.HTTPStatus.OK:
            counts.answered += 1
            counts.rows += content.count(b'"username"')
            in_a_row = 0
        elif _SPENT in content:
            counts.refused += 1
            in_a_row += 1
        else:
            raise Failed(f"{answer.status} {content.decode()}")
    connection.close()
    return counts


def _connection(target: Target) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(target.address).netloc, timeout=ANSWER_SECONDS)


def _print(number: int, run: Run) -> int:
    kind = f"{run.calls} calls" if run.calls is not None else f"{run.rows} rows"
    killed = ", processes killed" if run.is_killed else ""
    each = run.counts
    counts = f"{each.answered} answers, {each.rows} rows, {each.refused} refusals, {each.broken} broken"
    fault = run.fault()
    print(f"{kind}{killed}, run {number}: {counts}, {run.seconds:.1f} s  {fault or 'ok'}", flush=True)
    return 1 if fault else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failed:
        sys.exit(str(failed))
