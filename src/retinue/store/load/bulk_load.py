"""Bulk loads: all follows of a large file are placed list by list.

This takes one unit of work, or large groups if an engine cannot write before its commit.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from retinue.model import Direction
from retinue.store.bulk import Chosen, Follows, LoadedFollows, Numbers, OnShare, SortedFollows
from retinue.store.layout.rows import Rows
from retinue.store.layout.sealing import seal_all, unseal
from retinue.store.layout.stored_accounts import kind_of
from retinue.store.layout.tables import ACCOUNT, LARGEST_KEY, Changes, Engine, Key, Table
from retinue.store.load.loader import ODD, OUTCOMES, Loader

GROUP_SIZE = 1_000_000  # follows; the more, the fewer writes of each list


class EngineRows:
    """The rows of an engine's unit of work. Changes are written at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def has_rows(self, table: Table) -> bool:
        return self._engine.has_rows(table)

    def get_many(self, table: Table, keys: Sequence[Key]) -> list[bytes | None]:
        values = self._engine.get(table, keys)
        return [None if value is None else unseal(table, key, value) for key, value in zip(keys, values, strict=True)]

    def rows_of(self, table: Table, owners: Sequence[int]) -> tuple[list[int], list[bytes]]:
        rows = self._engine.rows_of(table, owners)
        return [key for key, _ in rows], [unseal(table, key, value) for key, value in rows]

    def put_many(self, table: Table, rows: Iterable[tuple[int, bytes]]) -> None:
        self._engine.write(Changes(table, seal_all(table, rows), []))

    def delete_many(self, table: Table, keys: Iterable[int]) -> None:
        self._engine.write(Changes(table, [], list(keys)))


class BulkLoad:
    """One load, in a unit of work without other changes."""

    def __init__(self, engine: Engine, follows: SortedFollows, on_share: OnShare) -> None:
        self._follows = follows
        self._on_share = on_share
        kinds = _kinds_of_accounts(engine)
        self._loader = Loader(EngineRows(engine), lambda ids: kinds[ids])
        self._hubs = {direction: self._loader.hubs(direction, *follows.owners(direction)) for direction in Direction}
        self._total = max(1, 2 * int(follows.owners(Direction.FOLLOWING)[1].sum()))
        self._done = 0

    def run(self) -> LoadedFollows:
        """Place all ordinary follows."""
        counts, remaining = np.zeros(len(OUTCOMES), np.int64), [np.empty(0, np.int64)]
        unplaced = _RowSet()
        for follows in self._parts(Direction.FOLLOWING):
            classified = self._loader.classify(follows, self._hubs)
            counts += np.bincount(classified.outcomes, minlength=len(OUTCOMES))
            remaining.append(classified.rows(ODD, follows))
            unplaced.add(follows.rows[~classified.is_placed])
            self._loader.place(Direction.FOLLOWING, follows.where(classified.is_placed), classified.stored)
        for follows in self._parts(Direction.FOLLOWERS):
            self._loader.place(Direction.FOLLOWERS, follows.where(~unplaced.has(follows.rows)))
        _, accepted, updated, duplicate = counts.tolist()
        return LoadedFollows(accepted, updated, duplicate, np.sort(np.concatenate(remaining)))

    def _parts(self, direction: Direction) -> Iterator[Follows]:
        for follows in self._follows.follows(direction):
            yield follows
            self._done += len(follows.rows)
            self._on_share(self._done / self._total)


class GroupedLoad:
    """One load in several units of work, each in memory.

    Both sides of a group are committed together. If a load is killed, repeating it resumes it: the rows of its first
    groups are repeated.
    """

    def __init__(self, rows: Rows, follows: SortedFollows) -> None:
        self._rows = rows
        self._new = {direction: follows.owners(direction) for direction in Direction}
        self._counts = np.zeros(len(OUTCOMES), np.int64)
        self._remaining = [np.empty(0, np.int64)]

    def place(self, follows: Follows) -> None:
        """Place a group of follows in the lists of both directions."""
        ids = np.unique(np.concatenate([follows.owners, follows.accounts]))
        kinds = self._kinds_of(ids)
        loader = Loader(self._rows, lambda some: kinds[np.searchsorted(ids, some)])
        hubs = {
            Direction.FOLLOWING: self._hubs(loader, Direction.FOLLOWING, follows.owners),
            Direction.FOLLOWERS: self._hubs(loader, Direction.FOLLOWERS, follows.accounts),
        }
        classified = loader.classify(follows, hubs)
        self._counts += np.bincount(classified.outcomes, minlength=len(OUTCOMES))
        self._remaining.append(classified.rows(ODD, follows))
        forth = follows.where(classified.is_placed)
        order = np.lexsort((-forth.rows, forth.seconds, forth.accounts))
        columns = forth.accounts, forth.seconds, forth.owners, forth.rows, forth.has_time
        back = Follows(*(column[order] for column in columns))  # type: ignore[arg-type]  # each column stays of its kind
        loader.place(Direction.FOLLOWING, forth, classified.stored)
        loader.place(Direction.FOLLOWERS, back)

    def loaded(self) -> LoadedFollows:
        _, accepted, updated, duplicate = self._counts.tolist()
        return LoadedFollows(accepted, updated, duplicate, np.sort(np.concatenate(self._remaining)))

    def _hubs(self, loader: Loader, direction: Direction, accounts: Numbers) -> Numbers:
        owners, new = self._new[direction]
        chosen = np.unique(accounts)
        return loader.hubs(direction, chosen, new[np.searchsorted(owners, chosen)])

    def _kinds_of(self, ids: Numbers) -> "np.ndarray[tuple[int], np.dtype[np.int8]]":
        contents = self._rows.get_many(ACCOUNT, ids.tolist())
        return np.fromiter((kind_of(content or b"") for content in contents), np.int8, len(contents))


class _RowSet:
    """A set of row numbers that takes one bit for each."""

    def __init__(self) -> None:
        self._bits = np.zeros(0, np.uint8)

    def add(self, rows: Numbers) -> None:
        if not len(rows):
            return
        missing = int(rows.max()) // 8 + 1 - len(self._bits)
        if missing > 0:
            self._bits = np.append(self._bits, np.zeros(missing + len(self._bits) // 2, np.uint8))
        np.bitwise_or.at(self._bits, rows >> 3, (1 << (rows & 7)).astype(np.uint8))

    def has(self, rows: Numbers) -> Chosen:
        found = np.zeros(len(rows), np.bool_)
        within = (rows >> 3) < len(self._bits)
        inner = rows[within]
        found[within] = (self._bits[inner >> 3] >> (inner & 7)) & 1
        return found


def _kinds_of_accounts(engine: Engine) -> "np.ndarray[tuple[int], np.dtype[np.int8]]":
    last = engine.scan(ACCOUNT, 0, LARGEST_KEY, reverse=True, limit=1)
    kinds = np.zeros(int(last[0][0]) + 1 if last else 1, np.int8)
    for key, value in engine.all_rows(ACCOUNT):
        kinds[key] = kind_of(unseal(ACCOUNT, key, value))
    return kinds
