"""Each write, sync, allocation and rename of every file that we write fails in turn: nothing is lost in silence.

A command either reports the failure, in one line and with its exit code, or has done everything; a store is sound
afterwards, nothing unfinished lies beside it, and the same command then does what it was to do.
"""

import errno
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from retinue.access.management_token import ManagementToken, management_token
from retinue.collect.journal import Journal, StartRecord, records
from retinue.errors import InputError, StoreError, StoreUnavailable
from retinue.model import Pool, Quota, QuotaKey
from retinue.quota.file_counters import FileQuotaCounters
from support.commands import list_of
from support.io_faults import Commands, Done, Fault, failing
from support.service import problems_of
from support.thorough import is_thorough

FOLLOWS = "follower,followee,followed_at\n" + "".join(f"anna,f{n},{1000 + n}\n" for n in range(40))
BAD = FOLLOWS + "anna,,5\nanna,ben,later\n"
ACCOUNTS = "username,display_name\nanna,Anna\nben,Ben\n"
EVENTS = [
    {"event": "follow", "follower": "anna", "followee": "f50", "at": 5000},
    {"event": "unfollow", "follower": "anna", "followee": "f1", "at": 6000},
    {"event": "visibility", "account": "f2", "visibility": "private", "at": 6001},
]
NAMES = ("anna", "ben", "f1", "f2")
MOST_POINTS = 12  # of a command that asks more of the disk, these are tried, evenly spread
EDGE_POINTS = 3  # at either end of a loop that repeats one call


def state_of(folder: Path) -> Any:
    """The lists in the store and its copies, the rejected rows, and clients."""
    stores = sorted(path for path in folder.glob("*.db") if not path.name.endswith(".access.db"))
    rejects = folder / "graph.rejects.jsonl"
    lists = {store.name: [sorted(list_of(store, name)) for name in NAMES] for store in stores}
    return lists, rejects.read_text() if rejects.exists() else ""


@dataclass(frozen=True)
class Case:
    """A command, what has to be there before, and what it leaves that counts."""

    words: Callable[[Path], list[str | Path]]
    before: tuple[str, ...] = ()
    state: Callable[[Path], Any] = state_of
    code: int = 0
    seen: tuple[str, ...] = ()  # calls that must be among those tried


def files_below(folder: Path) -> dict[str, bytes]:
    """All files of an export."""
    return {path.name: path.read_bytes() for path in sorted((folder / "out").glob("*"))}


def clients_of(folder: Path) -> list[str]:
    """The names of registered clients."""
    import asyncio  # noqa: PLC0415 - only here
    from contextlib import closing  # noqa: PLC0415

    from retinue.store.open import open_store  # noqa: PLC0415

    with closing(open_store(str(folder / "graph.db")).access()) as access:
        return [client.name for client in asyncio.run(access.clients())]


def on_store(*words: str) -> Callable[[Path], list[str | Path]]:
    """A command line whose words in braces are files of the folder."""
    return lambda folder: [
        *(folder / word[1:-1] if word.startswith("{") else word for word in words),
        "--store",
        folder / "graph.db",
    ]


IMPORTED = ("import",)
CASES = {
    "import": Case(on_store("import", "{follows.csv}", "--accounts", "{accounts.csv}"), seen=("link graph.db",)),
    "import again": Case(on_store("import", "{bad.csv}"), IMPORTED, code=1, seen=("rename graph.rejects.jsonl",)),
    "apply": Case(on_store("apply", "{events.jsonl}"), IMPORTED, seen=("xWrite graph.db-wal", "xSync graph.db-wal")),
    "erase": Case(on_store("erase", "--compact", "f3"), IMPORTED),
    "backup": Case(on_store("backup", "{copy.db}"), IMPORTED),
    "client": Case(on_store("client", "create", "--name", "x"), IMPORTED, clients_of),
    "jsonl": Case(on_store("export", "{out}", "--format", "jsonl"), IMPORTED, files_below),
    "graphml": Case(on_store("export", "{out}", "--format", "graphml"), IMPORTED, files_below),
}


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    """A server of forks that runs commands."""
    commands = Commands()
    yield commands
    commands.close()


@pytest.fixture(scope="module")
def grounds(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], Path]:
    """Folders to begin with: input alone, and with a store."""
    empty = tmp_path_factory.mktemp("empty")
    for name, content in (("follows", FOLLOWS), ("bad", BAD), ("accounts", ACCOUNTS)):
        (empty / f"{name}.csv").write_text(content)
    (empty / "events.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in EVENTS))
    stored = tmp_path_factory.mktemp("stored") / "x"
    shutil.copytree(empty, stored)
    done = commands.run(stored, Fault(), *CASES["import"].words(stored))
    assert 0 == done.code, done.errors
    return {(): empty, IMPORTED: stored}


def points_of(seen: list[str]) -> list[int]:
    """Which calls are to fail: all, or as many as there is time for."""
    step = max(1.0, len(seen) / MOST_POINTS)
    return sorted({round(number * step) or 1 for number in range(int(len(seen) / step) + 1)} | {len(seen)})


def points_of_loops(callers: list[tuple[int, ...]]) -> list[int]:
    """Return which calls are to fail: all, but of a loop that repeats one call a few at its ends and in the middle."""
    if is_thorough():
        return list(range(1, len(callers) + 1))
    chosen, at = [], 0
    for _, calls in groupby(callers):
        numbers = range(at + 1, at + 1 + len(list(calls)))
        at = numbers[-1]
        middle = numbers[EDGE_POINTS:-EDGE_POINTS]
        chosen += [*numbers[:EDGE_POINTS], *middle[:: len(middle) // MOST_POINTS + 1], *numbers[-EDGE_POINTS:]]
    return sorted(set(chosen))


def assert_told(done: Done, good: Done, point: str) -> None:
    """Check that a failed command reports the failure in one more line, the last."""
    assert "Traceback" not in done.errors, (point, done.errors)
    if done.code != good.code:
        told = [line for line in done.errors.splitlines() if line not in good.errors.splitlines()]
        assert (2, 1) == (done.code, len(told)), (point, done)
        assert done.errors.splitlines()[-1].startswith("retinue: "), (point, done)
        assert "unexpected error" not in done.errors, (point, done.errors)


@pytest.mark.parametrize("fault", [Fault(1), Fault(1, errno.ENOSPC, lasts=True)], ids=["error", "full"])
@pytest.mark.parametrize("name", CASES)
def test_commands_survive_a_failing_disk(
    commands: Commands,
    grounds: dict[tuple[str, ...], Path],
    tmp_path: Path,
    name: str,
    fault: Fault,
    record_property: Callable[[str, object], None],
) -> None:
    """Whichever call fails: reported or done, sound, nothing half-done, and done when run again."""
    case, folder = CASES[name], tmp_path / "disk"

    def ground() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(grounds[case.before], folder)

    ground()
    good = commands.run(folder, Fault(), *case.words(folder))
    assert case.code == good.code, good
    expected, entries = case.state(folder), entries_of(folder)
    assert set(case.seen) <= set(good.seen), good.seen
    points = points_of(good.seen)
    record_property("faults", len(points))
    for nth in points:
        ground()
        done = commands.run(folder, Fault(nth, fault.number, fault.lasts), *case.words(folder))
        point = f"{nth}: {good.seen[nth - 1]}"
        assert_told(done, good, point)
        assert entries_of(folder) <= entries, (point, done)
        if (folder / "graph.db").exists():
            assert [] == problems_of(folder / "graph.db"), point
        if done.code != case.code:
            again = commands.run(folder, Fault(), *case.words(folder))
            assert case.code == again.code or "exists" in again.errors, (point, done, again)
        assert expected == case.state(folder), (point, done)


def entries_of(folder: Path) -> set[str]:
    """Return the entries of a folder, without SQLite's own files beside a store."""
    return {path.name for path in folder.iterdir() if not path.name.endswith(("-wal", "-shm"))}


# --- files of a server and of a collection ----------------------------------------------------------------------------


def token_made(folder: Path) -> int:
    """Make the management token."""
    with suppress(InputError):
        management_token(folder / "token", bytes)
    return 0


def token_is_whole(folder: Path, _done: int) -> None:
    """Return whether the token file is whole, or absent."""
    assert isinstance(management_token(folder / "token", bytes), ManagementToken)


def journal_written(folder: Path) -> int:
    """Write lines down until one fails; how many were taken."""
    taken = 0
    with suppress(OSError), closing(Journal(folder / "journal")) as journal:
        for number in range(5):
            journal.add(StartRecord("server", number))
            taken += 1
    return taken


def journal_has(folder: Path, taken: int) -> None:
    """All that was taken is there, and at most one line more; opened again, it goes on."""
    with closing(Journal(folder / "journal")) as journal:
        journal.add(StartRecord("server", 99))
    *lines, last = [record.at for record in records(folder / "journal") if isinstance(record, StartRecord)]
    assert lines in (list(range(taken)), list(range(taken + 1)))
    assert 99 == last


def calls_counted(folder: Path) -> int:
    """Count calls, for a client that makes the file grow too; how many were taken."""
    taken = 0
    with suppress(StoreError, StoreUnavailable, OSError), closing(FileQuotaCounters(folder / "quotas")) as counters:
        for number in (1, 500, 1, 500):
            taken += counters.charge(QuotaKey(number, 1), 100, Pool.LISTS, 1, Quota()) is not None
            counters.settle()
    return taken


def counts_are_there(folder: Path, taken: int) -> None:
    """Nothing that was taken is forgotten."""
    with closing(FileQuotaCounters(folder / "quotas")) as counters:
        used = [counters.usage(QuotaKey(number, 1), 100).list_calls for number in (1, 500)]
    assert taken <= sum(used) <= taken + 1


PIECES = {
    "token": (token_made, token_is_whole),
    "journal": (journal_written, journal_has),
    "quotas": (calls_counted, counts_are_there),
}


@pytest.mark.parametrize("fault", [Fault(1), Fault(1, errno.ENOSPC, lasts=True)], ids=["error", "full"])
@pytest.mark.parametrize("name", PIECES)
def test_atomic_files_survive_a_failing_disk(
    tmp_path: Path, name: str, fault: Fault, record_property: Callable[[str, object], None]
) -> None:
    """Whichever call fails, what was taken is there, nothing unfinished lies beside it, and the file can be used."""
    work, look = PIECES[name]
    (tmp_path / "0").mkdir()
    with failing(tmp_path / "0", Fault()) as disk:
        work(tmp_path / "0")
    assert disk.seen
    points = points_of_loops(disk.callers)
    record_property("faults", len(points))
    for nth in points:
        folder = tmp_path / str(nth)
        folder.mkdir()
        with failing(folder, Fault(nth, fault.number, fault.lasts)):
            done = work(folder)
        assert {path.name for path in folder.iterdir()} <= {path.name for path in (tmp_path / "0").iterdir()}
        look(folder, done)
