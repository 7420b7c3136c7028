"""The limits of a listener."""

from msgspec import Struct

MAX_EVENTS_BYTES = 8 * 1024 * 1024
MAX_MANAGEMENT_CONNECTIONS = 512
MAX_HEAD_BYTES = 32 * 1024


class Limits(Struct, frozen=True):
    """The bounds of one listener, in bytes, seconds and connections.

    `head_bytes`: the request line and headers; also the bytes between chunks and behind the last one.
    `read_seconds`: for a request, from its first byte to its last; for a connection, to send the first byte.
    `send_seconds`: in which a client must read something of the answers that wait for it.
    `linger_seconds`: the time to read a refusal that closes the connection; what the client still sends is dropped.
    `handshakes`: how many connections may be in an unfinished TLS handshake; `handshake_seconds`: for how long.
    `burst_seconds`: how long a connection may wait to be accepted before it is refused for an overload.
    `idle_seconds`: the time after which a silent connection is closed if its place is needed; `stalled_seconds`: the
    same for a connection whose request is not whole, or whose answers are not read.
    """

    connections: int
    head_bytes: int = MAX_HEAD_BYTES
    read_seconds: float = 30
    send_seconds: float = 30
    linger_seconds: float = 2
    handshakes: int = 256
    handshake_seconds: float = 10
    burst_seconds: float = 0.5
    idle_seconds: float = 1
    stalled_seconds: float = 5


MANAGEMENT_LIMITS = Limits(MAX_MANAGEMENT_CONNECTIONS)
