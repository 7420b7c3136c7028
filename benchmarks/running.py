"""A real server in processes of its own, for the scripts here: start, token, ask, look at its processes, stop.

Everything goes through the command line and HTTP, as a user would do it; nothing of the server is imported. A
failure raises `Failed` with a sentence for the user.
"""

import http.client
import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

# Limits for a busy machine; a coordinator alone may take 30 s to stop.
START_SECONDS = 120.0
STOP_SECONDS = 60.0
COMMAND_SECONDS = 3600.0
ANSWER_SECONDS = 60.0
# Limits that are checked and charged, and never reached.
AMPLE_LIMITS = ("--list-calls", "1000000000", "--list-rows", "100000000000", "--rate", "1000000/60")

_ANNOUNCEMENT = re.compile(r"Serving .* on (https?://\S+) \(management on (\S+)\)")
_TOKEN_PATH = "/v2/oauth/token/"  # noqa: S105 - a path
_LIST_PATH = "/v2/research/user/{}/"
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


# One core, or several.
Cores = int | tuple[int, ...]


class Failed(Exception):
    """A script cannot go on; the message is for its user."""


class Refused(Failed):
    """The server answered with another status than 200."""

    def __init__(self, message: str, status: int, content: bytes) -> None:
        super().__init__(message)
        self.status = status
        self.content = content


@dataclass(frozen=True, slots=True)
class Client:
    """A client's credentials."""

    key: str
    secret: str


def retinue(*arguments: str | Path) -> str:
    """Run one command to its end; return its standard output."""
    command = command_of(*arguments)
    try:
        done = subprocess.run(
            command, env=_environment(), capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(command)}\nhas not ended after {COMMAND_SECONDS:.0f} s") from None
    if done.returncode:
        raise Failed(f"{' '.join(command)}\nended with exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def create_client(store: str | Path, *limits: str) -> Client:
    """Register a new client, without quotas unless limits are given."""
    flags = limits or ("--no-quota",)
    answer = json.loads(retinue("client", "create", "--store", store, "--name", "benchmark", *flags, "--json"))
    return Client(answer["client_key"], answer["client_secret"])


# --- the server -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: where it answers, where it is managed, and its supervisor's process."""

    base_url: str
    management_url: str
    pid: int

    def list_url(self, direction: str) -> str:
        """Return the URL of "following" or "followers" lists."""
        return self.base_url + _LIST_PATH.format(direction)

    def processes(self) -> dict[int, str]:
        """Every process of the server with its role: supervisor, worker or coordinator."""
        roles = {self.pid: "supervisor"}
        for child in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                roles[int(child)] = _role(int(child))
        return roles

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of all its processes."""
        return sum(map(_cpu_seconds, self.processes()))

    def memory(self) -> int:
        """Return the resident bytes of all its processes."""
        return sum(map(_resident_bytes, self.processes()))

    def worker_memory(self) -> int:
        """Return the resident bytes of the workers."""
        return sum(map(_resident_bytes, self.workers()))

    def worker_seconds(self) -> dict[int, float]:
        """Return the CPU seconds of each worker, by process ID."""
        return {pid: _cpu_seconds(pid) for pid in self.workers()}

    def workers(self) -> list[int]:
        """Return the process IDs of the workers."""
        return [pid for pid, role in self.processes().items() if role == "worker"]


@contextmanager
def running_server(store: str | Path, *flags: str | Path, core: Cores | None = None) -> Iterator[Server]:
    """Run a server on free ports until the block ends.

    It announces itself when it accepts connections; here its processes are all there too.
    """
    command = command_of("serve", "--store", store, "--port", "0", "--management-port", "0", *flags)
    workers = int(str(flags[flags.index("--workers") + 1])) if "--workers" in flags else 1
    with running(command, core=core) as server:
        _await_processes(server, ["coordinator", "supervisor", *["worker"] * workers])
        yield server


def _await_processes(server: Server, roles: list[str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while sorted(server.processes().values()) != roles:
        if time.monotonic() > deadline:
            raise Failed(f"after {START_SECONDS:.0f} s the server has the processes {server.processes()}")
        time.sleep(0.005)


@contextmanager
def running(command: list[str], *, core: Cores | None = None) -> Iterator[Server]:
    """Run a program that announces itself like a server."""
    pinned = command if core is None else on_cores(core, command)
    process = subprocess.Popen(pinned, env=_environment(), stdout=subprocess.PIPE)
    try:
        yield Server(*_announced(process), process.pid)
    finally:
        _stop(process)


def on_cores(core: Cores, command: list[str]) -> list[str]:
    """The command line that runs another one on one core or several."""
    cores = [core] if isinstance(core, int) else core
    return ["taskset", "-c", ",".join(map(str, cores)), *command]


def command_of(*arguments: str | Path) -> list[str]:
    """The command line of one of our commands."""
    return [sys.executable, "-m", "retinue", *map(str, arguments)]


def _environment() -> dict[str, str]:
    """Ours, without settings that would change what is measured."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RETINUE_")}


def _announced(process: subprocess.Popen[bytes]) -> tuple[str, str]:
    """Return both addresses that the server announces."""
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], START_SECONDS)[0]:
        raise Failed(f"the server said nothing for {START_SECONDS:.0f} s")
    line = process.stdout.readline().decode()
    found = _ANNOUNCEMENT.match(line)
    if found is None:
        raise Failed(f"the server did not start; it said {line.strip()!r}")
    return found[1], found[2]


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise Failed(f"the server did not stop within {STOP_SECONDS:.0f} s of SIGTERM and was killed") from None
    finally:
        assert process.stdout is not None
        process.stdout.close()


# --- asking ---------------------------------------------------------------------------------------------------------


class Session:
    """One connection that stays open. `http.client` sets TCP_NODELAY, so no request waits for an acknowledgement."""

    def __init__(self, base_url: str, token: str = "") -> None:
        address = urlsplit(base_url)
        assert address.hostname is not None
        self._connection = http.client.HTTPConnection(address.hostname, address.port, timeout=ANSWER_SECONDS)
        self._authorization = {"Authorization": f"Bearer {token}"} if token else {}

    def following(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """Return the `data` of a page of a following list."""
        return self.page("following", query)

    def page(self, direction: str, query: Mapping[str, Any]) -> dict[str, Any]:
        """Return the `data` of a page of either list."""
        path = _LIST_PATH.format(direction)
        data: dict[str, Any] = json.loads(self._post(path, json.dumps(query), "application/json"))["data"]
        return data

    def token(self, client: Client) -> str:
        """Return a fresh token."""
        fields = {"client_key": client.key, "client_secret": client.secret, "grant_type": "client_credentials"}
        answer = self._post(_TOKEN_PATH, urlencode(fields), "application/x-www-form-urlencoded")
        return str(json.loads(answer)["access_token"])

    def raw_page(self, body: bytes) -> bytes:
        """Return the raw response to a request for a following list."""
        return self._post(_LIST_PATH.format("following"), body.decode(), "application/json")

    def _post(self, path: str, body: str, content_type: str) -> bytes:
        headers = {"Content-Type": content_type, **self._authorization}
        try:
            self._connection.request("POST", path, body.encode(), headers)
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"POST {path} {body}\ngot no answer: {error!r}") from error
        if response.status != http.HTTPStatus.OK:
            message = f"POST {path} {body}\nwas answered with {response.status} {content.decode()}"
            raise Refused(message, response.status, content)
        return content

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def fresh_token(server: Server, store: str | Path, *limits: str) -> str:
    """Return a token of a new client."""
    client = create_client(store, *limits)
    with Session(server.base_url) as session:
        return session.token(client)


# --- its processes --------------------------------------------------------------------------------------------------


def _role(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    module = next((word for word in words if word.startswith("retinue.serving.")), "unknown")
    return module.rpartition(".")[2]


def _cpu_seconds(pid: int) -> float:
    # proc(5): the name in parentheses may hold anything, utime and stime are the 12th and 13th field after it.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def _resident_bytes(pid: int) -> int:
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None, f"process {pid} has no memory"
    return int(found[1]) * 1024
