"""The processes of a server give up what they do not need: their memory is closed, so are files, programs and hosts."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from retinue.settings import Settings
from retinue.store.open import open_store
from running import Server, command_of, fresh_token, running, running_server
from support.commands import retinue
from support.intercepted import WITHOUT_LANDLOCK, needs_landlock
from support.waiting import waiting_for

# Run a command without any privilege: root keeps its user, and loses what the kernel allows only root.
UNPRIVILEGED = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None)
if os.geteuid() == 0 and (libc.prctl(28, 3, 0, 0, 0) or libc.capset(struct.pack("Ii", 0x20080522, 0), bytes(24))):
    sys.exit("privileges stay")
os.execv(sys.argv[1], sys.argv[1:])
"""
WITHOUT_PRIVILEGES = [sys.executable, "-c", UNPRIVILEGED]
# Read what is in the memory of other processes.
SNOOP = """
import sys
for pid in sys.argv[1:]:
    try:
        print(len(open(f"/proc/{pid}/environ", "rb").read()) > 0)
    except PermissionError:
        print(False)
"""
# Confine a process as the server's own are, then try everything on a list, and tell how it went.
ATTEMPTS = """
import json, os, socket, sys
from msgspec import json as typed
from retinue.store.open import open_store
from retinue.clock import SystemClock
from retinue.serving.confinement import confine
from retinue.settings import Settings

settings, role, attempts = typed.decode(sys.argv[1], type=Settings), sys.argv[2], json.loads(sys.argv[3])
confine(settings, open_store(settings.store), role)
results = {}
for name, (kind, what) in attempts.items():
    try:
        if kind == "exec":
            os.posix_spawn(what, [what], {})
        elif kind == "connect":
            socket.create_connection(("127.0.0.1", what)).close()
        elif kind == "listen":
            socket.create_server(("127.0.0.1", 0)).close()
        elif kind == "unlink":
            os.unlink(what)
        elif kind == "store":
            open_store(what).writer(SystemClock()).close()
            open_store(what).access().close()
            open_store(what).quotas().close()
        elif kind == "import":
            __import__(what)
        else:
            open(what, kind).close()
        results[name] = "done"
    except PermissionError:
        results[name] = "denied"
print(json.dumps(results))
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """An empty store in a folder with other files."""
    path = tmp_path / "data" / "graph.db"
    path.parent.mkdir()
    open_store(str(path)).create()
    (path.parent / "diary.txt").write_text("private")
    return path


@contextmanager
def unprivileged_server(store: Path, *flags: str) -> Iterator[Server]:
    """A server with all its processes, none of which has any privilege."""
    command = command_of("serve", "--store", store, "--port", "0", "--management-port", "0", *flags)
    with running([*WITHOUT_PRIVILEGES, *command]) as server:
        waiting_for(lambda: sorted(server.processes().values()) == ["coordinator", "supervisor", "worker"])
        yield server


def readable(server: Server) -> list[bool]:
    """Whether another program of the same user can read the memory of each of a server's processes."""
    command = [*WITHOUT_PRIVILEGES, sys.executable, "-c", SNOOP, *map(str, server.processes())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line == "True" for line in done.stdout.split()]


def attempted(settings: Settings, role: str, attempts: dict[str, tuple[str, Any]]) -> dict[str, str]:
    """Return the results of attempts in a process confined for a role."""
    from msgspec import json as typed  # noqa: PLC0415 - only here

    command = [sys.executable, "-c", ATTEMPTS, typed.encode(settings).decode(), role, json.dumps(attempts)]
    with open_store(settings.store).held_open():
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "" == done.stderr
    results: dict[str, str] = json.loads(done.stdout)
    return results


@pytest.mark.parametrize("flags", [(), ("--sandbox",)], ids=["server", "sandbox"])
def test_memory_is_closed_and_never_dumped(store: Path, flags: tuple[str, ...]) -> None:
    """In every process of a server: no core file, no new privileges, no look at its memory."""
    with unprivileged_server(store, *flags) as server:
        waiting_for(lambda: not any(readable(server)))
        pids = list(server.processes())
        statuses = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
        limits = [Path(f"/proc/{pid}/limits").read_text() for pid in pids]
    assert 3 == len(pids)
    assert all("NoNewPrivs:\t1\n" in status for status in statuses)
    assert all(["0", "0"] == line.split()[4:6] for text in limits for line in text.splitlines() if "core file" in line)


def test_confinement_can_be_switched_off(store: Path) -> None:
    """By a flag, such as for a debugger: then memory can be read, and the same test would see it."""
    with unprivileged_server(store, "--no-confinement") as server:
        assert [True] * 3 == readable(server)
        assert all("NoNewPrivs:\t0\n" in Path(f"/proc/{pid}/status").read_text() for pid in server.processes())


@pytest.fixture
def attempts(store: Path, tmp_path: Path) -> Iterator[dict[str, tuple[str, Any]]]:
    """Return actions that a process must not be able to do, and those it needs."""
    import socket  # noqa: PLC0415 - only here

    audit = tmp_path / "elsewhere"
    audit.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield {
            "reads another file beside the store": ("rb", str(store.parent / "diary.txt")),
            "writes there": ("wb", str(store.parent / "new.txt")),
            "removes there": ("unlink", str(store.parent / "diary.txt")),
            "reads the accounts of the system": ("rb", "/etc/passwd"),
            "starts a program": ("exec", "/bin/true"),
            "connects": ("connect", listener.getsockname()[1]),
            "listens": ("listen", None),
            "writes the audit log": ("wb", str(audit / "000.jsonl")),
            "opens the store": ("store", str(store)),
            "imports a module": ("import", "xml.dom.minidom"),
            "reads its own memory map": ("rb", "/proc/self/maps"),
        }


NEEDED = {"opens the store", "imports a module", "reads its own memory map"}


@needs_landlock
@pytest.mark.parametrize(("role", "more"), [("worker", set[str]()), ("coordinator", {"writes the audit log"})])
def test_a_process_opens_its_own_files_alone(
    store: Path, tmp_path: Path, attempts: dict[str, tuple[str, Any]], role: str, more: set[str]
) -> None:
    """It can neither read nor write others, nor start a program, nor connect, nor listen."""
    open_store(str(store)).quotas().close()  # the supervisor makes the file
    settings = Settings(store=str(store), audit_folder=str(tmp_path / "elsewhere"))

    results = attempted(settings, role, attempts)

    assert NEEDED | more == {name for name, result in results.items() if result == "done"}


def test_the_same_actions_succeed_without_confinement(
    store: Path, tmp_path: Path, attempts: dict[str, tuple[str, Any]]
) -> None:
    """So it is the confinement that forbids it."""
    open_store(str(store)).quotas().close()
    settings = Settings(store=str(store), audit_folder=str(tmp_path / "elsewhere"), no_confinement=True)

    assert {"done"} == set(attempted(settings, "worker", attempts).values())


@needs_landlock
def test_renewed_certificates_can_be_read(store: Path, tmp_path: Path) -> None:
    """Renewed ones are new files, often behind a link in another folder."""
    open_store(str(store)).quotas().close()
    live, archive = tmp_path / "live", tmp_path / "archive"
    for folder in (live, archive):
        folder.mkdir()
    for name in ("cert.pem", "key.pem"):
        (archive / name).write_text("old")
        (live / name).symlink_to(archive / name)
    (archive / "cert2.pem").write_text("new")
    settings = Settings(store=str(store), tls_cert=str(live / "cert.pem"), tls_key=str(live / "key.pem"))

    results = attempted(
        settings, "worker", {"link": ("rb", str(live / "cert.pem")), "renewed": ("rb", str(archive / "cert2.pem"))}
    )

    assert {"link": "done", "renewed": "done"} == results


def has_tokens(audit: Path, number: int) -> bool:
    """Whether a log has so many calls for tokens."""
    return number == sum(path.read_bytes().count(b'"endpoint":"token"') for path in audit.glob("*.jsonl"))


def test_a_confined_server_serves_and_leaves_no_logs_of_sqlite(store: Path, tmp_path: Path) -> None:
    """Tokens, answers and audit are as ever, with the audit log elsewhere, and after a restart of each process."""
    audit = tmp_path / "elsewhere"
    with running_server(store, "--audit-folder", audit) as server:
        for number in (1, 2):
            assert fresh_token(server, store)
            waiting_for(partial(has_tokens, audit, number))  # a kill takes what was not sent yet
            children = [pid for pid, role in server.processes().items() if role != "supervisor"]
            for pid in children:
                os.kill(pid, 9)
            waiting_for(partial(replaced, server, children))
        assert fresh_token(server, store)
    names = sorted(path.name for path in store.parent.iterdir())
    assert 0 == retinue("audit", "verify", "--store", store, "--audit-folder", audit).returncode
    assert names == [
        "diary.txt",
        "graph.access.db",
        "graph.db",
        "graph.management-token",
        "graph.quotas",
        "graph.rows",
    ]


def replaced(server: Server, children: list[int]) -> bool:
    """Return whether coordinator and worker run in new processes."""
    roles = {pid: role for pid, role in server.processes().items() if pid not in children}
    return sorted(roles.values()) == ["coordinator", "supervisor", "worker"]


@pytest.mark.parametrize(
    ("within", "flags", "words"),
    [
        (
            WITHOUT_LANDLOCK,
            (),
            "INFO retinue.serving confinement: memory closed to other processes, no core files; not Landlock",
        ),
        (WITHOUT_LANDLOCK, ("--no-confinement",), "INFO retinue.serving confinement: switched off"),
        pytest.param((), (), "INFO retinue.serving confinement: memory closed", marks=needs_landlock),
    ],
    ids=["no Landlock", "off", "Landlock"],
)
def test_the_log_names_the_confinement_of_a_server(
    store: Path, tmp_path: Path, within: tuple[str, ...], flags: tuple[str, ...], words: str
) -> None:
    """A server runs where the kernel forbids Landlock as well, and says so."""
    command = [*within, sys.executable, "-m", "retinue", "serve", "--store", str(store), "--log-level", "info"]
    command += ["--port", "0", "--management-port", "0", *flags]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"Serving ")
    process.terminate()
    process.communicate()
    said = [line for line in (tmp_path / "log").read_text().splitlines() if "confinement" in line]

    assert 0 == process.returncode
    assert 1 == len(said)
    assert words in said[0]
