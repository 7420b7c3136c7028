"""Eviction: which connections are closed to make room for new ones. Pure.

Only connections that the server waits for can be closed: no client loses an answer that is being made.
"""

from asyncio import WriteTransport
from collections.abc import Iterable, Mapping
from enum import IntEnum
from heapq import nsmallest
from typing import Protocol, TypeVar

from msgspec import Struct

BATCH = 16  # a sixteenth of the places at once, since finding them means looking at all


class Awaited(IntEnum):
    """The thing that the server waits for on a connection, in the order of eviction."""

    FIRST_REQUEST = 0
    NEXT_REQUEST = 1
    REST = 2  # of a request that has begun to arrive, or until the client reads its answer


class Wait(Struct, frozen=True, gc=False):
    """The wait for a client, and the event loop's time at which it began."""

    awaited: Awaited
    since: float


class Place(Protocol):
    """A connection that counts against the limit."""

    @property
    def transport(self) -> WriteTransport | None:
        """The connection itself; None before a TLS handshake is finished."""
        ...

    def wait(self) -> Wait | None:
        """Return what the server waits for; None while it is answering."""
        ...


_Place = TypeVar("_Place", bound=Place)


def evictable(places: Iterable[_Place], limit: int, waited_since: Mapping[Awaited, float]) -> list[_Place]:
    """Return the places to close first: some of those that have been waited for since those times or longer."""
    waits = [
        (wait.awaited, wait.since, number, place)
        for number, place in enumerate(places)
        if (wait := place.wait()) is not None and wait.since <= waited_since[wait.awaited]
    ]
    return [place for *_, place in nsmallest(max(1, limit // BATCH), waits)]
