"""Bytes that have arrived and are not parsed yet, in pieces.

A packet may hold thousands of small requests, and each that is parsed costs far more memory than its bytes. So packets
are parsed piece by piece, and what waits behind an unanswered request waits as bytes.
"""

from collections import deque

PIECE_BYTES = 2048


class Arrived:
    """The pieces of one connection, in order."""

    __slots__ = ("_pieces",)

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def add(self, packet: bytes) -> None:
        """Add a packet behind what is there."""
        if len(packet) <= PIECE_BYTES:
            self._pieces.append(packet)
            return
        self._pieces.extend(packet[begin : begin + PIECE_BYTES] for begin in range(0, len(packet), PIECE_BYTES))

    def put_back(self, piece: bytes) -> None:
        """Put a piece before what is there."""
        self._pieces.appendleft(piece)

    def take(self) -> bytes:
        """Take the first piece."""
        return self._pieces.popleft()

    def clear(self) -> None:
        """Forget all pieces."""
        self._pieces.clear()
