"""The follows and unfollows between two collections: sets of folded names, list by list."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from retinue import names
from retinue.collect import journal
from retinue.collect.collection import PAGES, replay, require_unaltered
from retinue.collect.journal import PageRecord
from retinue.collect.progress import Item


class FollowChange(NamedTuple):
    """A change of one list: `change` is followed or unfollowed."""

    change: str
    follower: str
    followee: str
    list: str


class ComparableLists(NamedTuple):
    """Lists that are complete in both collections, and lists that are not."""

    lists: list[Item]
    left_out: list[Item]


def comparable(old: Path, new: Path) -> ComparableLists:
    """Return the lists of two collections, as the later one spells them. Raises `InputError`."""
    states: list[dict[Item, str]] = []
    spellings: dict[Item, Item] = {}
    for folder in (old, new):
        require_unaltered(folder)
        lists = {item: at.state for item, at in replay(folder).items.items() if item.list != "info"}
        spellings |= {_folded(item): item for item in lists}
        states.append({_folded(item): state for item, state in lists.items()})
    is_whole = {item: all(known.get(item) == "complete" for known in states) for item in sorted(spellings)}
    return ComparableLists(
        *([spellings[item] for item in is_whole if is_whole[item] is wanted] for wanted in (True, False))
    )


def changes(old: Path, new: Path, lists: list[Item]) -> Iterator[FollowChange]:
    """Yield changes, list by list. The names of both collections are held in memory."""
    before, after = (_names(folder, {_folded(item) for item in lists}) for folder in (old, new))
    for item in lists:
        old_names, new_names = before.get(_folded(item), {}), after.get(_folded(item), {})
        for change, those, others in (("followed", new_names, old_names), ("unfollowed", old_names, new_names)):
            for name in sorted(those[folded] for folded in those.keys() - others.keys()):
                pair = (item.name, name) if item.list == "following" else (name, item.name)
                yield FollowChange(change, *pair, item.list)


def _names(folder: Path, wanted: set[Item]) -> dict[Item, dict[str, str]]:
    """Return the names of each list by their folded forms."""
    spellings: dict[Item, dict[str, str]] = {}
    for record in journal.records(folder / PAGES):
        if isinstance(record, PageRecord) and (item := _folded(Item(record.name, record.list))) in wanted:
            usernames = (person.username for person in record.page().rows if person.username)
            spellings.setdefault(item, {}).update((names.fold(name), name) for name in usernames)
    return spellings


def _folded(item: Item) -> Item:
    return item._replace(name=names.fold(item.name))
