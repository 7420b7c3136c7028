"""Wait for another process: for a condition, never for a length of time."""

import socket
import time
from collections.abc import Callable
from pathlib import Path

# A busy machine may take so long for anything; a test that waits in vain fails.
PATIENCE_SECONDS = 120.0
_OPEN = ("01", "08")  # established, or closed by us alone


def waiting_for(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Return as soon as the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def waiting_until_accepted(connection: socket.socket) -> None:
    """Come back when the process at the other end of a local connection has accepted it."""
    ports = ports_of(connection)
    waiting_for(lambda: any(inode != "0" for _, inode in _other_ends(ports)))


def waiting_until_read(connection: socket.socket) -> None:
    """Come back when the other end has read all that was sent, or has closed the connection."""
    ports = ports_of(connection)
    waiting_for(lambda: all(inode != "0" and unread == 0 for unread, inode in _other_ends(ports)))


def waiting_until_gone(ports: tuple[int, int]) -> None:
    """Come back when the other end has noticed that we closed a connection, and has closed it too."""
    waiting_for(lambda: not any(inode != "0" for _, inode in _other_ends(ports)))


def ports_of(connection: socket.socket) -> tuple[int, int]:
    """Return the other end's port and ours."""
    return connection.getpeername()[1], connection.getsockname()[1]


def _other_ends(ports: tuple[int, int]) -> list[tuple[int, str]]:
    """Return unread bytes and inode of the socket at the first of two ports; 0 before accept."""
    wanted = [f"0100007F:{port:04X}" for port in ports]
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [(int(row[4].partition(":")[2], 16), row[9]) for row in rows if row[1:3] == wanted and row[3] in _OPEN]
