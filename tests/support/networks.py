"""Networks whose lists are known: one that is made up, and the real one if it lies beside the checkout.

Both are files of the same form. All follows of a list carry one second, the hardest case for a cursor made of seconds.
"""

import csv
import gzip
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import changes
import walk
from running import retinue

LONGEST = 5_413
# Around the sizes of pages, and the commonest sizes of long lists.
SIZES = (LONGEST, 2_001, 1_000, 401, 201, 200, 199, 101, 100, 99, 41, 40, 21, 20, 19, 8, 7, 6, 2, 1)
OWNERS = 251
SHORT = 12
HUB = "hub"
ACCOUNTS, HIDDEN = 6_000, 1_000
# Names as people choose them: of other scripts, from right to left, of joined and combined signs, with what CSV quotes.
DISPLAY_NAMES = ("Ада Лавлейс", "小林 さくら", "مريم 🌙", "👩🏽‍🚀 é", 'Says "hi", twice', "a\u202eb", "  ", "=1+1", "")

Row = tuple[str, ...]


@dataclass(frozen=True)
class Network:
    """A folder with a network's files, how many lists and rows they have, and the lengths of the longest lists."""

    folder: Path
    lists: int
    rows: int
    longest: int
    most_followers: int

    @cached_property
    def following(self) -> walk.Lists:
        """The lists as the files give them."""
        return walk.expected_lists(self.folder)

    @cached_property
    def followers(self) -> walk.Lists:
        """The follower lists that an import of the files gives."""
        return walk.expected_followers(self.folder)

    @cached_property
    def counts(self) -> dict[str, Counter[str]]:
        """How many accounts each one follows, and how many follow it, whether lists show them or not."""
        rows = list(walk.lines_of(self.folder / walk.FOLLOWS))
        return {
            "following_count": Counter(row["follower"] for row in rows),
            "follower_count": Counter(row["followee"] for row in rows),
        }

    def imported(self, folder: Path) -> Path:
        """Return a new store with the whole network in it."""
        store = folder / "graph.db"
        retinue("import", "--store", store, "--accounts", self.folder / walk.ACCOUNTS, self.folder / walk.FOLLOWS)
        return store


REAL = Network(walk.DATA, lists=271, rows=123_299, longest=LONGEST, most_followers=251)
NAMES = ["made-up", *(["real"] if walk.DATA.is_dir() else [])]


def network_of(name: str, folder: Path, *, has_hidden: bool = True) -> Network:
    """Return a network by its name; the made-up one is written into a folder, with hidden accounts or without."""
    if name == "real":
        return REAL
    chance = random.Random(LONGEST)
    shown = [HUB, *(f"user.{number}" for number in range(1, ACCOUNTS))]
    hidden = [f"hidden.{number}" for number in range(HIDDEN)] if has_hidden else []
    first = dict(_lists(shown, hidden, chance))
    _write(folder / walk.ACCOUNTS, ("username", "display_name", "visibility"), _accounts(shown, hidden))
    _write(folder / walk.FOLLOWS, ("follower", "followee", "followed_at"), _rows(first, changes.FIRST_DATE, chance))
    later = _changed(first, shown, chance)
    second = changes.FIRST_DATE + 1_000_000
    _write(folder / changes.LATER_FOLLOWS, ("follower", "followee", "followed_at"), _rows(later, second, chance))
    lists = walk.expected_lists(folder)
    followers = walk.expected_followers(folder)
    rows = sum(map(len, lists.values()))
    return Network(folder, len(lists), rows, max(map(len, lists.values())), max(map(len, followers.values())))


def _lists(shown: list[str], hidden: list[str], chance: random.Random) -> Iterator[tuple[str, list[str]]]:
    """Owners with the accounts that they follow: each the hub, others at random, and in between some hidden ones."""
    for number, owner in enumerate(shown[1 : OWNERS + 1]):
        size = SIZES[number] if number < len(SIZES) else chance.randint(1, SHORT)
        others = [name for name in chance.sample(shown, size + 1) if name not in (owner, HUB)]
        followees = [HUB, *others[: size - 1], *chance.sample(hidden, min(len(hidden), size // 7))]
        chance.shuffle(followees)
        yield owner, followees


def _changed(lists: dict[str, list[str]], names: list[str], chance: random.Random) -> dict[str, list[str]]:
    """The lists at a later date: some follows have ended, others begun, some owners are gone and new ones there."""
    later = {}
    for owner, followees in list(lists.items())[10:]:
        stayed = [name for name in followees if chance.random() < 0.9]
        begun = [name for name in chance.sample(names, 5) if name != owner and name not in followees]
        later[owner] = [*stayed, *begun]
    return later | {owner: [HUB] for owner in names[-5:]}


def _accounts(shown: list[str], hidden: list[str]) -> Iterator[Row]:
    """Each account with a display name and its visibility."""
    for number, name in enumerate([*shown, *hidden]):
        visibility = "public" if number < len(shown) else walk.HIDDEN[number % len(walk.HIDDEN)]
        yield name, DISPLAY_NAMES[number % len(DISPLAY_NAMES)], visibility


def _rows(lists: dict[str, list[str]], newest: int, chance: random.Random) -> Iterator[Row]:
    """The follows of all lists; those of one list carry one second, which is that of other lists, too."""
    seconds = [newest, *(newest - chance.randrange(100_000) for _ in range(40))]
    for number, (owner, followees) in enumerate(lists.items()):
        at = seconds[number % len(seconds)]
        yield from ((owner, name, str(at)) for name in followees)


def _write(path: Path, columns: Row, rows: Iterable[Row]) -> None:
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
