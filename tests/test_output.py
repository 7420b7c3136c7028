"""Output of commands: all of it arrives, or the command fails."""

import asyncio
import fcntl
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from retinue import wiring
from retinue.audit.log import AuditLog
from retinue.cli.main import app
from retinue.model import ClientChange, FollowRecord
from retinue.store.open import open_store
from support.audit_logs import BIG, checkpoint_after, record
from support.collecting import arguments_of, asked
from support.frozen_clock import FrozenClock
from support.scripted_service import Said, page, scripted
from support.waiting import waiting_for

ROWS = 3_000  # several pages

# Each command, with words that make it print. The values of the fixture fill the gaps.
PRINTING = {
    "import": "import {csv} --store {store}",
    "export": "export {folder}/exported --store {store}",
    "apply": "apply {events} --store {store}",
    "erase": "erase somebody --compact --store {store}",
    "generate": "generate --accounts 50 --follows 200 -o {folder}/sample",
    "following": "following hub --store {store} --format csv",
    "check": "check --store {store}",
    "openapi": "openapi",
    "backup": "backup {folder}/copy.db --store {store}",
    "collect": "{collect}",
    "collect verify": "collect verify {collection}",
    "collect diff": "collect diff {collection} {later}",
    "client create": "client create --name x --store {store}",
    "client change": "client change {client} --name y --store {store}",
    "client show": "client show {client} --store {store}",
    "client list": "client list --store {store}",
    "client rotate": "client rotate {client} --store {store}",
    "client suspend": "client suspend {client} --store {store}",
    "client resume": "client resume {client} --store {store}",
    "client revoke": "client revoke {client} --store {store}",
    "audit verify": "audit verify --store {store}",
    "audit show": "audit show L1 --store {store}",
    "audit usage": "audit usage --store {store}",
    "audit head": "audit head --store {store}",
    "audit confirm-clock": "audit confirm-clock --store {store}",
    "help": "client create --help",
    "version": "--version",
}
# One of each way to print: text, bytes, a table, CSV, the library's own; and those whose output cannot be had again.
KINDS = {name: PRINTING[name] for name in ("openapi", "following", "client list", "collect diff", "help")}
CHANGING = ("apply", "client create", "client rotate")
SERVING = "serve --store {store} --port 0 --management-port 0"
# `serve` prints no result, and `run` on standard error alone; `store init` needs a cluster, and the suite makes those
# that it uses with it.
NOT_HERE = {"serve", "run", "store init"}


class Collections(NamedTuple):
    """Two collections, which differ, and the URL of the service that they are from."""

    url: str
    collection: Path
    later: Path


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collections]:
    """Two collections of the same list."""
    folder = tmp_path_factory.mktemp("collections")
    names = ["ben"]

    def answer(path: str, sent: dict[str, Any]) -> Said:
        return page([{"username": name, "display_name": ""} for name in names])

    with scripted(answer) as url:
        found = Collections(url, folder / "one", folder / "two")
        assert 0 == asked(url, found.collection, ["anna"]).returncode
        names.append("carla")
        assert 0 == asked(url, found.later, ["anna"]).returncode
        yield found


@pytest.fixture
def values(tmp_path: Path, store_path: Path, collections: Collections) -> dict[str, Any]:
    """A store with a list, a client and a record; files to read; values for the gaps in commands."""
    store = str(store_path)
    open_store(store).create()
    asyncio.run(_fill(store))
    open_store(store).quotas().close()
    csv, events = tmp_path / "follows.csv", tmp_path / "events.jsonl"
    csv.write_text("follower,followee,followed_at\nanna,ben,100\n")
    events.write_text('{"event":"follow","follower":"anna","followee":"carla","at":100}\n')
    with closing(open_store(store).access()) as access:
        clients = wiring.clients(access, FrozenClock())
        client = asyncio.run(clients.create(ClientChange(name="x"))).client.key
        checkpoint = asyncio.run(access.audit_checkpoint())
        with closing(AuditLog(open_store(store).paths.audit_folder(), checkpoint, BIG, lambda: 1)) as audit_log:
            audit_log.write([record(1)])
            asyncio.run(access.save_audit_checkpoint(checkpoint_after(checkpoint, audit_log)))
    collect = " ".join(arguments_of(collections.url, tmp_path / "collected", ["anna"]))
    return {
        "store": store,
        "folder": tmp_path,
        "csv": csv,
        "events": events,
        "client": client,
        "collect": collect,
        **collections._asdict(),
    }


async def _fill(store: str) -> None:
    with closing(open_store(store).writer(FrozenClock())) as writer:
        await writer.add_follows([FollowRecord("hub", f"u{n}", 1_600_000_000 + n, 1_700_000_000) for n in range(ROWS)])


def command_of(words: str, values: dict[str, Any]) -> list[str]:
    """A command with its gaps filled."""
    return [sys.executable, "-m", "retinue", *words.format_map(values).split()]


def names_in(command: Any, words: Sequence[str] = ()) -> Iterator[str]:
    """Return the names of all commands in a group, and of groups that are commands themselves."""
    if getattr(command, "invoke_without_command", True):
        yield " ".join(words)
    for name, child in getattr(command, "commands", {}).items():
        yield from names_in(child, (*words, name))


def test_every_command_has_an_output_test() -> None:
    """A new command is added to the table, so that the tests of this file cover it."""
    assert set(names_in(typer.main.get_command(app))) == (PRINTING.keys() - {"help", "version"}) | NOT_HERE


@pytest.mark.parametrize("words", PRINTING.values(), ids=PRINTING)
def test_a_full_disk_fails_every_command(values: dict[str, Any], words: str) -> None:
    """Exit code 2 and one line."""
    with Path("/dev/full").open("wb") as full:
        done = ended(command_of(words, values), stdout=full)

    assert (2, 1) == (done.returncode, done.stderr.count("\n")), done.stderr
    assert done.stderr.startswith("retinue: standard output cannot be written: No space left on device")


@pytest.mark.parametrize("words", KINDS.values(), ids=KINDS)
def test_closed_output_fails_commands(values: dict[str, Any], words: str) -> None:
    """Exit code 2 and one line, also if another file could get the descriptor of the output."""
    done = ended(["bash", "-c", '"$@" >&-', "-", *command_of(words, values)])

    assert (2, 1) == (done.returncode, done.stderr.count("\n")), done.stderr
    assert done.stderr.startswith("retinue: standard output cannot be written: it is closed")


@pytest.mark.parametrize("output", [">/dev/full", ">&-", "> >(:)", ">&- 2>&-"])
def test_a_server_starts_without_its_greeting(store_path: Path, output: str) -> None:
    """It serves until it is stopped, since what it prints is no result."""
    open_store(str(store_path)).create()
    serving = command_of(f"{SERVING} --sandbox --faults hostile", {"store": store_path})
    command = ["bash", "-c", f'exec "$@" {output}', "-", *serving]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        waiting_for(lambda: process.poll() is not None or len(children.read_text().split()) >= 2)
        process.terminate()
        assert process.stderr is not None
        assert (0, "") == (process.wait(), process.stderr.read())


@pytest.mark.parametrize("errors", ["2>&-", "2>/dev/full"])
def test_unprintable_errors_change_no_exit_code(values: dict[str, Any], errors: str) -> None:
    """2 for what is not there, 1 for a list that is not shown, 0 for what goes well."""
    for code, words in (
        (2, "check --store {folder}/nowhere.db"),
        (1, "following nobody --store {store}"),
        (0, "apply {events} --store {folder}/new.db"),
        (127, "run --best-effort no-such-command"),
    ):
        done = ended(["bash", "-c", f'"$@" {errors}', "-", *command_of(words, values)])
        assert (code, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize("words", [*KINDS.values(), *map(PRINTING.get, CHANGING)], ids=[*KINDS, *CHANGING])
def test_a_closed_reader_ends_commands_quietly(values: dict[str, Any], words: str) -> None:
    """As if by SIGPIPE; commands that changed something for good say so."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = ended(command_of(words, values), stdout=pipe)

    changed = words in map(PRINTING.get, CHANGING)
    assert ((2, 1) if changed else (141, 0)) == (done.returncode, done.stderr.count("\n")), done.stderr


@pytest.mark.parametrize("words", PRINTING.values(), ids=PRINTING)
def test_a_slow_pipe_that_does_not_block_gets_every_byte(values: dict[str, Any], words: str) -> None:
    """The pipe is full when the command begins, and is only read when it waits for that."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    filler = fill(writing)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}  # usual in containers
    with (
        os.fdopen(reading, "rb") as pipe,
        subprocess.Popen(
            command_of(words, values), stdout=writing, stderr=subprocess.PIPE, text=True, env=environment
        ) as process,
    ):
        os.close(writing)
        wait_until_idle(process)
        received = pipe.read()
        assert process.stderr is not None
        assert (0, "") == (process.wait(), process.stderr.read())

    printed = received[filler:].decode()
    assert printed.endswith("\n")
    if "hub" in words:
        assert ["username,display_name", *(f"u{n}," for n in reversed(range(ROWS)))] == printed.splitlines()
    if words == "openapi":
        assert (Path(__file__).parent.parent / "docs" / "openapi.json").read_text() == printed


def ended(command: Sequence[str], *, stdout: Any = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=300,
    )


def fill(pipe: int) -> int:
    """Write into a pipe until it takes no more; return how many bytes."""
    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
    count = 0
    while True:
        try:
            count += os.write(pipe, b"." * select.PIPE_BUF)
        except BlockingIOError:
            return count


def wait_until_idle(process: "subprocess.Popen[str]") -> None:
    """Wait until a process has ended, or sleeps without using its processor for a while."""
    before, same = -1, 0
    while same < 5 and process.poll() is None:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].split()
        used = int(fields[11]) + int(fields[12])
        same = same + 1 if fields[0] == "S" and used == before else 0
        before = used
        time.sleep(0.1)
