"""A throw-away server with a made-up graph, for a command that was given no server: the same graph each time."""

import csv
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from retinue.local import LocalServer
from retinue.sample import Size, write_sample

# Large enough for a list of several pages of 100, small enough to be there in half a second.
SIZE = Size(accounts=1_000, follows=10_000, seed=1)


class Sandbox(Struct, frozen=True):
    """Where it answers, whom, and a username worth asking for: nobody's list is longer."""

    url: str
    client_key: str
    client_secret: str
    username: str


def fill(server: LocalServer, folder: Path) -> str:
    """Load the graph, by files in a folder; the username with the longest list."""
    accounts, follows = write_sample(SIZE, folder)
    server.load_files(accounts, follows)
    public = {row["username"] for row in _rows(accounts) if row["visibility"] == "public"}
    lengths = Counter(row["follower"] for row in _rows(follows) if row["follower"] in public)
    return lengths.most_common(1)[0][0]


@contextmanager
def sandbox(folder: Path) -> Iterator[Sandbox]:
    """A server in this process, as long as the block lasts."""
    server = LocalServer(folder)
    username = fill(server, folder / "sample")
    with server.answering():
        yield Sandbox(server.url, server.client_key, server.client_secret, username)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
