"""Every invariant of a graph. Changes nothing."""

from collections.abc import Iterable, Iterator

from retinue.model import Direction
from retinue.store.check.accounts import wrong_finders, wrong_meta, wrong_names
from retinue.store.check.lists import one_sided, wrong_lists, wrong_visibility
from retinue.store.layout.tables import Source


def invariants(source: Source) -> Iterator[Iterable[str]]:
    """Yield for each invariant the sentences about where it is broken."""
    yield wrong_meta(source)
    yield wrong_names(source)
    yield wrong_finders(source)
    for direction in Direction:
        yield wrong_lists(source, direction)
    yield one_sided(source)
    yield wrong_visibility(source)
