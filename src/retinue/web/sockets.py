"""Facts about sockets from the operating system, and a spare descriptor."""

import errno
import fcntl
import os
import socket
import struct
import termios
from asyncio import WriteTransport
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_INT = struct.Struct("i")
_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)  # Linux only
_FIELDS = struct.Struct("24x I I 20x I")  # struct tcp_info: tcpi_unacked, tcpi_sacked, tcpi_last_data_recv


class SpareDescriptor:
    """An open descriptor, given up while another one is needed."""

    def __init__(self) -> None:
        self._descriptor: int | None = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self.is_released = False

    @contextmanager
    def released(self) -> Iterator[None]:
        """Close the descriptor during the block, which must close what it opens."""
        self.close()
        self.is_released = True
        try:
            yield
        finally:
            self.is_released = False
            try:
                self._descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:  # another thread took the descriptor; the next block cannot release it
                self._descriptor = None

    def close(self) -> None:
        """Close the spare descriptor."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def has_unread_bytes(transport: WriteTransport | None) -> bool:
    """Return whether unread bytes wait; False while reading is paused."""
    reading: Any = transport
    if reading is None or reading.is_closing() or not reading.is_reading():
        return False
    try:
        unread = fcntl.ioctl(reading.get_extra_info("socket").fileno(), termios.FIONREAD, bytes(_INT.size))
    except OSError:  # gone
        return False
    (count,) = _INT.unpack(unread)
    return bool(count)


def waited_seconds(connection: socket.socket) -> float:
    """Return how long a connection or its bytes waited; 0 if unknown."""
    return _tcp_info(connection)[2] / 1000


def is_crowded(listener: socket.socket) -> bool:
    """Return whether at least half of a listener's queue is full."""
    waiting, places, _ = _tcp_info(listener)
    return waiting > places // 2


def _tcp_info(connection: socket.socket) -> tuple[int, int, int]:
    if _TCP_INFO is None or connection.family == socket.AF_UNIX:
        return 0, 0, 0
    waiting, places, milliseconds = _FIELDS.unpack(connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _FIELDS.size))
    return waiting, places, milliseconds
