"""A power cut at any instant: a store is sound afterwards, and has everything that was acknowledged before."""

import asyncio
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
from msgspec import structs
from typer.testing import CliRunner

from retinue.cli.main import app
from retinue.ingest import bulk
from retinue.model import (
    RESEARCH_SCOPE,
    Direction,
    FollowEvent,
    FollowRecord,
    PageRequest,
    RegisteredClient,
    Row,
)
from retinue.store.contract import Decision, Verdict
from retinue.store.open import OpenAccess, OpenGraph, open_store
from retinue.store.sqlite import files
from support.frozen_clock import FrozenClock, TickingClock
from support.power_cut import Cut, Recording, Step, cuts_of, recorded, survivors
from support.service import problems_of

NOW = 1_700_000_000
CUTS = 60  # of each kind of work, beside one after each answer
MARK = "zorro"

# The kind of the fact, then whose it is; `Left` has all kinds.
Fact = tuple[Any, ...]


class World:
    """A store in a recorded folder, and what was ever asked of it: the values of each fact, oldest first."""

    def __init__(self, recording: Recording, store: Path) -> None:
        self.recording = recording
        self.folder = store.parent
        self.store = str(store)
        self.values: dict[Fact, list[Any]] = {}
        self.clock = TickingClock(0.01)  # a few items fill a transaction

    @contextmanager
    def promising(self, facts: dict[Fact, Any]) -> Iterator[None]:
        """When the block ends, facts have been acknowledged."""
        for fact, value in facts.items():
            self.values.setdefault(fact, []).append(value)
        yield
        self.recording.answer({fact: len(self.values[fact]) - 1 for fact in facts})

    def follow(self, *pairs: tuple[str, str], is_follow: bool = True, at: int = NOW) -> Sequence[Decision]:
        """Have pairs applied as a group of events."""
        with (
            closing(open_store(self.store).writer(self.clock)) as writer,
            self.promising({("follow", *pair): is_follow for pair in pairs}),
        ):
            return asyncio.run(writer.apply([FollowEvent(*pair, at, is_follow) for pair in pairs], at))

    def run(self, *arguments: str | Path, exit_code: int = 0) -> str:
        """Run a command in this process."""
        done = CliRunner().invoke(app, [*map(str, arguments), "--store", self.store])
        assert exit_code == done.exit_code, done.output
        return done.output


def created(world: World) -> None:
    """Make the store."""
    with world.promising({("store",): True}):
        open_store(world.store).create()


def applied(world: World) -> None:
    """Groups of events, each through a connection of its own and all through one, and what the background does."""
    created(world)
    world.follow(*((f"a{n}", f"b{n}") for n in range(30)))
    with closing(open_store(world.store).writer(world.clock)) as other:  # the log stays
        world.follow(*((f"a{n}", f"b{n}") for n in range(10)), is_follow=False, at=NOW + 1)
        asyncio.run(other.run_maintenance())
        world.follow(*((f"a{n}", f"c{n}") for n in range(10)))
        asyncio.run(other.settle())  # a checkpoint: the log begins again
        world.follow(*((f"a{n}", f"d{n}") for n in range(20)))
        world.follow(*((f"a{n}", f"b{n}") for n in range(5)), at=NOW + 2)


def known_already(world: World) -> None:
    """Events that others have written, but not settled: maybe their process was killed."""
    created(world)
    pairs = [(f"a{n}", f"b{n}") for n in range(20)]
    with closing(open_store(world.store).writer(world.clock)) as other:
        asyncio.run(other.add_follows([FollowRecord(*pair, NOW, NOW) for pair in pairs]))
        assert set(world.follow(*pairs)) == {Verdict.DUPLICATE}


def imported(world: World) -> None:
    """Import few rows one by one; the second while a reader holds the log."""
    created(world)
    for number in range(2):
        pairs = [(f"a{n % 7}", f"{number}b{n}") for n in range(200)]
        with ExitStack() as served:
            if number:
                reader = served.enter_context(closing(apsw.Connection(world.store)))
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM account").fetchall()
            with world.promising({("follow", *pair): True for pair in pairs}):
                world.run("import", table_of(pairs, world.folder.with_name("f.csv")))


def loaded(world: World) -> None:
    """An import of many rows at once, into a store that has some and is served."""
    created(world)
    world.follow(*((f"a{n}", f"b{n}") for n in range(30)))
    pairs = [(f"a{n % 40}", f"b{n * 7 % 900}") for n in range(1_000)]
    table = table_of(pairs, world.folder.with_name("f.csv"))
    with closing(open_store(world.store).graph(world.clock)), pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk, "LARGE_ROWS", 0)
        with world.promising({("follow", *pair): True for pair in pairs}):
            world.run("import", table)
    world.follow(("a0", "later"))


def erased(world: World) -> None:
    """Erasure with the command, and compaction, which removes the rejects file too."""
    created(world)
    pairs = [(f"{MARK}{n}", f"b{m}") for n in range(3) for m in range(40)]
    rejects = world.folder / "graph.rejects.jsonl"
    rejects.write_text(MARK)
    world.recording.add(rejects)
    erased = [f"{MARK}{n}" for n in range(3)]
    gone = {("account", name): False for name in erased} | {("follow", *pair): False for pair in pairs}
    with closing(open_store(world.store).writer(world.clock)):  # the log stays
        world.follow(*pairs)
        with world.promising(gone):
            world.run("erase", *erased)
        with world.promising({("trace",): False}):
            world.run("erase", "--compact", *erased)
    world.follow(("b1", "b2"))


def access_changed(world: World) -> None:
    """Clients and tokens come, change and go, on two connections."""
    created(world)
    client = RegisteredClient("key", "first", frozenset({RESEARCH_SCOPE}), NOW, id=1)
    suspended, revoked = structs.replace(client, suspended_at=NOW), structs.replace(client, revoked_at=NOW)
    for access in opened_twice(world):
        with world.promising({("client", "key"): client}):
            asyncio.run(access.add_client(client, b"s" * 32))
        for number in range(4):
            with world.promising({("token", number): True}):
                asyncio.run(access.add_token(digest(number), client.id, NOW * 2))
        with world.promising({("token", 1): False}):
            assert asyncio.run(access.remove_token(digest(1), client.id))
        with world.promising({("client", "key"): suspended} | {("token", n): False for n in range(4)}):
            assert asyncio.run(access.suspend_client("key", NOW))
        with world.promising({("client", "key"): client} | {("token", n): n != 1 for n in range(4)}):
            assert asyncio.run(access.suspend_client("key", None))
        with world.promising({("client", "key"): revoked} | {("token", n): False for n in range(4)}):
            assert asyncio.run(access.revoke_client("key", NOW))


def revoked_already(world: World) -> None:
    """A client that another process has revoked: it was killed before the disk had that."""
    created(world)
    client = RegisteredClient("key", "first", frozenset({RESEARCH_SCOPE}), NOW, id=1)
    revoked = structs.replace(client, revoked_at=NOW)
    with closing(open_store(world.store).access()) as access:
        with world.promising({("client", "key"): client}):
            asyncio.run(access.add_client(client, b"s" * 32))
        with closing(apsw.Connection(str(files.access_path(Path(world.store))))) as killed:
            killed.execute("PRAGMA synchronous = NORMAL")
            killed.execute("UPDATE client SET revoked_at = ?", (NOW,))
            with world.promising({("client", "key"): revoked}):
                assert asyncio.run(access.revoke_client("key", NOW + 1))


def copied(world: World) -> None:
    """A backup."""
    created(world)
    world.follow(*((f"a{n}", f"b{n}") for n in range(30)))
    with world.promising({("copy", "copy.db"): {"b0"}}):
        world.run("backup", world.folder / "copy.db")


def opened_twice(world: World) -> Iterator[OpenAccess]:
    """The access file on one connection, while another keeps the log from being removed."""
    with closing(open_store(world.store).access()), closing(open_store(world.store).access()) as access:
        yield access


def digest(number: int) -> bytes:
    """A token's."""
    return bytes([number]) * 32


def table_of(pairs: list[tuple[str, str]], path: Path) -> Path:
    """A table of follows."""
    path.write_text("follower,followee,followed_at\n" + "".join(f"{a},{b},{NOW}\n" for a, b in pairs))
    return path


# --- after the cut ----------------------------------------------------------------------------------------------------


class Left:
    """A folder as a power cut left it, with a store in it."""

    def __init__(self, folder: Path, found: dict[str, bytearray]) -> None:
        self._folder = folder
        self.store = folder / "graph.db"
        for name, surviving in found.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(surviving)
            (folder / name).chmod(files.FILE_MODE)

    def problems(self) -> list[str]:
        """Return the problems that `check` finds; none if there is no store yet."""
        return problems_of(self.store) if self.store.exists() else []

    def values(self, facts: Collection[Fact]) -> dict[Fact, Any]:
        """The values of facts in a store."""
        if not self.store.exists():
            return dict.fromkeys(facts)
        with ExitStack() as opened:
            graph = opened.enter_context(closing(open_store(str(self.store)).graph(FrozenClock())))
            access = opened.enter_context(closing(open_store(str(self.store)).access()))
            followers = {fact[1] for fact in facts if fact[0] == "follow"}
            lists = {name: followed(graph, name) for name in followers}
            return {fact: self._value(fact, graph, access, lists) for fact in facts}

    def _value(self, fact: Fact, graph: OpenGraph[Row], access: OpenAccess, lists: dict[str, set[str] | None]) -> Any:
        value: Any = True  # of the store: it could be opened
        match fact:
            case ("follow", follower, followee):
                value = followee in (lists[follower] or ())
            case ("account", username):
                value = asyncio.run(graph.find_account(username)) is not None
            case ("client", key):
                found = asyncio.run(access.find_client(key))
                value = found and found[0]
            case ("token", number):
                value = asyncio.run(access.find_grant(digest(number))) is not None
            case ("trace",):  # of the erased, in any file
                value = any(MARK.encode() in path.read_bytes() for path in self._folder.rglob("*") if path.is_file())
            case ("copy", name):  # the list of its a0
                with closing(open_store(str(self._folder / name)).graph(FrozenClock())) as copy:
                    value = problems_of(self._folder / name) or followed(copy, "a0")
        return value


def lefts(steps: list[Step], folder: Path, seed: str) -> Iterator[tuple[Cut, list[Any], Left]]:
    """Yield for each cut the acknowledged writes and a folder with the remaining files."""
    for cut, answers, found in survivors(steps, cuts_of(steps, CUTS, seed)):
        folder.mkdir()
        yield cut, answers, Left(folder, found)
        shutil.rmtree(folder)


def followed(graph: OpenGraph[Row], username: str) -> set[str] | None:
    """Return the accounts that an account follows, or None without such an account."""
    account = asyncio.run(graph.find_account(username))
    if account is None:
        return None
    rows = asyncio.run(graph.read(PageRequest(account.id, Direction.FOLLOWING, 1 << 40, 1_000_000))).rows
    return {row.username for row in rows}


@pytest.mark.parametrize(
    "work",
    [applied, known_already, imported, loaded, erased, access_changed, revoked_already, copied],
    ids=lambda work: work.__name__,
)
def test_acknowledged_writes_survive_a_power_cut(tmp_path: Path, work: Callable[[World], None]) -> None:
    """Unsynced writes are lost, kept or torn: the store is sound, and nothing acknowledged is missing."""
    folder = tmp_path / "store"
    folder.mkdir()
    with recorded(folder) as recording:
        world = World(recording, folder / "graph.db")
        work(world)

    for cut, answers, left in lefts(recording.steps, tmp_path / "left", seed=work.__name__):
        told = {fact: index for answer in answers for fact, index in answer.items()}
        # A write after the last answer may have reached the disk already.
        missing = {
            fact: value for fact, value in left.values(told).items() if value not in world.values[fact][told[fact] :]
        }
        assert ({}, []) == (missing, left.problems()), f"cut after step {cut.steps} of {len(recording.steps)}"


@pytest.mark.parametrize(("synchronous", "kept"), [("OFF", 0), ("FULL", 9)])
def test_the_simulated_disk_forgets_unsynced_writes(tmp_path: Path, synchronous: str, kept: int) -> None:
    """Without syncs a power cut takes all that was committed; with them it takes nothing."""
    folder = tmp_path / "store"
    folder.mkdir()
    with recorded(folder) as recording, closing(apsw.Connection(str(folder / "graph.db"))) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE number (number)")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        for number in range(9):
            connection.execute("INSERT INTO number VALUES (?)", (number,))
        recording.answer("inserted")
    cuts = lefts(recording.steps, tmp_path / "left", synchronous)

    assert kept == next(count_of(left.store) for _, answers, left in cuts if answers)


def count_of(path: Path) -> int:
    """How many rows are in the table `number`."""
    with closing(apsw.Connection(str(path))) as connection:
        return int(connection.execute("SELECT count(*) FROM number").get)
