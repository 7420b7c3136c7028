"""Memory of a server, its time to start, bytes a follow."""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import apsw

from debian import WRK
from figures import MIB, spread
from running import Failed, Server, fresh_token, retinue, running_server
from scenario import CLIENT_CORE, SERVER_CORE, Report, Scenario
from workload import Size, Traffic, drive, generate, generated, write_bodies

# --- memory ---------------------------------------------------------------------------------------------------------

_PATH = b"/v2/research/user/following/"
_ANSWER_SECONDS = 30


@dataclass(frozen=True, slots=True)
class MemoryOptions:
    """The number of requests, and the length of a round."""

    requests: int = 1_000_000  # answered with 200
    seconds: int = 20
    odd: int = 2_000  # refused and broken requests after each round


def measure_memory(options: MemoryOptions) -> Report:
    """Print resident memory after each round of requests.

    Refused are wrong tokens, unknown accounts, bad parameters, other paths and methods, bytes that are not HTTP, heads
    and bodies that are too long.
    """
    graph = generated(Size(10_000, 100_000))
    rounds: list[dict[str, float]] = []
    print(f"{'answers':>10} {'others':>8} {'all MiB':>8} {'worker MiB':>10} {'open files':>10}")
    with running_server(graph / "graph.db", core=SERVER_CORE) as server:
        traffic = Traffic(write_bodies(graph, 20), fresh_token(server, graph / "graph.db"))
        answered = others = 0
        while answered < options.requests:
            answered += drive(server, traffic, options.seconds, core=CLIENT_CORE, first=answered).requests
            for request in _odd_requests(traffic.token, options.odd):
                _exchange(server, request)
            others += options.odd
            files = sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in server.workers())
            memory, worker = server.memory() / MIB, server.worker_memory() / MIB
            print(f"{answered:>10,} {others:>8,} {memory:>8.1f} {worker:>10.1f} {files:>10}", flush=True)
            rounds.append({"answers": answered, "others": others, "mib": memory, "worker_mib": worker, "files": files})
    return Report({"rounds": rounds})


def _odd_requests(token: str, count: int) -> list[bytes]:
    """Return requests of each kind in turn."""
    kinds = [
        _post(_PATH, b"{}", "wrong"),
        _post(_PATH, b'{"username":"no.such.account"}', token),
        _post(_PATH, b'{"username":"x","max_count":0}', token),
        _post(_PATH, b"[" * 50_000, token),
        _post(_PATH, b"x" * 70_000, token),
        _post(b"/v2/other/", b"{}", token),
        b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % _PATH,
        b"\x16\x03\x01 not HTTP\r\n\r\n",
        b"POST / HTTP/1.1\r\nX: %b\r\n\r\n" % (b"y" * 40_000),
        _post(_PATH, b'{"username":"x"}', token)[:-5],  # not complete
    ]
    return [kinds[number % len(kinds)] for number in range(count)]


def _post(path: bytes, body: bytes, token: str) -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n"
    return head % (path, token.encode(), len(body)) + body


def _exchange(server: Server, request: bytes) -> None:
    """Send a request on a new connection, read the answer, and close."""
    address = urlsplit(server.base_url)
    with (
        suppress(OSError),  # the server may refuse before it has read all
        socket.create_connection((address.hostname, address.port), timeout=_ANSWER_SECONDS) as connection,
    ):
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass


# --- start ----------------------------------------------------------------------------------------------------------

_MINIMAL = """import typer
app = typer.Typer()
@app.command()
def one() -> None: "One."
@app.command()
def two() -> None: "Two."
app(["--help"])
"""
_ANNOUNCED = "retinue serve, until its announcement"
_ANSWERED = "retinue serve, until its first answer"

# The arguments of the interpreter for each row.
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
class StartTarget:
    """A bound in seconds, or in multiples of another row."""

    row: str
    bound: float
    beside: str = ""

    def text(self, medians: dict[str, float]) -> str:
        """Return the target, the figure and the verdict."""
        found = medians[self.row] / (medians[self.beside] if self.beside else 1)
        unit = f"times {self.beside!r}" if self.beside else "s"
        met = "met" if found <= self.bound else "MISSED"
        return f"{self.row!r} takes at most {self.bound:g} {unit}: {found:.2f}, {met}"


_START_TARGETS = (
    StartTarget("retinue --help", 1.2, "import typer"),
    StartTarget("retinue serve --help", 1.2, "import typer"),
    StartTarget("retinue --help", 1.2, "--help of a minimal Typer program"),
    StartTarget("import retinue", 1.0, "import msgspec"),
    StartTarget(_ANNOUNCED, 1.0),
)


@dataclass(frozen=True, slots=True)
class StartOptions:
    """The number of runs."""

    runs: int = 21


def measure_start(options: StartOptions) -> Report:
    """Print the time until help, imports, announcements and answers.

    Bytecode exists already, as after a first run.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    store = generated(Size(1_000, 10_000)) / "graph.db"
    rows: dict[str, Callable[[], float]] = {row: _run_of(words) for row, words in _COMMANDS.items()}
    rows |= {_ANNOUNCED: lambda: _start(store, asks=False), _ANSWERED: lambda: _start(store, asks=True)}
    # The first round only brings files and bytecode into memory.
    rounds = [{row: run() for row, run in rows.items()} for _ in range(options.runs + 1)][1:]
    seconds = {row: [each[row] for each in rounds] for row in rows}
    medians = {row: statistics.median(values) for row, values in seconds.items()}
    print(f"{'milliseconds, median (lowest-highest)':<44}{'':<24}beside python alone")
    for row, values in seconds.items():
        more = 1000 * (medians[row] - medians["python alone"])
        print(f"{row:<44}{spread(1000 * each for each in values):.1f}".ljust(68) + f"{more:+.1f}")
    targets = [target.text(medians) for target in _START_TARGETS]
    print("\n".join(targets))
    return Report({"targets": targets, "seconds": seconds})


def _run_of(words: tuple[str, ...]) -> Callable[[], float]:
    def run() -> float:
        started = time.perf_counter()
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
        taken = time.perf_counter() - started
        if done.returncode:
            raise Failed(f"python {' '.join(words)}\nended with exit code {done.returncode}\n{done.stderr}")
        return taken

    return run


def _start(store: Path, *, asks: bool) -> float:
    """Return the seconds until the announcement or the first answer."""
    started = time.perf_counter()
    with running_server(store) as server:
        if asks:
            try:
                urllib.request.urlopen(f"{server.base_url}/", timeout=30).close()
            except urllib.error.HTTPError as answer:  # any answer will do
                answer.close()
        return time.perf_counter() - started


# --- size -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SizeOptions:
    """The size of the graph."""

    accounts: int = 200_000
    follows: int = 10_000_000


def measure_size(options: SizeOptions) -> Report:
    """Import accounts, then follows, and print the growth of tables."""
    with tempfile.TemporaryDirectory(prefix="retinue-size-") as name:
        folder = Path(name)
        store = folder / "graph.db"
        generate(Size(options.accounts, options.follows), folder)
        retinue("import", "--store", store, "--accounts", folder / "accounts.csv")
        before, tables_before = store.stat().st_size, _tables(store)
        start = time.perf_counter()
        retinue("import", "--store", store, folder / "follows.csv")
        seconds = time.perf_counter() - start
        grown = store.stat().st_size - before
        tables = {table: size - tables_before.get(table, 0) for table, size in _tables(store).items()}
    print(f"{options.accounts:,} accounts take {before:,} bytes, {options.follows:,} follows {grown:,} bytes more")
    for table, size in tables.items():
        if size > options.follows // 100:
            print(f"{size / options.follows:>8.2f}  {table}")
    print(f"{grown / options.follows:>8.2f}  bytes a follow in all")
    print(f"imported in {seconds:,.0f} s: {options.follows / seconds:,.0f} follows a second")
    return Report({"accounts_bytes": before, "follows_bytes": grown, "tables": tables, "import_seconds": seconds})


def _tables(store: Path) -> dict[str, int]:
    """Return the bytes of each table and index, the largest first."""
    connection = apsw.Connection(str(store), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return dict(connection.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC"))
    finally:
        connection.close()


SCENARIOS: Mapping[str, Scenario[Any]] = {
    "memory": Scenario(measure_memory, MemoryOptions(), MemoryOptions(1_000, seconds=1, odd=100), programs=(WRK,)),
    "start": Scenario(measure_start, StartOptions(), StartOptions(runs=2), cores=1),
    "size": Scenario(measure_size, SizeOptions(), SizeOptions(500, 20_000), cores=1),
}
