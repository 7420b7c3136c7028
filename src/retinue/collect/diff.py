"""Who was followed and unfollowed between two collections: sets of names, list by list, in any spelling."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from retinue import names
from retinue.collect import journal
from retinue.collect.collection import PAGES, replayed, require_unaltered
from retinue.collect.journal import PageRecord
from retinue.collect.progress import Item


class FollowChange(NamedTuple):
    """`change` is followed or unfollowed: what happened between two names."""

    change: str
    follower: str
    followee: str
    list: str


class ComparableLists(NamedTuple):
    """Lists that could be compared, and those that are not complete in both collections."""

    lists: list[Item]
    left_out: list[Item]


def comparable(old: Path, new: Path) -> ComparableLists:
    """Which lists both collections have to their ends, as the later one spells them. Raises `InputError`."""
    states: list[dict[Item, str]] = []
    spelled: dict[Item, Item] = {}
    for folder in (old, new):
        require_unaltered(folder)
        lists = {place: at.state for place, at in replayed(folder).standings.items() if place.list != "info"}
        spelled |= {_folded(place): place for place in lists}
        states.append({_folded(place): state for place, state in lists.items()})
    is_whole = {place: all(known.get(place) == "complete" for known in states) for place in sorted(spelled)}
    return ComparableLists(
        *([spelled[place] for place in is_whole if is_whole[place] is wanted] for wanted in (True, False))
    )


def changes(old: Path, new: Path, lists: list[Item]) -> Iterator[FollowChange]:
    """What has changed, list by list. In memory are the names of both collections."""
    before, after = (_names(folder, {_folded(place) for place in lists}) for folder in (old, new))
    for place in lists:
        was, now = before.get(_folded(place), {}), after.get(_folded(place), {})
        for change, known, others in (("followed", now, was), ("unfollowed", was, now)):
            for name in sorted(known[folded] for folded in known.keys() - others.keys()):
                pair = (place.name, name) if place.list == "following" else (name, place.name)
                yield FollowChange(change, *pair, place.list)


def _names(folder: Path, wanted: set[Item]) -> dict[Item, dict[str, str]]:
    """Of each list: its names, by what is the same in all their spellings."""
    found: dict[Item, dict[str, str]] = {}
    for record in journal.records(folder / PAGES):
        if isinstance(record, PageRecord) and (place := _folded(Item(record.name, record.list))) in wanted:
            said = (person.username for person in record.rows() if person.username)
            found.setdefault(place, {}).update((names.fold(name), name) for name in said)
    return found


def _folded(place: Item) -> Item:
    return place._replace(name=names.fold(place.name))
