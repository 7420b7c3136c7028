"""nginx as the limit: it sends ready answers of the same bytes as static files, from one worker process.

`sendfile` and `tcp_nopush` let head and file leave in one packet; files stay open, connections stay alive, nothing is
logged. Runs as whoever started it, or as a servant of root, and writes only into its own folder.
"""

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from debian import NGINX, as_servant, give_to_servant
from running import Failed, Server

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


def write_pages(folder: Path, name: str, pages: Sequence[bytes]) -> list[str]:
    """Put answers where nginx will find them; the paths by which they are asked for."""
    place = folder / "pages" / name
    place.mkdir(parents=True)
    for number, page in enumerate(pages):
        (place / f"{number}.json").write_bytes(page)
    return [f"/{name}/{number}.json" for number in range(len(pages))]


@contextmanager
def running_nginx(folder: Path, *, core: int) -> Iterator[Server]:
    """A server of the pages of a folder and a free port, on one core; stopped at the end of the block."""
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
    """A port that was free just now: unlike the other servers nginx cannot choose one itself."""
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
