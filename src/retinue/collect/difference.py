"""Who was followed and unfollowed between two collections: sets of names, list by list."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from retinue.collect import journal
from retinue.collect.collection import PAGES, replayed
from retinue.collect.journal import PageRead
from retinue.collect.progress import Place


class Change(NamedTuple):
    """`change` is followed or unfollowed: what happened between two names."""

    change: str
    follower: str
    followee: str
    list: str


class Compared(NamedTuple):
    """Lists that could be compared, and those that are not complete in both collections."""

    lists: list[Place]
    left_out: list[Place]


def comparable(old: Path, new: Path) -> Compared:
    """Which lists both collections have to their ends. Raises `InputError`."""
    both = [
        {place: standing.state for place, standing in replayed(folder).standings.items() if place.list != "info"}
        for folder in (old, new)
    ]
    places = sorted(both[0].keys() | both[1].keys())
    is_whole = {place: all(states.get(place) == "complete" for states in both) for place in places}
    return Compared(*([place for place in places if is_whole[place] is wanted] for wanted in (True, False)))


def changes(old: Path, new: Path, lists: list[Place]) -> Iterator[Change]:
    """What has changed, list by list. In memory are the names of both collections."""
    before, after = (_names(folder, set(lists)) for folder in (old, new))
    for place in lists:
        was, now = before.get(place, set()), after.get(place, set())
        for change, names in (("followed", now - was), ("unfollowed", was - now)):
            for name in sorted(names):
                pair = (place.name, name) if place.list == "following" else (name, place.name)
                yield Change(change, *pair, place.list)


def _names(folder: Path, wanted: set[Place]) -> dict[Place, set[str]]:
    found: dict[Place, set[str]] = {}
    for record in journal.records(folder / PAGES):
        if isinstance(record, PageRead) and (place := Place(record.name, record.list)) in wanted:
            found.setdefault(place, set()).update(person.username for person in record.rows() if person.username)
    return found
