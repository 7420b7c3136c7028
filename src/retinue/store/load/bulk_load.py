"""Bulk loads of large files: whole, list by list, in one unit of work; or in large groups."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from retinue.model import Direction
from retinue.store.bulk import Follows, LoadedFollows, Numbers, OnShare, SortedFollows
from retinue.store.layout.accounts import kind_of
from retinue.store.layout.rows import Rows
from retinue.store.layout.sealing import seal, unseal
from retinue.store.layout.tables import ACCOUNT, LARGEST_KEY, Changes, Engine, Key, Table
from retinue.store.load.loader import LEFT, SAYINGS, Loader
from retinue.store.load.row_set import RowSet

GROUP_SIZE = 1_000_000  # follows; the more, the fewer writes of each list


class EngineRows:
    """A `LoadTarget` that writes to an engine at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def has_rows(self, table: Table) -> bool:
        """Return False only if a table is empty."""
        return self._engine.has_rows(table)

    def get_many(self, table: Table, keys: Sequence[Key]) -> list[bytes | None]:
        """Return the contents of keys, in their order."""
        values = self._engine.get(table, keys)
        return [None if value is None else unseal(table, key, value) for key, value in zip(keys, values, strict=True)]

    def rows_of(self, table: Table, owners: Sequence[int]) -> tuple[list[int], list[bytes]]:
        """Return keys and contents of the rows of ascending owners."""
        rows = self._engine.rows_of(table, owners)
        return [key for key, _ in rows], [unseal(table, key, value) for key, value in rows]

    def put_many(self, table: Table, rows: Iterable[tuple[int, bytes]]) -> None:
        """Write rows."""
        self._engine.write(Changes(table, [(key, seal(table, key, content)) for key, content in rows], []))

    def delete_many(self, table: Table, keys: Iterable[int]) -> None:
        """Remove rows."""
        self._engine.write(Changes(table, [], list(keys)))


class BulkLoad:
    """One load. Runs inside a unit of work without other changes."""

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


class GroupedLoad:
    """One load in groups, each in its own unit of work.

    Both sides of a group are committed together. After a kill, loading the same file again resumes: rows that are
    stored say nothing new.
    """

    def __init__(self, rows: Rows, follows: SortedFollows) -> None:
        self._rows = rows
        self._new = {direction: follows.owners(direction) for direction in Direction}
        self._counts = np.zeros(len(SAYINGS), np.int64)
        self._remaining = [np.empty(0, np.int64)]

    def place(self, follows: Follows) -> None:
        """Place the ordinary follows of a group in both directions."""
        ids = np.unique(np.concatenate([follows.owners, follows.accounts]))
        kinds = self._kinds_of(ids)
        loader = Loader(self._rows, lambda some: kinds[np.searchsorted(ids, some)])
        hubs = {
            Direction.FOLLOWING: self._hubs(loader, Direction.FOLLOWING, follows.owners),
            Direction.FOLLOWERS: self._hubs(loader, Direction.FOLLOWERS, follows.accounts),
        }
        sifted = loader.sift(follows, hubs)
        self._counts += np.bincount(sifted.sayings, minlength=len(SAYINGS))
        self._remaining.append(sifted.rows(LEFT, follows))
        forth = follows.where(sifted.is_placed)
        order = np.lexsort((-forth.rows, forth.seconds, forth.accounts))
        columns = forth.accounts, forth.seconds, forth.owners, forth.rows, forth.has_time
        back = Follows(*(column[order] for column in columns))  # type: ignore[arg-type]  # each column stays of its kind
        loader.place(Direction.FOLLOWING, forth)
        loader.place(Direction.FOLLOWERS, back)

    def loaded(self) -> LoadedFollows:
        """Return the counts of all groups."""
        _, accepted, updated, duplicate = self._counts.tolist()
        return LoadedFollows(accepted, updated, duplicate, np.sort(np.concatenate(self._remaining)))

    def _hubs(self, loader: Loader, direction: Direction, accounts: Numbers) -> Numbers:
        owners, new = self._new[direction]
        chosen = np.unique(accounts)
        return loader.hubs(direction, chosen, new[np.searchsorted(owners, chosen)])

    def _kinds_of(self, ids: Numbers) -> "np.ndarray[tuple[int], np.dtype[np.int8]]":
        contents = self._rows.get_many(ACCOUNT, ids.tolist())
        return np.fromiter((kind_of(content or b"") for content in contents), np.int8, len(contents))


def _kinds_of_accounts(engine: Engine) -> "np.ndarray[tuple[int], np.dtype[np.int8]]":
    """Return the kind of each account by id."""
    last = engine.scan(ACCOUNT, 0, LARGEST_KEY, reverse=True, limit=1)
    kinds = np.zeros(int(last[0][0]) + 1 if last else 1, np.int8)
    for key, value in engine.all_rows(ACCOUNT):
        kinds[int(key)] = kind_of(unseal(ACCOUNT, key, value))
    return kinds
