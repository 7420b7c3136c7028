"""Whether a client has sent something that is not read yet."""

import fcntl
import struct
import termios
from asyncio import WriteTransport
from typing import Any

_COUNT = struct.Struct("i")


def is_sending(transport: WriteTransport | None) -> bool:
    """Return whether bytes wait that will be read; not while reading is paused, since that may be for long."""
    reading: Any = transport
    if reading is None or reading.is_closing() or not reading.is_reading():
        return False
    try:
        unread = fcntl.ioctl(reading.get_extra_info("socket").fileno(), termios.FIONREAD, bytes(_COUNT.size))
    except OSError:  # gone
        return False
    (count,) = _COUNT.unpack(unread)
    return bool(count)
