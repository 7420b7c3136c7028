"""Generation of a sample graph as import files. The same seed gives the same bytes."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retinue.errors import InputError
from retinue.sample_files import CsvFiles, Ints, ParquetFiles, SampleFollows
from retinue.temporary import TemporaryFolder

# The documented list. TikTok's page shows three rows for the bound 1685544251 and then the cursor 1650642422; one older
# row makes has_more true.
PAGE_OWNER = "test_user"
PAGE_ROWS = (
    ("test_username", "test user", 1685000000),
    ("test_username2", "test user 2", 1670000000),
    ("test_username3", "test user 3", 1650642423),
    ("test_username4", "test user 4", 1640000000),
)

_FIRST_SECOND = 1483228800  # 2017-01-01
_LAST_SECOND = 1735689600  # 2025-01-01
_MAX_FOLLOWING = 10_000
_BURST_SHARE = 0.15
_FOLLOWS_PER_CHUNK = 500_000
_ROUNDS_BY_POPULARITY = 4
_MAX_ROUNDS = 500  # among millions of accounts the last few follows would take thousands
_LUCK_BITS = 62  # of a signed word, for a follower's number in its chunk and the front of a random fraction

_HANDLES = ("anna", "ben", "chloe", "dario", "elif", "farid", "gia", "hugo", "ines", "juno", "kai", "lena", "mateo")
_THINGS = ("bakes", "codes", "dances", "draws", "films", "jokes", "reads", "runs", "sings", "skates", "travels")
_FOREIGN_HANDLES = ("søren", "мария", "さくら", "محمد", "žofie", "nguyễn")
_DISPLAY_NAMES = (
    "Anna {}",
    "BEN 🔥 {}",
    "Zoë & Léa {}",
    "Мария {}",
    "さくら🌸{}",
    "محمد {}",
    "রিয়া {}",
    "Nguyễn Ánh {}",
    "👩‍👩‍👧‍👦 {}",
    "🇩🇪🇧🇷 {}",
    'The "real" {}, twice',
    "{}",
)


class SampleSize(NamedTuple):
    """The size and seed of a sample."""

    accounts: int
    follows: int
    seed: int


def write_sample(
    size: SampleSize, folder: Path, files_of: Callable[[Path], CsvFiles | ParquetFiles] = CsvFiles
) -> tuple[Path, Path]:
    """Write files of accounts and follows to a folder; return their paths. Raises `InputError`."""
    _require_possible(size)
    random = np.random.Generator(np.random.PCG64(size.seed))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with closing(TemporaryFolder(folder / "sample")) as unfinished:  # existing files are replaced by complete ones
            files = files_of(unfinished.path)
            accounts = list(_accounts(random, size.accounts))
            files.write_accounts(accounts)
            files.write_follows([username for _, username, *_ in accounts], _follows(random, size))
            whole = (files.accounts, files.follows)
            first, second = (path.replace(folder / path.name) for path in whole)
            return first, second
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from error


def _require_possible(size: SampleSize) -> None:
    fixed = len(PAGE_ROWS)
    if size.accounts <= fixed:
        raise InputError(f"--accounts {size.accounts}: the sample needs at least {fixed + 1}")
    possible = (size.accounts - 1) * _cap(size.accounts) + fixed
    if not fixed <= size.follows <= possible:
        raise InputError(f"--follows {size.follows}: {size.accounts} accounts can have {fixed} to {possible}")


def _cap(accounts: int) -> int:
    # TikTok's limit, or a third of a small graph.
    return max(1, min(_MAX_FOLLOWING, accounts // 3))


# --- accounts -------------------------------------------------------------------------------------------------------


def _accounts(random: np.random.Generator, count: int) -> Iterator[tuple[Any, ...]]:
    for number, row in enumerate(_profiles(random, count)):
        yield 6_800_000_000_000_000_000 + 7919 * number, *row


def _profiles(random: np.random.Generator, count: int) -> Iterator[tuple[Any, ...]]:
    yield PAGE_OWNER, "Test User", "public", "The account of the documentation", False, 0
    for username, display_name, _ in PAGE_ROWS:
        yield username, display_name, "public", "", False, 0
    others = count - 1 - len(PAGE_ROWS)
    choices = random.integers(0, 1 << 30, size=(others, 3)).tolist()
    luck = random.random(size=(others, 2)).tolist()
    for number, ((handle, thing, name), (seen, fame)) in enumerate(zip(choices, luck, strict=True)):
        heads = _FOREIGN_HANDLES if handle % 200 == 0 else _HANDLES
        username = f"{heads[handle % len(heads)]}_{_THINGS[thing % len(_THINGS)]}.{number}"
        display_name = _DISPLAY_NAMES[name % len(_DISPLAY_NAMES)].format(_THINGS[thing % len(_THINGS)])
        bio = f"{_THINGS[name % len(_THINGS)]} every day ✨" if fame > 0.5 else ""  # noqa: PLR2004 - half of them
        likes = int(10 / (1.0001 - fame) ** 2)
        yield username, display_name, _visibility(seen), bio, fame > 0.999, likes  # noqa: PLR2004 - one in a thousand


def _visibility(seen: float) -> str:
    for share, visibility in ((0.01, "withheld"), (0.03, "private"), (0.04, "following_hidden")):
        if seen < share:
            return visibility
    return "public"


# --- follows --------------------------------------------------------------------------------------------------------


def _follows(random: np.random.Generator, size: SampleSize) -> Iterator[SampleFollows]:
    """Yield the documented list, then all others, each newest first."""
    degrees = _degrees(random, size)
    joined = random.integers(_FIRST_SECOND, _LAST_SECOND - 30 * 86_400, size=size.accounts)
    popularity = random.permutation(size.accounts)
    fixed = np.arange(len(PAGE_ROWS))
    yield SampleFollows(np.zeros_like(fixed), fixed + 1, np.array([at for *_, at in PAGE_ROWS]))
    for chunk in _chunks(degrees):
        followers, followees = _pairs(random, degrees, chunk, popularity)
        times = _times(random, followers, joined)
        order = np.lexsort((-times, followers))
        yield SampleFollows(followers[order], followees[order], times[order])


def _degrees(random: np.random.Generator, size: SampleSize) -> Ints:
    # The lengths of all lists are log-normal and capped, with `size.follows` in total.
    wanted, cap = size.follows - len(PAGE_ROWS), _cap(size.accounts)
    weights = np.exp(random.normal(0.0, 1.4, size=size.accounts))
    weights[0] = 0.0  # the page owner's list is fixed
    degrees = np.zeros(size.accounts, dtype=np.int64)
    rounds = itertools.count()
    while (missing := wanted - int(degrees.sum())) > 0:
        room = np.where(degrees < cap, weights, 0.0)
        share = np.floor(room / room.sum() * missing).astype(np.int64)
        if not share.any() or next(rounds) > _MAX_ROUNDS:
            share[np.argsort(-room, kind="stable")[: min(missing, int(np.count_nonzero(room)))]] = 1
        degrees = np.minimum(degrees + share, cap)
    return degrees


def _chunks(degrees: Ints) -> Iterator[range]:
    ends = np.cumsum(degrees)
    first = 0
    while first < len(degrees):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + _FOLLOWS_PER_CHUNK, side="right")))
        yield range(first, last)
        first = last


def _pairs(random: np.random.Generator, degrees: Ints, chunk: range, popularity: Ints) -> tuple[Ints, Ints]:
    count = len(popularity)
    codes = np.empty(0, dtype=np.int64)
    missing = degrees[chunk.start : chunk.stop].copy()
    for turn in range(1_000_000):
        if not missing.any():
            break
        drawn = np.repeat(np.arange(chunk.start, chunk.stop), np.where(missing > 0, 2 * missing + 4, 0))
        skew = 2.5 if turn < _ROUNDS_BY_POPULARITY else 1.0
        followees = popularity[(count * random.random(drawn.size) ** skew).astype(np.int64)]
        fresh = (drawn * count + followees)[drawn != followees]
        codes = _at_most(random, _distinct(np.concatenate((codes, fresh))), degrees, count)
        missing = (degrees - np.bincount(codes // count, minlength=count))[chunk.start : chunk.stop]
    return codes // count, codes % count


def _distinct(codes: Ints) -> Ints:
    # `np.unique` hashes first, which takes several times as long.
    codes.sort()
    distinct: Ints = codes[np.diff(codes, prepend=-1) != 0]
    return distinct


def _at_most(random: np.random.Generator, codes: Ints, degrees: Ints, count: int) -> Ints:
    # Random pairs of followers that have too many are dropped.
    followers = codes // count  # in order, since the codes are
    codes = codes[_shuffled(followers, random.random(codes.size))]
    leads = np.diff(followers, prepend=-1) != 0
    firsts = np.maximum.accumulate(np.where(leads, np.arange(codes.size), 0))
    kept: Ints = codes[np.arange(codes.size) - firsts < degrees[followers]]
    return kept


def _shuffled(followers: Ints, luck: NDArray[np.float64]) -> Ints:
    # Both in one number sort much faster than one after the other.
    if not followers.size:
        return followers
    local = followers - followers[0]
    bits = _LUCK_BITS - int(local[-1]).bit_length()
    keys = (local << bits) | (luck * (1 << bits)).astype(np.int64)
    order: Ints = np.argsort(keys)
    keys = keys[order]
    return order if (keys[1:] != keys[:-1]).all() else np.lexsort((luck, followers))


def _times(random: np.random.Generator, followers: Ints, joined: Ints) -> Ints:
    begin = joined[followers]
    times = begin + (random.random(followers.size) * (_LAST_SECOND - begin)).astype(np.int64)
    is_new_list = np.diff(followers, prepend=-1) != 0
    leads = is_new_list | (random.random(followers.size) >= _BURST_SHARE)
    leader = np.maximum.accumulate(np.where(leads, np.arange(followers.size), 0))
    bursts: Ints = times[leader]
    return bursts
