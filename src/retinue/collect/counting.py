"""The rows of lists beside the counts in their accounts' profiles: sums, and the lists that may be capped. Pure."""

from collections.abc import Mapping

from msgspec import Struct

from retinue.collect.progress import MAYBE_CAPPED, Item, ListProgress


class Counts(Struct, frozen=True):
    """Sums over the lists of a kind whose count is known; the gap is what profiles count beyond the rows."""

    lists: int
    rows: int
    profile_count: int
    gap: int


class MaybeCapped(Struct, frozen=True):
    """A list that ends where services are known to cut lists, with a gap behind it."""

    name: str
    list: str
    rows: int
    profile_count: int
    gap: int

    def __str__(self) -> str:
        figures = f"{self.rows:,} rows, profile counts {self.profile_count:,}, gap {self.gap:,}"
        return f"{self.list} of {self.name}: maybe capped: {figures}"


def sums(standings: Mapping[Item, ListProgress]) -> dict[str, Counts]:
    """Return the sums of each kind of list of which any count is known."""
    found: dict[str, Counts] = {}
    for place, standing in standings.items():
        if standing.profile_count is not None and standing.gap is not None:
            before = found.get(place.list, Counts(0, 0, 0, 0))
            found[place.list] = Counts(
                before.lists + 1,
                before.rows + standing.rows,
                before.profile_count + standing.profile_count,
                before.gap + standing.gap,
            )
    return found


def maybe_capped(standings: Mapping[Item, ListProgress]) -> list[MaybeCapped]:
    """Return the lists that may be capped."""
    return [
        MaybeCapped(place.name, place.list, standing.rows, standing.profile_count or 0, standing.gap or 0)
        for place, standing in sorted(standings.items(), key=lambda one: one[0])
        if standing.state == MAYBE_CAPPED
    ]


def uncounted(standings: Mapping[Item, ListProgress]) -> int:
    """Return how many lists end at a likely cap, with an unknown count."""
    return sum(standing.is_uncounted for standing in standings.values())
