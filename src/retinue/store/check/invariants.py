"""Every invariant of a graph. Changes nothing."""

from collections.abc import Iterable, Iterator

from retinue.errors import StoreUnavailable
from retinue.model import Direction
from retinue.store.check.accounts import wrong_finders, wrong_meta, wrong_names
from retinue.store.check.lists import one_sided, wrong_lists, wrong_visibility
from retinue.store.layout.sealing import unseal
from retinue.store.layout.tables import CHANGE, FUTURE_EVENT, META, RELOCATION, TOMBSTONE, Source

_UNRELATED = META, CHANGE, RELOCATION, TOMBSTONE, FUTURE_EVENT  # no other row tells what is in them


def invariants(source: Source) -> Iterator[Iterable[str]]:
    """Yield for each invariant the sentences about where it is broken."""
    yield _damaged_rows(source)
    yield wrong_meta(source)
    yield wrong_names(source)
    yield wrong_finders(source)
    for direction in Direction:
        yield wrong_lists(source, direction)
    yield one_sided(source)
    yield wrong_visibility(source)


def _damaged_rows(source: Source) -> Iterator[str]:
    for table in _UNRELATED:
        for key, value in source.all_rows(table):
            try:
                unseal(table, key, value)
            except StoreUnavailable as error:
                yield error.detail
