"""Answers at once what can be: lists of today from images of their blocks, accounts from what is known by heart.

Its slow twin is `SqliteGraph` on the same connection, from which it reads what it has no image of.
"""

from pathlib import Path

from retinue.model import Account, Direction, Stretch
from retinue.store.base import Run
from retinue.store.sqlite import files
from retinue.store.sqlite.blocks import LAST_SECOND, block_at, owner_of, start_of
from retinue.store.sqlite.graph import SqliteGraph
from retinue.store.sqlite.images import Images
from retinue.store.sqlite.wal_index import WalIndex

NEXT_BLOCK = {
    direction: f"SELECT block FROM {direction.value} WHERE block > ? AND block <= ? ORDER BY block LIMIT 1"
    for direction in Direction  # their values are names of tables
}


class HotSqliteGraph:
    """A `HotGraph`. Close it before the graph that it belongs to."""

    def __init__(self, graph: SqliteGraph[bytes], path: Path) -> None:
        self._graph = graph
        self._known = graph.known
        self._execute = files.executor(graph.connection)
        self._index = WalIndex(path)
        self._state = b""
        self._images = {direction: Images(graph.known.visible) for direction in Direction}

    def account_at_once(self, folded: str) -> Account | None:
        """The live account with this folded username."""
        with files.translated():
            self._known.refresh()
            return self._known.account(folded)

    def run_at_once(self, stretch: Stretch) -> Run | None:
        """The rows of a stretch of today's list."""
        known = self._known
        if stretch.as_of is not None or known.must_merge or not self._index.is_known:
            return None
        images = self._images[stretch.direction]
        # What is read from now on is of this state or a later one, so an image is never taken for newer than it is.
        state = self._index.state()
        if state != self._state:
            self._state = state
            for each in self._images.values():
                each.state += 1
        images.edition = known.edition
        return images.run(stretch) or self._read(stretch, images)

    def close(self) -> None:
        """Look at nothing any more."""
        self._index.forget()

    def _read(self, stretch: Stretch, images: Images) -> Run:
        """Read from the file, and let that be remembered which is asked for often."""
        direction = stretch.direction
        seen: list[tuple[int, bytes]] = []
        with files.translated():
            found = self._graph.read_blocks(stretch, seen)
            for block, entries in seen:
                images.offer(block, entries, lambda block: self._last_of(block, direction))
        return Run(b",".join(found.rows), len(found.rows), found.oldest, found.has_more)

    def _last_of(self, block: int, direction: Direction) -> int:
        """The last second that a block may hold: one before the next block of its owner."""
        end = block_at(owner_of(block), LAST_SECOND)
        for (following,) in self._execute(NEXT_BLOCK[direction], (block, end)).fetchall():
            return start_of(int(following)) - 1
        return LAST_SECOND
