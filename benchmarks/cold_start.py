"""How long it takes until something is there: help, an import, a server that announces itself and one that answers.

Each is a process of its own; all are run in turns, so that what else the machine does falls on all of them alike.
Printed are medians with their ranges, and whether each target is met. Bytecode is there already, as it is after a
first run. .cache/bench/cold_start.json has every figure.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from graphs import CACHE, Size, generated
from running import Failed, running_server

FEWEST_RUNS = 11
SMALL = Size(accounts=1_000, follows=10_000)

_MINIMAL = """import typer
app = typer.Typer()
@app.command()
def one() -> None: "One."
@app.command()
def two() -> None: "Two."
app(["--help"])
"""
_ANNOUNCED = "retinue serve, until it announces itself"
_ANSWERED = "retinue serve, until its first answer"

# What the interpreter is given, by the name of the row.
_COMMANDS: dict[str, tuple[str, ...]] = {
    "python alone": ("-c", "pass"),
    "import typer": ("-c", "import typer"),
    "--help of a minimal Typer program": ("-c", _MINIMAL),
    "retinue --help": ("-m", "retinue", "--help"),
    "retinue serve --help": ("-m", "retinue", "serve", "--help"),
    "import msgspec": ("-c", "import msgspec"),
    "import retinue": ("-c", "import retinue"),
    "import of the supervisor": ("-c", "import retinue.serving.supervisor"),
    "import of a worker": ("-c", "import retinue.serving.worker"),
    "import of the coordinator": ("-c", "import retinue.serving.coordinator"),
}


@dataclass(frozen=True, slots=True)
class Target:
    """A row's median is at most so many times that of another one; without another one, so many seconds."""

    row: str
    most: float
    beside: str = ""

    def text(self, medians: dict[str, float]) -> str:
        """The target, what was found, and whether it is met."""
        found = medians[self.row] / (medians[self.beside] if self.beside else 1)
        unit = f"times {self.beside!r}" if self.beside else "s"
        met = "met" if found <= self.most else "MISSED"
        return f"{self.row!r} takes at most {self.most:g} {unit}: {found:.2f}, {met}"


TARGETS = (
    Target("retinue --help", 1.2, "import typer"),
    Target("retinue serve --help", 1.2, "import typer"),
    Target("retinue --help", 1.2, "--help of a minimal Typer program"),
    Target("import retinue", 1.0, "import msgspec"),
    Target(_ANNOUNCED, 1.0),
)


def main() -> int:
    """Measure and print; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the server is stopped then too
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=21)
    runs = parser.parse_args().runs
    if runs < FEWEST_RUNS:
        parser.error(f"--runs: at least {FEWEST_RUNS}")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    try:
        seconds = _measured(generated(SMALL) / "graph.db", runs)
    except Failed as failure:
        sys.stderr.write(f"cold_start: {failure}\n")
        return 1
    medians = {row: statistics.median(found) for row, found in seconds.items()}
    _print(seconds, medians)
    print(f"every run is in {_save(seconds, medians)}")
    return 0


def _measured(store: Path, runs: int) -> dict[str, list[float]]:
    """Seconds of each run, by row. The first round only brings files into memory, and bytecode beside them."""
    rows: dict[str, Callable[[], float]] = {row: _run_of(words) for row, words in _COMMANDS.items()}
    rows |= {_ANNOUNCED: lambda: _start(store, asks=False), _ANSWERED: lambda: _start(store, asks=True)}
    rounds = [{row: run() for row, run in rows.items()} for _ in range(runs + 1)][1:]
    return {row: [each[row] for each in rounds] for row in rows}


def _run_of(words: tuple[str, ...]) -> Callable[[], float]:
    def run() -> float:
        started = perf_counter()
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
        taken = perf_counter() - started
        if done.returncode:
            raise Failed(f"python {' '.join(words)}\nended with exit code {done.returncode}\n{done.stderr}")
        return taken

    return run


def _start(store: Path, *, asks: bool) -> float:
    """Seconds from the start of a server to its announcement, or to its answer to a question asked at once."""
    started = perf_counter()
    with running_server(store) as server:
        if asks:
            try:
                urllib.request.urlopen(f"{server.base_url}/", timeout=30).close()
            except urllib.error.HTTPError as answer:  # there is nothing to get, which is an answer too
                answer.close()
        return perf_counter() - started


def _print(seconds: dict[str, list[float]], medians: dict[str, float]) -> None:
    print(f"{'milliseconds, median (lowest-highest)':<44}{'':<24}beside python alone")
    alone = medians["python alone"]
    for row, found in seconds.items():
        middle, low, high = (f"{1000 * value:.1f}" for value in (medians[row], min(found), max(found)))
        print(f"{row:<44}{f'{middle} ({low}-{high})':<24}{1000 * (medians[row] - alone):+.1f}")
    for target in TARGETS:
        print(target.text(medians))


def _save(seconds: dict[str, list[float]], medians: dict[str, float]) -> Path:
    report = {
        "machine": {"python": platform.python_version(), "kernel": platform.release(), "cores": os.cpu_count()},
        "targets": [target.text(medians) for target in TARGETS],
        "seconds": seconds,
    }
    path = CACHE / "cold_start.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
