"""The requests of one connection: unparsed, being read, and waiting for their answers."""

from asyncio import Transport
from collections import deque
from collections.abc import Iterator

from retinue.errors import HeadTooLarge
from retinue.web import heads
from retinue.web.replies import Scope
from retinue.web.uvicorn_internals import Cycle, Queue

PIECE_BYTES = 2048
_FINAL_HEADS = (b"HTTP/1.1 2", b"HTTP/1.1 3", b"HTTP/1.1 4", b"HTTP/1.1 5")  # 100 Continue is sent at once


class Backlog:
    """Bytes that are not parsed yet, in pieces.

    A packet may hold thousands of small requests, and a parsed request takes far more memory than its bytes. So packets
    are parsed piece by piece, and bytes behind an unanswered request stay unparsed.
    """

    __slots__ = ("_pieces",)

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def add(self, packet: bytes) -> None:
        """Append a packet."""
        if len(packet) <= PIECE_BYTES:
            self._pieces.append(packet)
            return
        self._pieces.extend(packet[begin : begin + PIECE_BYTES] for begin in range(0, len(packet), PIECE_BYTES))

    def put_back(self, piece: bytes) -> None:
        """Insert a piece before all others."""
        self._pieces.appendleft(piece)

    def take(self) -> bytes:
        """Remove and return the first piece."""
        return self._pieces.popleft()

    def clear(self) -> None:
        """Remove all pieces."""
        self._pieces.clear()


class ResponseWriter:
    """The transport that uvicorn's cycle writes to. It joins a head with the first bytes of the body.

    uvicorn writes them separately, and each write is a packet of its own.
    """

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._head = b""

    def write(self, data: bytes) -> None:
        """Write, or hold back a head until something follows."""
        if not self._head and data.startswith(_FINAL_HEADS):
            self._head = data
        else:
            self._transport.write(self._head + data)
            self._head = b""

    def flush(self) -> None:
        """Write a head that no body follows."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def close(self) -> None:
        """Close the connection after everything is written."""
        self.flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Return whether the connection is being closed."""
        return self._transport.is_closing()


class ReadProgress:
    """The progress of the current request, and its head's limit.

    A packet may hold other things beside a head: earlier requests, the end of a body. Those are settled. All other
    bytes count: those of the head, between chunks, and behind the last chunk.
    """

    __slots__ = ("_limit", "_received", "_settled", "is_in_head", "is_in_request")

    def __init__(self, head_bytes: int) -> None:
        self._limit = head_bytes
        self._received = self._settled = 0  # since the connection was last between two requests
        self.is_in_request = self.is_in_head = False

    @property
    def is_in_body(self) -> bool:
        """Whether a head is complete and its request is not."""
        return self.is_in_request and not self.is_in_head

    def take(self, packet: bytes) -> None:
        """Count a packet, before it is parsed."""
        self._received += len(packet)

    def begin(self) -> None:
        """Note that a request begins."""
        self.is_in_request = self.is_in_head = True

    def end_head(self, method: bytes, target: bytes, headers: heads.Headers) -> None:
        """Note that a head is complete. Raises `HeadTooLarge`."""
        self.is_in_head = False
        self.settle()
        if self._received > self._limit and heads.length_of(method, target, headers) > self._limit:
            raise HeadTooLarge(str(self._limit))

    def settle(self) -> None:
        """Note that the packet holds a complete head, or a body."""
        self._settled = self._received

    def end(self) -> None:
        """Note that the request is complete."""
        self.is_in_request = False
        self.settle()

    def clear(self) -> None:
        """Reset the count between two requests."""
        self._received = self._settled = 0

    def is_too_long(self, packet: bytes, method: bytes, target: bytes) -> bool:
        """Return whether too much has come since the last settled byte. The packet has been parsed."""
        if self.is_in_head and self._settled == self._received and target:
            # The head begins within this packet, at the last line that equals its first line.
            begin = packet.rfind(b"%b %b" % (method, target))
            self._settled -= len(packet) - begin if begin >= 0 else 0
        return self._received - self._settled > self._limit


class Pipeline:
    """`answering` is the cycle started last; `waiting` is uvicorn's queue."""

    __slots__ = ("_waiting", "answering")

    def __init__(self, waiting: Queue) -> None:
        self._waiting = waiting
        self.answering: Cycle | None = None

    @property
    def is_answering(self) -> bool:
        """Whether a complete request is being answered."""
        cycle = self.answering
        return cycle is not None and not (cycle.response_complete or cycle.more_body)

    def count(self, progress: ReadProgress) -> int:
        """Return how many complete requests wait."""
        return len(self._waiting) - progress.is_in_body

    def disconnect(self) -> Iterator[Scope]:
        """End all requests; yield the scopes of those not started."""
        if self.answering is not None:
            self.answering.disconnected = True  # uvicorn marks the request that was read last
        while self._waiting:
            yield dict(self._waiting.pop()[0].scope)

    def drop(self, cycle: Cycle) -> Cycle | None:
        """Drop the request that is being read; return the one before it."""
        if self._waiting:  # it has not started
            self._waiting.popleft()
            return self._waiting[0][0] if self._waiting else self.answering
        cycle.disconnected = True
        cycle.message_event.set()
        return None
