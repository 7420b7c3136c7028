"""The choice of connections to close for new ones. Pure.

Only connections that wait for their clients are chosen, so no response is lost.
"""

from asyncio import WriteTransport
from collections.abc import Iterable, Mapping
from enum import IntEnum
from heapq import nsmallest
from typing import Protocol, TypeVar

from msgspec import Struct

BATCH = 16  # at most a sixteenth of the places at once, since each search looks at all of them


class Awaited(IntEnum):
    """The event that a connection waits for, in the order of eviction."""

    FIRST_REQUEST = 0
    NEXT_REQUEST = 1
    REST = 2  # the rest of a request, or the client's reading of its answer


class Wait(Struct, frozen=True, gc=False):
    """A wait for a client since a time of the loop's clock."""

    awaited: Awaited
    since: float


class Place(Protocol):
    """A connection that counts against the limit."""

    @property
    def transport(self) -> WriteTransport | None:
        """The connection itself; None before a TLS handshake is finished."""

    def wait(self) -> Wait | None:
        """Return what the connection waits for; None while answering."""


_Place = TypeVar("_Place", bound=Place)


def evictable(places: Iterable[_Place], limit: int, waited_since: Mapping[Awaited, float]) -> list[_Place]:
    """Return the places to close first. `waited_since` is the latest start of a wait, by kind."""
    waits = [
        (wait.awaited, wait.since, number, place)
        for number, place in enumerate(places)
        if (wait := place.wait()) is not None and wait.since <= waited_since[wait.awaited]
    ]
    return [place for *_, place in nsmallest(max(1, limit // BATCH), waits)]
