"""Where the graph stands after a group of writes: what is said once for the whole graph. Readers look at it, too."""

from typing import Any

from msgspec import Struct, json
from msgspec.structs import replace

from retinue.store.cassandra.row_buffer import RowBuffer
from retinue.store.cassandra.table_definitions import GRAPH, Row

KEY = ("graph",)


class GraphState(Struct, frozen=True, omit_defaults=True, rename={"has_future_events": "has_postdated"}):
    """The graph's own row.

    `accounts` is the newest account's number, `revision` the newest change of a name or visibility. Of the queue of
    accounts that are moving, `first` is the oldest number that may be waiting, `next` the next to be given out; while
    `merging` is not 0 readers cannot go by the range of pages alone. `leaving` are erased accounts that may still stand
    in others' lists. `timestamp` is the last group's.
    """

    accounts: int = 0
    revision: int = 0
    first: int = 0
    next: int = 0
    merging: int = 0
    leaving: tuple[int, ...] = ()
    has_tombstones: bool = False
    has_future_events: bool = False
    timestamp: int = 0


def decoded(row: Row | None) -> GraphState:
    """What the row says; a graph that is new has none."""
    return GraphState() if row is None or row[0] is None else json.decode(row[0], type=GraphState)


def read(buffer: RowBuffer) -> GraphState:
    """Where the graph stands."""
    return decoded(buffer.get(GRAPH, KEY))


def write(buffer: RowBuffer, state: GraphState) -> None:
    """Let it stand elsewhere after this group."""
    buffer.put(GRAPH, KEY, (json.encode(state).decode(),))


def change(buffer: RowBuffer, **fields: Any) -> None:
    """Let some of it be otherwise after this group."""
    write(buffer, replace(read(buffer), **fields))
