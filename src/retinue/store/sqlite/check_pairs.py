"""The invariants of pairs: stored intervals equal the history of the events."""

from collections.abc import Callable, Iterator

from retinue.history import Interval, intervals
from retinue.model import Direction
from retinue.store.rules.values import Pair
from retinue.store.sqlite.check_lists import entries_of
from retinue.store.sqlite.files import Execute
from retinue.store.sqlite.merged_lists import read_list
from retinue.store.sqlite.pair_table import PairRow, decoded, read_ended

_PAIRS = "SELECT follower, followee, moments, started_at, following_position, followers_position FROM pair"
_WITHOUT_PAIR = (
    "SELECT follower, followee, started_at FROM ended"
    " WHERE NOT EXISTS (SELECT 1 FROM pair WHERE pair.follower = ended.follower AND pair.followee = ended.followee)"
)
_POSITIONS = "SELECT following_position, followers_position FROM pair WHERE follower = ? AND followee = ?"


def _wrong_pairs(execute: Execute) -> Iterator[str]:
    for row in execute(_PAIRS):
        pair = PairRow(*row)
        for problem in _problems_of_pair(execute, pair):
            yield f"pair of accounts {pair.follower} and {pair.followee}: {problem}"


def _problems_of_pair(execute: Execute, pair: PairRow) -> Iterator[str]:
    moments = decoded(pair)
    ended = read_ended(execute, Pair(pair.follower, pair.followee))
    stored = [placed.interval for placed in ended]
    if pair.started_at is not None:
        stored.append(Interval(pair.started_at, None))
    if intervals(moments) != stored:
        yield f"its events make {_shown(intervals(moments))}, but stored is {_shown(stored)}"
    if pair.started_at is None:
        return
    if len(moments) == 1 and pair.started_at == pair.following_position == pair.followers_position:
        yield "has nothing that the lists do not tell"
    for owner, account, position, name in (
        (pair.follower, pair.followee, pair.following_position, "following"),
        (pair.followee, pair.follower, pair.followers_position, "followers"),
    ):
        if not _stands(execute, (name, f"{name}_aside"), owner, (position, account, pair.started_at)):
            yield f"does not stand on second {position} of the {name} list of account {owner}"


def _stands(execute: Execute, tables: tuple[str, str], owner: int, entry: tuple[int | None, int, int]) -> bool:
    position = entry[0]
    return position is not None and any(
        next(iter(read_list(execute, table, owner, position)), None) == entry for table in tables
    )


def _lost_history(execute: Execute) -> Iterator[str]:
    for follower, followee, start in execute(_WITHOUT_PAIR):
        yield f"the interval of accounts {follower} and {followee} that began at {start} has no pair"


def _unknown_displacements(execute: Execute) -> Iterator[str]:
    """Yield displaced entries whose pair does not tell the other position."""
    for column, name in enumerate(("following", "followers")):
        for side in ("", "_aside"):
            for owner, entry in entries_of(execute, f"{name}{side}"):
                if entry.position == entry.second:
                    continue
                ids = (owner, entry.account) if name == "following" else (entry.account, owner)
                if [positions[column] for positions in execute(_POSITIONS, ids)] != [entry.position]:
                    yield f"{name} of account {owner}: second {entry.position} is away from {entry.second} unexplained"


def _unnoted_lateness(execute: Execute) -> Iterator[str]:
    noted = set(execute("SELECT owner, direction FROM late").fetchall())
    for name in (direction.value for direction in Direction):
        for owner, position, start in _positions_and_starts(execute, name):
            if position > start and (owner, name) not in noted:
                yield f"{name} of account {owner}: second {position} is later than {start}, which is not noted"


def _positions_and_starts(execute: Execute, name: str) -> Iterator[tuple[int, int, int]]:
    for side in ("", "_aside"):
        yield from ((owner, entry.position, entry.second) for owner, entry in entries_of(execute, f"{name}{side}"))
    owner = "follower" if name == Direction.FOLLOWING.value else "followee"
    yield from execute(f"SELECT {owner}, {name}_position, started_at FROM ended")


def _shown(found: list[Interval]) -> str:
    return ", ".join(f"{each.start} to {each.end or 'now'}" for each in found) or "nothing"


INVARIANTS: tuple[Callable[[Execute], Iterator[str]], ...] = (
    _wrong_pairs,
    _lost_history,
    _unknown_displacements,
    _unnoted_lateness,
)
