"""Kill the writing process at random instants while pages are read, and look for lost events.

Each life of the writer is a `retinue apply` that gets a seeded mix of events of all kinds through a pipe, in small
pieces, and is killed (SIGKILL) at a random instant: while it starts, between groups, in the middle of one. Every event
of a group that was acknowledged is then applied again: it must be a duplicate, or rejected as erased if its account was
erased meanwhile. `check` must find every invariant whole. A server reads pages of the
store all the time.
"""

import argparse
import asyncio
import json
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
    print(f"{figures.pages:,} pages read meanwhile, and {figures.refusals:,} refusals for hidden accounts")
    return 1 if figures.lost or figures.unsound else 0


def _one_store(draw: random.Random, figures: Figures, kills: int) -> None:
    """Kill writers of one store, beside a server."""
    with tempfile.TemporaryDirectory(prefix="retinue-crash-") as folder:
        store = Path(folder) / "graph.db"
        open_store(str(store)).create()
        reading = _Reading()
        with running_server(store) as server, reading.of(server.base_url, fresh_token(server, store)):
            for _ in range(kills):
                told = _one_life(draw, store)
                figures.kills += 1
                figures.acknowledged += len(told)
                figures.lives_told += bool(told)
                figures.lost += _missing(store, told)
                figures.unsound += _is_unsound(store)
        figures.pages += reading.pages
        figures.refusals += reading.refusals
        if reading.fault:
            raise Failed(reading.fault)


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
