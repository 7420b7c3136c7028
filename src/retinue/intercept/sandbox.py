"""A throw-away server for a command that was given no server: on a store's graph, or on a made-up one."""

import csv
import os
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from msgspec import Struct

from retinue.faults import DOCUMENTED, Faults
from retinue.local import LocalServer
from retinue.sample import SampleSize, write_sample

# Large enough for a list of several pages of 100, small enough to be there in half a second.
SIZE = SampleSize(accounts=1_000, follows=10_000, seed=1)


class Sandbox(Struct, frozen=True):
    """The path of its socket, its client, the store with its graph, and the username of a sample's longest list."""

    socket: str
    client_key: str
    client_secret: str
    store: str
    username: str = ""


def fill(server: LocalServer, folder: Path) -> str:
    """Load the graph, by files in a folder; the username with the longest list."""
    accounts, follows = write_sample(SIZE, folder)
    server.load_files(accounts, follows)
    public = {row["username"] for row in _rows(accounts) if row["visibility"] == "public"}
    lengths = Counter(row["follower"] for row in _rows(follows) if row["follower"] in public)
    return lengths.most_common(1)[0][0]


@contextmanager
def sandbox(folder: Path, store: str = "", faults: Faults = DOCUMENTED) -> Iterator[Sandbox]:
    """A server in this process, as long as the block lasts, on a store's graph or a sample. Raises `InputError`.

    Any client key is good, since scripts have their own written down, with the secret that first comes with it. So it
    listens on a socket in the folder, which must be closed to other users: a port would show them the store.
    """
    with _listener(folder) as (listener, path):
        server = LocalServer(folder, graph=store, registers=True, listener=listener)
        username = "" if store else fill(server, folder / "sample")
        server.faults = faults
        with server.answering():
            yield Sandbox(path, server.client_key, server.client_secret, server.graph, username)


@contextmanager
def _listener(folder: Path) -> Iterator[tuple[socket.socket, str]]:
    """A listening Unix socket in a folder, and the path at which this process reaches it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        path = f"/proc/self/fd/{descriptor}/socket"  # the folder's own path may be too long for a socket
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as listener:
            listener.bind(path)
            listener.listen()  # from now on connections wait instead of failing
            yield listener, path
    finally:
        os.close(descriptor)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
