"""A temporary server for a run without `--server`."""

import os
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from msgspec import Struct

from retinue.faults import DOCUMENTED, Faults
from retinue.local import LocalServer, read_csv
from retinue.sample import SampleSize, write_sample

# Large enough for a list of several pages, small enough to load in half a second.
SIZE = SampleSize(accounts=1_000, follows=10_000, seed=1)


class SandboxAccess(Struct, frozen=True):
    """The socket, client and store of a sandbox. `username` has the longest list of the sample."""

    socket: str
    client_key: str
    client_secret: str
    store: str
    username: str = ""


def fill(server: LocalServer, folder: Path) -> str:
    """Load the sample; return the username with the longest list."""
    accounts, follows = write_sample(SIZE, folder)
    server.load_files(accounts, follows)
    public = {row["username"] for row in read_csv(accounts) if row["visibility"] == "public"}
    lengths: Counter[str] = Counter(row["follower"] for row in read_csv(follows) if row["follower"] in public)
    return lengths.most_common(1)[0][0]


@contextmanager
def sandbox(folder: Path, store: str = "", faults: Faults = DOCUMENTED) -> Iterator[SandboxAccess]:
    """Serve a store's graph or a sample during the block. Raises `InputError`.

    Any client key is accepted with the secret that first comes with it. So the server listens on a socket in the
    folder, which must be closed to other users; a port would show them the store.
    """
    with _listener(folder) as (listener, path):
        server = LocalServer(folder, graph=store, registers=True, listener=listener)
        username = "" if store else fill(server, folder / "sample")
        server.faults = faults
        with server.answering():
            yield SandboxAccess(path, server.client_key, server.client_secret, server.graph, username)


@contextmanager
def _listener(folder: Path) -> Iterator[tuple[socket.socket, str]]:
    """Yield a listening Unix socket in a folder, and its path."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        path = f"/proc/self/fd/{descriptor}/socket"  # the real path may be too long for a socket
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as listener:
            listener.bind(path)
            listener.listen()  # from now on connections wait
            yield listener, path
    finally:
        os.close(descriptor)
