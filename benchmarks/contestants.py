"""The three servers of the comparison, and their requests.

Retinue runs with everything on. nginx, the limit, sends files with the bytes of Retinue's answers from one worker
process: `sendfile` and `tcp_nopush` let head and file leave in one packet, files and connections stay open, nothing is
logged.
"""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from debian import NGINX, as_servant, give_to_servant
from postgres import load_handmade_tables, make_cluster, running_cluster, warm
from running import AMPLE_LIMITS, Client, Failed, Server, Session, fresh_token, running, running_server
from workload import BODIES, SEED, Traffic, write_lines

LIMIT = "nginx"
HANDMADE = "hand-made"
OURS = "Retinue"
NGINX_PAGES = 4000
COMPARED_ANSWERS = 300
START_SECONDS = 10.0
STOP_SECONDS = 10.0

_CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 1024; use epoll; multi_accept on; }}
http {{
    access_log off;
    types {{ }}
    default_type application/json;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    open_file_cache max=100000 inactive=1h;
    open_file_cache_valid 1h;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; root {folder}/pages; }}
}}
"""

Bodies = Mapping[int, Sequence[bytes]]  # by max_count


@dataclass(frozen=True, slots=True)
class Place:
    """A temporary folder for the servers, the graph's folder, and a core."""

    folder: Path
    graph: Path
    core: int

    def part(self, name: str) -> Path:
        """Return a folder within; make it if needed."""
        path = self.folder / name
        path.mkdir(exist_ok=True)
        return path


@dataclass(frozen=True, slots=True)
class Contestant:
    """A running server: its name, its root processes, and its requests by max_count."""

    name: str
    server: Server
    roots: tuple[int, ...]
    traffic: Mapping[int, Traffic]


# --- Retinue --------------------------------------------------------------------------------------------------------


@contextmanager
def retinue_contestant(place: Place, bodies: Bodies) -> Iterator[Contestant]:
    """Run Retinue with one worker and everything on."""
    store = place.graph / "graph.db"
    flags = ("--workers", "1", "--audit-folder", place.part("audit"))
    with running_server(store, *flags, core=place.core) as server:
        token = fresh_token(server, store, *AMPLE_LIMITS)
        yield Contestant(OURS, server, (server.pid,), _posted(place, bodies, token))


def _posted(place: Place, bodies: Bodies, token: str) -> dict[int, Traffic]:
    return {
        max_count: Traffic(write_lines(place.folder / f"bodies-{max_count}.jsonl", lines), token)
        for max_count, lines in bodies.items()
    }


# --- the hand-made service ------------------------------------------------------------------------------------------


def load_handmade(place: Place) -> Client:
    """Fill a new database; return a client of it."""
    folder = place.part("postgres")
    make_cluster(folder)
    with running_cluster(folder, {"fsync": "off"}) as cluster:
        files = place.graph / "accounts.parquet", place.graph / "follows.parquet"
        return load_handmade_tables(cluster, *files, place.part("scratch"))


@contextmanager
def handmade_contestant(place: Place, bodies: Bodies, client: Client) -> Iterator[Contestant]:
    """Run the hand-made service and PostgreSQL, both on one core."""
    with running_cluster(place.part("postgres"), core=place.core) as cluster:
        warm(cluster)
        command = [sys.executable, str(Path(__file__).with_name("handmade_service.py")), cluster.address]
        with running(command, core=place.core) as server:
            with Session(server.base_url) as session:
                token = session.token(client)
            yield Contestant(HANDMADE, server, (server.pid, cluster.pid), _posted(place, bodies, token))


# --- nginx ----------------------------------------------------------------------------------------------------------


@contextmanager
def nginx_contestant(place: Place, ours: Contestant, bodies: Bodies) -> Iterator[Contestant]:
    """Serve Retinue's answers as files, drawn heavy-tailed."""
    folder, random = place.part("nginx"), np.random.default_rng(SEED)
    traffic = {}
    for max_count, all_bodies in bodies.items():
        with Session(ours.server.base_url, ours.traffic[max_count].token) as session:
            pages = [session.raw_page(body) for body in all_bodies[:NGINX_PAGES]]
        paths = _write_pages(folder, str(max_count), pages)
        shares = 1.0 / np.arange(1, len(paths) + 1)
        file = place.folder / f"paths-{max_count}.txt"
        file.write_text("\n".join(random.choice(paths, size=BODIES, p=shares / shares.sum()).tolist()))
        traffic[max_count] = Traffic(file, "")
    with _running_nginx(folder, core=place.core) as server:
        yield Contestant(LIMIT, server, (server.pid,), traffic)


def _write_pages(folder: Path, name: str, pages: Sequence[bytes]) -> list[str]:
    """Write answers below nginx's root; return the paths to get them by."""
    place = folder / "pages" / name
    place.mkdir(parents=True)
    for number, page in enumerate(pages):
        (place / f"{number}.json").write_bytes(page)
    return [f"/{name}/{number}.json" for number in range(len(pages))]


@contextmanager
def _running_nginx(folder: Path, *, core: int) -> Iterator[Server]:
    """Serve the pages of a folder until the block ends."""
    path = NGINX.path()
    assert path is not None, "debian.require comes first"
    port = _free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(folder=folder, port=port))
    give_to_servant(folder)
    command = as_servant([path, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(configuration)])
    process = subprocess.Popen(["taskset", "-c", str(core), *command], stderr=subprocess.PIPE)
    try:
        _await_start(process, port)
        address = f"http://127.0.0.1:{port}"
        yield Server(address, address, process.pid)
    finally:
        _stop(process)


def _free_port() -> int:
    """Return a free port, since nginx cannot choose one itself."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _await_start(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    process.kill()
    assert process.stderr is not None
    raise Failed(f"nginx did not start; it said\n{process.stderr.read().decode()}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert process.stderr is not None
    process.stderr.close()


# --- comparing answers ----------------------------------------------------------------------------------------------


def require_same_answers(ours: Contestant, theirs: Contestant, bodies: Bodies) -> int:
    """Compare both servers' answers; return their number. Raises `Failed` at the first difference."""
    count = 0
    for max_count, all_bodies in bodies.items():
        sample = all_bodies[:: max(1, len(all_bodies) // COMPARED_ANSWERS)]
        sessions = [Session(each.server.base_url, each.traffic[max_count].token) for each in (ours, theirs)]
        with sessions[0] as mine, sessions[1] as others:
            for body in sample:
                found = [_without_log_id(session.raw_page(body)) for session in (mine, others)]
                if found[0] != found[1]:
                    raise Failed(f"{body.decode()}\nis answered differently:\n{found[0]}\n{found[1]}")
        count += len(sample)
    return count


def _without_log_id(answer: bytes) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(answer)
    del decoded["error"]["log_id"]
    return decoded
