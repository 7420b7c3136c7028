"""Kill the writing process at random instants while pages are read, and look for lost events.

Each life of the writer is killed (SIGKILL) at a random instant: while it starts, between groups, in the middle of one.
Most are a `retinue apply` that gets a seeded mix of events of all kinds through a pipe, in small pieces: every event of
a group that was acknowledged is then applied again, and must be a duplicate, or rejected as erased if its account was
erased meanwhile. Others import files of any size, or erase and compact: the same command must then run to its end, and
change nothing when it runs once more. `check` must find every invariant whole, the row file included. A server reads
pages of the store all the time; its processes are killed too, with its updater of the row file.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retinue.clock import SystemClock
from retinue.store.open import open_store
from retinue.wire.rendering import ROW_ENCODING
from running import Failed, Refused, Session, command_of, fresh_token, running_server

ACCOUNTS = 300
KILLS_PER_STORE = 25
EVENTS_PER_LIFE = 12_000
PIECE = 400  # events that are written to the pipe at once
LONGEST_LIFE_SECONDS = 1.5
IMPORTED_ROWS = (20, 500, 5_000, 60_000, 400_000)  # so many as the last are loaded in bulk
_IMPORTED_WEIGHTS = (6, 6, 6, 4, 1)
_LIVES = ("apply", "import", "compact")
_LIVES_WEIGHTS = (10, 6, 1)
LIVES_PER_SERVER = 5
_KINDS = ("follow", "unfollow", "account", "visibility", "erase")
_WEIGHTS = (60, 25, 8, 6, 0.02)


@dataclass
class Figures:
    """Counts over all lives of the writer."""

    kills: int = 0
    acknowledged: int = 0
    lost: int = 0
    unsound: int = 0
    pages: int = 0
    refusals: int = 0
    lives_told: int = 0  # lives with an acknowledged group
    imports: int = 0
    compactions: int = 0
    servers: int = 0


def main() -> int:
    """Kill, check, report; return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the server is stopped then too
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    draw, figures = random.Random(options.seed), Figures()
    print(f"seed {options.seed}", flush=True)
    start = time.perf_counter()
    try:
        while figures.kills < options.kills:
            _one_store(draw, figures, min(KILLS_PER_STORE, options.kills - figures.kills))
            print(
                f"{figures.kills} kills, {figures.acknowledged:,} events acknowledged, {figures.lost} lost", flush=True
            )
    except Failed as failure:
        sys.stderr.write(f"crash: {failure}\n")
        return 1
    print(f"{figures.kills} kills in {time.perf_counter() - start:.0f} s, {figures.lives_told} after acknowledgements")
    print(f"{figures.acknowledged:,} events acknowledged, {figures.lost} lost; {figures.unsound} checks not clean")
    print(f"of these {figures.imports} imports and {figures.compactions} compactions; {figures.servers} servers killed")
    print(f"{figures.pages:,} pages read meanwhile, and {figures.refusals:,} refusals for hidden accounts")
    return 1 if figures.lost or figures.unsound else 0


def _one_store(draw: random.Random, figures: Figures, kills: int) -> None:
    """Kill writers of one store, beside a server."""
    with tempfile.TemporaryDirectory(prefix="retinue-crash-") as folder:
        store = Path(folder) / "graph.db"
        open_store(str(store)).create()
        while kills > 0:
            lives = min(kills, LIVES_PER_SERVER)
            kills -= lives
            _beside_a_server(draw, figures, store, lives)


def _beside_a_server(draw: random.Random, figures: Figures, store: Path, lives: int) -> None:
    """Kill writers beside a server, and at last, if it falls so, the server."""
    reading = _Reading()
    with running_server(store) as server:
        with reading.of(server.base_url, fresh_token(server, store)):
            for _ in range(lives):
                _kill_one(draw, figures, store)
        if draw.random() < 0.5:
            time.sleep(draw.uniform(0, LONGEST_LIFE_SECONDS))
            figures.servers += 1
            for pid in server.processes():
                os.kill(pid, signal.SIGKILL)
    figures.pages += reading.pages
    figures.refusals += reading.refusals
    if reading.fault:
        raise Failed(reading.fault)
    figures.unsound += _is_unsound(store)


def _kill_one(draw: random.Random, figures: Figures, store: Path) -> None:
    (kind,) = draw.choices(_LIVES, _LIVES_WEIGHTS)
    figures.kills += 1
    if kind == "apply":
        told = _one_life(draw, store)
        figures.acknowledged += len(told)
        figures.lives_told += bool(told)
        figures.lost += _missing(store, told)
    elif kind == "import":
        figures.imports += 1
        figures.unsound += _killed(
            draw, "import", "--json", "--store", store, _file_of_follows(draw, store), store=store
        )
        figures.lost += _changes_of_import(store)
    else:
        figures.compactions += 1
        figures.unsound += _killed(
            draw, "erase", "--compact", "--store", store, f"a{draw.randrange(ACCOUNTS)}", store=store
        )
    figures.unsound += _is_unsound(store)


def _killed(draw: random.Random, *arguments: str | Path, store: Path) -> bool:
    """Run a command, kill it at any instant, and look at what it left; then run it to its end."""
    command = command_of(*arguments)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(draw.uniform(0, 2 * LONGEST_LIFE_SECONDS))
        process.kill()
    is_unsound = _is_unsound(store)
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    if done.returncode > 1 or "rror:" in done.stderr:
        raise Failed(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return is_unsound


def _file_of_follows(draw: random.Random, store: Path) -> Path:
    """Write follows of old and new accounts, some without a time."""
    path = store.with_name("follows.csv")
    newest, (rows,) = int(time.time()) - 10, draw.choices(IMPORTED_ROWS, _IMPORTED_WEIGHTS)
    accounts = ACCOUNTS + rows // 20
    lines = ["follower,followee,followed_at"]
    for _ in range(rows):
        one, other = draw.sample(range(accounts), 2)
        at = "" if draw.random() < 0.1 else newest - draw.randrange(100_000)
        lines.append(f"a{one},a{other},{at}")
    path.write_text("\n".join(lines) + "\n")
    return path


def _changes_of_import(store: Path) -> int:
    """Import the same file once more; return the number of rows that changed anything."""
    command = command_of("import", "--json", "--store", store, store.with_name("follows.csv"))
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    (counts,) = json.loads(done.stdout).values()
    return int(counts["accepted"]) + int(counts["updated"]) + int(counts["ended"])


# --- a life of the writer -------------------------------------------------------------------------------------------


def _one_life(draw: random.Random, store: Path) -> list[bytes]:
    """Let a writer run and kill it; return the events of all acknowledged groups."""
    events = list(_events(draw))
    command = command_of("apply", "--store", store)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    feeder = threading.Thread(target=_feed, args=(process, events))
    feeder.start()
    # Half of them at any time, the starting included; half when they have just begun to acknowledge.
    first = process.stdout.readline() if draw.random() < 0.5 else b""
    time.sleep(draw.uniform(0, LONGEST_LIFE_SECONDS))
    process.kill()
    told = (first + process.stdout.read()).splitlines(keepends=True)
    process.wait()
    feeder.join()
    process.stdout.close()
    whole = [json.loads(line) for line in told if line.endswith(b"\n")]
    if rejected := [each for group in whole for each in group["rejected"] if "erased" not in each["reason"]]:
        raise Failed(f"a good event was rejected: {rejected[0]}")
    return events[: whole[-1]["line"]] if whole else []


def _feed(process: subprocess.Popen[bytes], events: list[bytes]) -> None:
    assert process.stdin is not None
    try:
        for begin in range(0, len(events), PIECE):
            process.stdin.write(b"".join(events[begin : begin + PIECE]))
            process.stdin.flush()
        process.stdin.close()
    except OSError:
        return  # it was killed


def _events(draw: random.Random) -> Iterator[bytes]:
    """Yield events of the last 100,000 seconds in no order, none in the future."""
    newest = int(time.time()) - 10
    for kind in draw.choices(_KINDS, _WEIGHTS, k=EVENTS_PER_LIFE):
        event: dict[str, Any] = {"event": kind, "at": newest - draw.randrange(100_000)}
        one, other = draw.sample(range(ACCOUNTS), 2)
        if kind in ("follow", "unfollow"):
            event |= {"follower": f"a{one}", "followee": f"a{other}"}
        else:
            event["account"] = f"a{one}"
        if kind == "account":
            event |= {"display_name": f"name {other}", "username": f"n{one % 50}" if other % 2 else f"a{one}"}
        if kind == "visibility":
            event["visibility"] = draw.choice(("public", "following_hidden", "private", "withheld"))
        yield json.dumps(event).encode() + b"\n"


# --- looking for lost events ---------------------------------------------------------------------------------------


def _missing(store: Path, told: list[bytes]) -> int:
    """Apply acknowledged events again; return how many were not duplicates."""
    if not told:
        return 0
    command = command_of("apply", "--store", store)
    done = subprocess.run(command, input=b"".join(told), capture_output=True, check=False)
    groups = [json.loads(line) for line in done.stdout.splitlines()]
    if not groups or groups[-1]["line"] != len(told):
        raise Failed(f"applying again ended early: {done.stderr.decode()}")
    refused = sum("erased" not in each["reason"] for group in groups for each in group["rejected"])
    applied: int = sum(group["applied"] for group in groups)
    return refused + applied


def _is_unsound(store: Path) -> bool:
    async def problems() -> list[str]:
        with closing(open_store(str(store)).checker(SystemClock(), ROW_ENCODING)) as checker:
            return [problem async for problem in checker.problems()]

    found = asyncio.run(problems())
    for problem in found[:5]:
        print(problem)
    return bool(found)


class _Reading:
    """A reader of one list after the other; each request must be answered."""

    def __init__(self) -> None:
        self.pages = 0
        self.refusals = 0
        self.fault = ""
        self._has_ended = threading.Event()

    def of(self, base_url: str, token: str) -> "_Reading":
        """Start to read."""
        self._thread = threading.Thread(target=self._read, args=(base_url, token))
        return self

    def _read(self, base_url: str, token: str) -> None:
        with Session(base_url, token) as session:
            while not self._has_ended.is_set() and not self.fault:
                name = f"a{(self.pages + self.refusals) % ACCOUNTS}"
                try:
                    session.page("following", {"username": name, "max_count": 100})
                    self.pages += 1
                except Refused as refused:
                    self.refusals += 1
                    if refused.status != 400:
                        self.fault = str(refused)
                except Failed as failed:
                    self.fault = str(failed)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._has_ended.set()
        self._thread.join()


if __name__ == "__main__":
    sys.exit(main())
