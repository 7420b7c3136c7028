"""Admission of connections on one listener.

uvloop accepts one connection per turn of the event loop, and a turn that has much to do is long. Here each turn accepts
every connection in the listener's queue, and the protocol checks again during long turns. New connections are served in
small batches, so that established ones stay fast. In an overload, or if no place can be freed
(`eviction.py`), connections are refused immediately (`surplus.py`).
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from msgspec import Struct

from retinue.clock import elapsed
from retinue.web.eviction import Awaited, Place, evictable
from retinue.web.limits import Limits
from retinue.web.sockets import EXHAUSTED, SpareDescriptor, has_unread_bytes, is_crowded, waited_seconds
from retinue.web.surplus import Address, Refusals, Refuse

BATCH = 32  # new connections in a turn, or more on a server that answers many requests in a turn
_MAX_BATCH = 1024
_LATE_BATCH = 4  # in an overload, of connections that waited too long, so that some are always served
_REQUESTS_PER_ADMISSION = 4
_MAX_ACCEPTED = 256  # connections in one look, so that established ones get their turn
_SHARED_PAUSE_SECONDS = 0.03  # gives other processes time to accept the connections
_FAILURE_PAUSE_SECONDS = 0.05
_SEARCH_PAUSE_SECONDS = 0.05  # after a search that found none; each looks at every connection
_STOP_SECONDS = 1.0
OVERLOADED_SECONDS = 0.03
CALM_SECONDS = 5.0
_LOGGER = logging.getLogger("retinue.web")


class Overload:
    """Detects that more connections arrive than can be served. Times are in seconds.

    A burst is served late rather than refused: connections wait in the listener's queue. If one has waited too long, or
    the queue is half full, the rest are refused once they have waited for a few milliseconds. So the queue stays short.
    It ends after a while without refusals.
    """

    def __init__(self, burst_seconds: float) -> None:
        self._burst_seconds = burst_seconds
        self._short_until = float("-inf")

    def patience(self, now: float) -> float:
        """Return how long a connection may have waited."""
        return OVERLOADED_SECONDS if self.is_on(now) else self._burst_seconds

    def is_on(self, now: float) -> bool:
        """Return whether an overload was noted recently."""
        return now < self._short_until

    def note(self, now: float) -> None:
        """Note that connections must be refused because of an overload."""
        self._short_until = now + CALM_SECONDS


class Callbacks(Struct, frozen=True):
    """The parts of a server that admission needs.

    `requests` counts the answered ones; `tls` gives the context for new connections, None without TLS.
    """

    connect: Callable[[], Any]
    refuse: Refuse
    requests: Callable[[], int]
    tls: Callable[[], ssl.SSLContext | None]


class Admission:
    """Accepts connections on one listener; `is_shared`: other processes accept on it too."""

    def __init__(self, limits: Limits, *, is_shared: bool = False) -> None:
        self._limits = limits
        self._is_shared = is_shared
        self._places: dict[Any, None] = {}
        # Connections that the event loop does not have yet, or that are in their TLS handshake; oldest first.
        self._arriving: dict[Any, socket.socket] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._overload = Overload(limits.burst_seconds)
        self._left: int | None = None  # admissions left in this turn of the loop; None before the first look in it
        self._late_left = 0  # those of them that remain for connections that waited too long
        self._requests_before = 0
        self._searched_at = float("-inf")  # the last search for connections to close that found none
        self._listener: socket.socket | None = None
        self._is_watching = False
        self._pausing: asyncio.TimerHandle | None = None

    def start(self, listener: socket.socket, callbacks: Callbacks) -> None:
        """Begin to accept, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._callbacks = callbacks
        self._refusals = Refusals(self._loop, callbacks.refuse, self._limits.linger_seconds)
        self._spare = SpareDescriptor()
        self._started_at = elapsed()  # earlier waiting does not count as an overload
        listener.setblocking(False)
        self._listener = listener
        self._watch()

    async def stop(self) -> None:
        """Stop accepting; hand over what was accepted, except unfinished handshakes."""
        self._unwatch()
        self._listener = None
        self._refusals.close()
        if self._callbacks.tls() is not None:
            for connection in self._arriving.values():
                _shut_down(connection)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_STOP_SECONDS)
        self._spare.close()

    def look_again(self) -> None:
        """Accept waiting connections during a long turn of the event loop."""
        if self._is_watching:
            self._look()

    def places(self) -> Iterable[Any]:
        """Return the connections that have a place."""
        return self._places

    def leave(self, place: Place) -> None:
        """Free the place of a connection that is gone."""
        self._places.pop(place, None)
        self._arriving.pop(place, None)

    # --- accepting --------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        now = elapsed()
        patience = self._patience(now)
        self._begin_turn(now)
        for _ in range(_MAX_ACCEPTED):
            if self._is_full() and self._is_shared and self._is_watching:
                self._pause(_SHARED_PAUSE_SECONDS)  # another process may have a place; later the rest is refused
                return
            accepted = self._accept(now)
            if accepted is None:
                return
            is_late = min(waited_seconds(accepted[0]), now - self._started_at) > patience
            if is_late and not (self._left and self._late_left):
                self._overload.note(now)
                patience = self._overload.patience(now)
                self._refuse_quickly(*accepted)
                continue
            self._place(*accepted, now)
            if not self._left:
                return  # this turn's admissions are used up; the others may wait
            self._left -= 1
            self._late_left -= is_late

    def _patience(self, now: float) -> float:
        if self._listener is not None and is_crowded(self._listener):
            self._overload.note(now)
        return self._overload.patience(now)

    def _begin_turn(self, now: float) -> None:
        if self._left is None:
            requests = self._callbacks.requests()
            share = (requests - self._requests_before) // _REQUESTS_PER_ADMISSION
            self._requests_before = requests
            self._left = min(max(BATCH, share), _MAX_BATCH)
            self._late_left = _LATE_BATCH if self._overload.is_on(now) else self._left
            self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._left = None

    def _accept(self, now: float) -> tuple[socket.socket, Address] | None:
        assert self._listener is not None
        try:
            connection, address = self._listener.accept()
        except (BlockingIOError, InterruptedError):
            return None
        except ConnectionError:  # it is gone already
            return None
        except OSError as error:
            if error.errno in EXHAUSTED:
                self._survive_exhaustion(now)
            else:
                _LOGGER.warning("cannot accept a connection: %s", error)
            self._pause(_FAILURE_PAUSE_SECONDS)
            return None
        connection.setblocking(False)
        return connection, _client_of(address)

    def _survive_exhaustion(self, now: float) -> None:
        assert self._listener is not None
        _LOGGER.warning("no file descriptor is left for a connection; raise the limit of open files (ulimit -n)")
        if not self._evict(now) and not self._spare.is_released:
            self._add_task(self._refuse_with_spare(self._listener))

    async def _refuse_with_spare(self, listener: socket.socket) -> None:
        with self._spare.released(), contextlib.suppress(OSError):
            connection, address = listener.accept()
            connection.setblocking(False)
            await self._refusals.take_briefly(connection, _client_of(address))

    # --- places -----------------------------------------------------------------------------------------------------

    def _is_full(self) -> bool:
        return len(self._places) >= self._limits.connections

    def _evict(self, now: float) -> int:
        if now - self._searched_at < _SEARCH_PAUSE_SECONDS:
            return 0
        idle, stalled = (self._loop.time() - each for each in (self._limits.idle_seconds, self._limits.stalled_seconds))
        waited_since = {Awaited.FIRST_REQUEST: idle, Awaited.NEXT_REQUEST: idle, Awaited.REST: stalled}
        chosen = evictable(self._places, self._limits.connections, waited_since)
        # A request may have arrived that this turn of the loop has not read yet.
        places = [place for place in chosen if not has_unread_bytes(place.transport)]
        if not places:
            self._searched_at = now
        for place in places:
            self._close(place)
        return len(places)

    def _close(self, place: Any) -> None:
        connection = self._arriving.pop(place, None)
        self._places.pop(place, None)
        if connection is not None:
            _shut_down(connection)
        elif place.transport is not None:
            place.transport.abort()

    def _place(self, connection: socket.socket, client: Address, now: float) -> None:
        if self._is_full() and not self._evict(now):
            self._refuse(connection, client)
            return
        place = self._callbacks.connect()
        self._places[place] = None
        self._start(place, connection, self._callbacks.tls())

    def _refuse_quickly(self, connection: socket.socket, client: Address) -> None:
        if self._callbacks.tls() is None:
            self._refusals.take(connection, client)
        else:
            connection.close()

    def _refuse(self, connection: socket.socket, client: Address) -> None:
        context = self._callbacks.tls()
        if context is None:
            self._refusals.take(connection, client)
            return
        self._start(self._refusals.protocol(client), connection, context)

    def _start(self, place: Any, connection: socket.socket, context: ssl.SSLContext | None) -> None:
        if context is not None and len(self._arriving) >= self._limits.handshakes:
            self._close(next(iter(self._arriving)))
        self._arriving[place] = connection
        self._add_task(self._serve(place, connection, context))

    def _add_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, place: Any, connection: socket.socket, context: ssl.SSLContext | None) -> None:
        """Hand a connection to the event loop, after its TLS handshake."""
        seconds = None if context is None else self._limits.handshake_seconds
        timeouts: dict[str, Any] = {"ssl_handshake_timeout": seconds, "ssl_shutdown_timeout": seconds}
        try:
            await self._loop.connect_accepted_socket(lambda: place, connection, ssl=context, **timeouts)
        except (OSError, ssl.SSLError):  # gone, or no TLS, or not in time
            self.leave(place)
            connection.close()
        finally:
            self._arriving.pop(place, None)

    # --- watching ---------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        if self._listener is not None and not self._is_watching:
            self._loop.add_reader(self._listener, self._look)
            self._is_watching = True

    def _unwatch(self) -> None:
        if self._listener is not None and self._is_watching:
            self._loop.remove_reader(self._listener)
            self._is_watching = False

    def _pause(self, seconds: float) -> None:
        self._unwatch()
        if self._pausing is None:
            self._pausing = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._pausing = None
        if self._listener is not None:
            self._look()
        if self._pausing is None:
            self._watch()


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the client was quicker
        connection.shutdown(socket.SHUT_RDWR)


def _client_of(address: Any) -> Address:
    return (address[0], address[1]) if isinstance(address, tuple) else None
