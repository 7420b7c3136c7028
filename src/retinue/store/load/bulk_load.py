"""A bulk load: all follows of a large file are placed list by list, in one unit of work."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from retinue.model import Direction
from retinue.store.bulk import Follows, LoadedFollows, OnShare, SortedFollows
from retinue.store.layout.accounts import kind_of
from retinue.store.layout.sealing import seal, unseal
from retinue.store.layout.tables import ACCOUNT, LARGEST_KEY, Changes, Engine, Key, Table
from retinue.store.load.loader import LEFT, SAYINGS, Loader
from retinue.store.load.row_set import RowSet


class EngineRows:
    """The rows of an engine's unit of work, read and written at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def has_rows(self, table: Table) -> bool:
        """Return whether a table may have rows."""
        return self._engine.has_rows(table)

    def get_many(self, table: Table, keys: Sequence[Key]) -> list[bytes | None]:
        """Return the contents of keys, in their order."""
        values = self._engine.get(table, keys)
        return [None if value is None else unseal(table, key, value) for key, value in zip(keys, values, strict=True)]

    def rows_of(self, table: Table, owners: Sequence[int]) -> tuple[list[int], list[bytes]]:
        """Return keys and contents of the rows of ascending owners, in their order."""
        rows = self._engine.rows_of(table, owners)
        return [key for key, _ in rows], [unseal(table, key, value) for key, value in rows]

    def put_many(self, table: Table, rows: Iterable[tuple[int, bytes]]) -> None:
        """Write rows."""
        self._engine.write(Changes(table, [(key, seal(table, key, content)) for key, content in rows], []))

    def delete_many(self, table: Table, keys: Iterable[int]) -> None:
        """Remove rows."""
        self._engine.write(Changes(table, [], list(keys)))


class BulkLoad:
    """One load. Runs inside a unit of work in which nothing else was changed."""

    def __init__(self, engine: Engine, follows: SortedFollows, on_share: OnShare) -> None:
        self._follows = follows
        self._on_share = on_share
        kinds = _kinds_of_accounts(engine)
        self._loader = Loader(EngineRows(engine), lambda ids: kinds[ids])
        self._hubs = {direction: self._loader.hubs(direction, *follows.owners(direction)) for direction in Direction}
        self._total = max(1, 2 * int(follows.owners(Direction.FOLLOWING)[1].sum()))
        self._done = 0

    def run(self) -> LoadedFollows:
        """Place everything that is ordinary."""
        counts, remaining = np.zeros(len(SAYINGS), np.int64), [np.empty(0, np.int64)]
        passed_over = RowSet()
        for follows in self._parts(Direction.FOLLOWING):
            sifted = self._loader.sift(follows, self._hubs)
            counts += np.bincount(sifted.sayings, minlength=len(SAYINGS))
            remaining.append(sifted.rows(LEFT, follows))
            passed_over.add(follows.rows[~sifted.is_placed])
            self._loader.place(Direction.FOLLOWING, follows.where(sifted.is_placed))
        for follows in self._parts(Direction.FOLLOWERS):
            self._loader.place(Direction.FOLLOWERS, follows.where(~passed_over.has(follows.rows)))
        _, accepted, updated, duplicate = counts.tolist()
        return LoadedFollows(accepted, updated, duplicate, np.sort(np.concatenate(remaining)))

    def _parts(self, direction: Direction) -> Iterator[Follows]:
        for follows in self._follows.follows(direction):
            yield follows
            self._done += len(follows.rows)
            self._on_share(self._done / self._total)


def _kinds_of_accounts(engine: Engine) -> "np.ndarray[tuple[int], np.dtype[np.int8]]":
    """Return the kind of each account by id."""
    last = engine.scan(ACCOUNT, 0, LARGEST_KEY, reverse=True, limit=1)
    kinds = np.zeros(int(last[0][0]) + 1 if last else 1, np.int8)
    for key, value in engine.all_rows(ACCOUNT):
        kinds[int(key)] = kind_of(unseal(ACCOUNT, key, value))
    return kinds
