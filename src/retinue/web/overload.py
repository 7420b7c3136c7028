"""Overload detection: whether more connections come than can be served.

A burst is served late rather than refused: connections wait in the listener's queue. If one has waited for too long, or
the queue is half full, the rest are refused as soon as they have waited for a few milliseconds. That keeps the queue
short, so that served and refused connections wait for little. It ends after a while without refusals.
"""

import socket
import struct

OVERLOADED_SECONDS = 0.03
CALM_SECONDS = 5.0

_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)  # Linux alone
_FIELDS = struct.Struct("24x I I 20x I")  # struct tcp_info: tcpi_unacked, tcpi_sacked, tcpi_last_data_recv


class Overload:
    """Remembers until when patience is short. Times are in seconds."""

    def __init__(self, burst_seconds: float) -> None:
        self._burst_seconds = burst_seconds
        self._short_until = float("-inf")

    def patience(self, now: float) -> float:
        """Return how long a connection may have waited."""
        return OVERLOADED_SECONDS if self.is_on(now) else self._burst_seconds

    def is_on(self, now: float) -> bool:
        """Return whether an overload was noted lately."""
        return now < self._short_until

    def note(self, now: float) -> None:
        """Note that connections are refused for an overload, or must be."""
        self._short_until = now + CALM_SECONDS


def waited_seconds(connection: socket.socket) -> float:
    """Return how long an accepted connection, or the request on it, has been there; 0 if the system does not say."""
    return _tcp_info(connection)[2] / 1000


def is_crowded(listener: socket.socket) -> bool:
    """Return whether at least half of a listener's queue is taken."""
    waiting, places, _ = _tcp_info(listener)
    return waiting > places // 2


def _tcp_info(connection: socket.socket) -> tuple[int, int, int]:
    if _TCP_INFO is None or connection.family == socket.AF_UNIX:
        return 0, 0, 0
    waiting, places, milliseconds = _FIELDS.unpack(connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _FIELDS.size))
    return waiting, places, milliseconds
