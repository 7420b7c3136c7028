"""The graph state: one row for the whole graph, written with each group, for writers and readers."""

from typing import Any

from msgspec import Struct, json
from msgspec.structs import replace

from retinue.store.cassandra.row_buffer import RowBuffer
from retinue.store.cassandra.table_definitions import GRAPH, Row

KEY = ("graph",)


class GraphState(Struct, frozen=True, omit_defaults=True, rename={"has_future_events": "has_postdated"}):
    """The fields of the row, in JSON.

    `accounts` is the newest account's id, `revision` the newest change of a name or visibility. In the queue of
    relocations, `first` is the oldest number that may be waiting, and `next` the next unused one. If `merging` is not
    0, readers must merge visible and hidden entries. `leaving` are erased accounts that may still be in others' lists.
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
    """Return the state in a row, or the initial one."""
    return GraphState() if row is None or row[0] is None else json.decode(row[0], type=GraphState)


def read(buffer: RowBuffer) -> GraphState:
    """Return the state, including changes of this group."""
    return decoded(buffer.get(GRAPH, KEY))


def write(buffer: RowBuffer, state: GraphState) -> None:
    """Replace the state with this group."""
    buffer.put(GRAPH, KEY, (json.encode(state).decode(),))


def change(buffer: RowBuffer, **fields: Any) -> None:
    """Change some fields with this group."""
    write(buffer, replace(read(buffer), **fields))
