"""The store's contract, the same suite for every store."""

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from frozen_clock import FrozenClock
from retinue import assemble, names
from retinue.model import AccountRecord, Client, FollowRecord, Grant, Row, Slice, Visibility
from retinue.store.base import Verdict
from retinue.store.sqlite.graph import SqliteGraph
from retinue.store.sqlite.writer import SqliteGraphWriter

T = TypeVar("T")
NOW = 1_700_000_000
A, D, S = Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.SELF_FOLLOW


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a store's method."""
    return asyncio.run(coroutine)


class OpenStore:
    """A store opened for reading and writing, with its calls made short."""

    def __init__(self, path: Path, clock: FrozenClock) -> None:
        assemble.create_store(str(path))
        self.clock = clock
        self.writer: SqliteGraphWriter = assemble.open_graph_writer(str(path), clock)
        self.graph: SqliteGraph[Row] = assemble.open_graph(str(path), clock)

    def follow(self, *rows: tuple[str, str, int | None], now: int = NOW) -> list[Verdict]:
        """Store follows."""
        return run(self.writer.add_follows([FollowRecord(a, b, at, now) for a, b, at in rows]))

    def accounts(self, *records: AccountRecord, now: int = NOW) -> list[Verdict]:
        """Create or change accounts, and let readers take notice."""
        verdicts = run(self.writer.add_accounts(records, now))
        self.clock.advance(1)
        return verdicts

    def slice(self, name: str, bound: int = NOW, limit: int = 1000) -> Slice[Row]:
        """A stretch of a list."""
        account = run(self.graph.find_account(names.fold(name)))
        assert account is not None
        return run(self.graph.following(account.id, bound, limit))

    def names(self, name: str) -> list[str]:
        """All usernames of a list."""
        return [row.username for row in self.slice(name).rows]

    def positions(self, name: str) -> list[int]:
        """All positions of a list, newest first, read one by one."""
        found, bound = [], NOW
        while (one := self.slice(name, bound, 1)).rows:
            found.append(one.oldest)
            bound = one.oldest - 1
        return found


@pytest.fixture
def store(store_path: Path, clock: FrozenClock) -> Iterator[OpenStore]:
    """An empty store."""
    store = OpenStore(store_path, clock)
    yield store
    store.graph.close()
    store.writer.close()


def test_lists_are_newest_first_up_to_the_bound(store: OpenStore) -> None:
    """The bound is inclusive and the limit cuts, with has_more telling whether anything is left."""
    store.follow(("a", "b", 100), ("a", "d", 300), ("a", "c", 200))

    assert store.names("a") == ["d", "c", "b"]
    for bound, limit, expected, oldest, has_more in (
        (300, 3, ["d", "c", "b"], 100, False),
        (300, 2, ["d", "c"], 200, True),
        (299, 2, ["c", "b"], 100, False),
        (100, 1, ["b"], 100, False),
        (99, 1, [], 0, False),
    ):
        found = store.slice("a", bound, limit)
        assert (expected, oldest, has_more) == ([row.username for row in found.rows], found.oldest, found.has_more)


def test_rows_of_one_second_keep_the_order_of_storing(store: OpenStore) -> None:
    """The first row of a second is the newest; the next ones stand on the nearest free earlier seconds."""
    store.follow(("a", "x", 299), ("a", "b", 300), ("a", "c", 300), ("a", "d", 300), ("a", "y", 298))

    assert store.names("a") == ["b", "x", "c", "d", "y"]
    assert store.positions("a") == [300, 299, 298, 297, 296]


def test_where_no_earlier_second_is_free_a_later_one_is_taken(store: OpenStore) -> None:
    """Seconds begin at 1."""
    store.follow(*(("a", f"f{n}", 2) for n in range(5)))

    assert store.positions("a") == [5, 4, 3, 2, 1]
    assert {"f0", "f1", "f2", "f3", "f4"} == set(store.names("a"))


def test_follows_are_idempotent(store: OpenStore) -> None:
    """The same follow again, later, or without a time is a duplicate and changes nothing."""
    assert store.follow(("a", "b", 100), ("a", "c", 100)) == [A, A]
    before = store.positions("a")

    assert store.follow(("a", "b", 100), ("a", "b", 500), ("a", "b", None), ("a", "c", 100)) == [D, D, D, D]
    assert before == store.positions("a")


def test_an_earlier_time_moves_a_follow_and_frees_its_second(store: OpenStore) -> None:
    """A follow that began earlier stands earlier; the second it leaves can be taken again."""
    store.follow(("a", "b", 300), ("a", "c", 300), ("a", "d", 300))

    assert store.follow(("a", "c", 100)) == [A]
    assert store.positions("a") == [300, 298, 100]
    assert store.names("a") == ["b", "d", "c"]
    store.follow(("a", "e", 300))
    assert store.positions("a") == [300, 299, 298, 100]


def test_a_time_in_the_future_or_none_counts_as_now(store: OpenStore) -> None:
    """A follow never begins later than it was received."""
    store.follow(("a", "b", NOW + 5000), ("a", "c", None), now=NOW - 10)

    assert store.positions("a") == [NOW - 10, NOW - 11]


def test_nobody_follows_themselves(store: OpenStore) -> None:
    """Whatever the spelling; and the account is not made for that."""
    assert store.follow(("a", "a", 100), ("a", "@A", 100)) == [S, S]
    assert run(store.graph.find_account("a")) is None

    store.accounts(AccountRecord("anna", key="17"))
    assert store.follow(("17", "Anna", 100)) == [S]


def test_accounts_are_named_by_key_or_username(store: OpenStore) -> None:
    """A key wins over a username; unknown names become accounts."""
    store.accounts(AccountRecord("anna", key="17", display_name="Anna"), AccountRecord("17th", key="99"))
    store.follow(("17", "99", 100), ("ANNA", "new", 200))

    assert store.names("anna") == ["new", "17th"]
    assert run(store.graph.find_account("17")) is None


def test_records_change_only_what_they_say(store: OpenStore) -> None:
    """A repeated record is a duplicate; a new display name reaches lists within a second."""
    store.follow(("fan", "anna", 100))
    assert store.accounts(*[AccountRecord("anna", display_name="Anna", likes_count=3)] * 2) == [A, D]
    assert store.slice("fan").rows[0].display_name == "Anna"

    assert store.accounts(AccountRecord("ANNA")) == [D]
    assert store.accounts(AccountRecord("anna", likes_count=4)) == [A]
    assert store.accounts(AccountRecord("anna", display_name="Anna 2")) == [A]
    assert store.slice("fan").rows[0].display_name == "Anna 2"


def test_a_rename_keeps_the_account(store: OpenStore) -> None:
    """A new username for a key reaches lookups at once and lists within a second; the old one is unknown."""
    store.accounts(AccountRecord("anna", key="17"))
    store.follow(("fan", "anna", 100), ("anna", "b", 100))
    assert store.names("fan") == ["anna"]

    store.accounts(AccountRecord("annika", key="17"))

    assert store.names("fan") == ["annika"]
    assert store.names("annika") == ["b"]
    assert run(store.graph.find_account("anna")) is None


def test_a_source_that_begins_to_give_ids_takes_over_its_accounts(store: OpenStore) -> None:
    """Accounts first known by name alone keep their follows when a source names their id."""
    store.follow(("anna", "ben", 100))
    store.accounts(AccountRecord("anna", key="17"), AccountRecord("ben", key="18", display_name="Ben"))

    store.follow(("17", "18", 100), ("17", "carla", 200))

    assert store.names("anna") == ["carla", "ben"]


@pytest.mark.parametrize("keys", [("1", "2"), ("2", "1")])
def test_a_name_known_from_follows_is_claimed_like_any_other(store: OpenStore, keys: tuple[str, str]) -> None:
    """Whether follows or accounts came first does not decide who has a name."""
    store.follow(("a", "zed", 100))
    store.accounts(*(AccountRecord("zed", key=key, display_name=key) for key in keys))
    store.follow(("b", "zed", 100))

    assert ["1"] == [row.display_name for row in store.slice("b").rows]


def test_ids_may_differ_in_case_alone(store: OpenStore) -> None:
    """Keys are compared as they are; only usernames are folded."""
    store.accounts(AccountRecord("zed", key="UCabc"), AccountRecord("yul", key="UCAbc"))

    assert [A] == store.follow(("UCabc", "UCAbc", 100))
    assert ["yul"] == store.names("zed")


def test_an_id_that_was_first_seen_in_a_follow_is_found_again(store: OpenStore) -> None:
    """Also when it has capitals."""
    store.follow(("UCabc", "x", 100))
    store.accounts(AccountRecord("zed", key="UCabc"))

    assert ["x"] == store.names("zed")


def test_a_name_that_is_anothers_id_is_another_account(store: OpenStore) -> None:
    """A record without an id never renames an account that has one."""
    store.accounts(AccountRecord("alice", key="12345", display_name="Alice"))
    store.accounts(AccountRecord("12345", display_name="Someone else"))
    store.follow(("fan", "alice", 100))

    assert ["Alice"] == [row.display_name for row in store.slice("fan").rows]


def test_a_username_belongs_to_its_latest_claim(store: OpenStore) -> None:
    """The loser has no username and is no row, until it claims another or the name is free again."""
    store.accounts(AccountRecord("anna", key="17"), now=NOW)
    store.follow(("fan", "17", 100), ("fan", "18", 200), ("17", "x", 100))
    store.accounts(AccountRecord("anna", key="18"), now=NOW + 1)
    assert store.names("fan") == ["anna"]
    assert store.names("anna") == []

    assert store.accounts(AccountRecord("anna", key="17"), now=NOW + 2) == [D]
    assert store.names("fan") == ["anna"]
    store.accounts(AccountRecord("annika", key="17"), now=NOW + 3)
    assert store.names("fan") == ["anna", "annika"]
    assert store.names("annika") == ["x"]


@pytest.mark.parametrize("keys", [("17", "18"), ("18", "17")])
def test_two_claims_of_one_second_go_to_the_smaller_key(store: OpenStore, keys: tuple[str, str]) -> None:
    """Whatever the order in which they come, and a repetition changes nothing."""
    records = [AccountRecord("anna", key=key, display_name=key) for key in keys]
    store.accounts(*records)
    store.follow(("fan", "17", 100), ("fan", "18", 200))
    assert [row.display_name for row in store.slice("fan").rows] == ["17"]

    assert store.accounts(*records, now=NOW + 1) == [D, D]
    assert [row.display_name for row in store.slice("fan").rows] == ["17"]


def test_what_is_written_is_there_after_opening_again(store: OpenStore, store_path: Path) -> None:
    """Nothing lives in the writer's memory."""
    store.follow(("a", "b", 100))
    run(store.writer.settle())
    again = OpenStore(store_path, store.clock)

    assert again.names("a") == ["b"]
    assert again.follow(("a", "b", 100)) == [D]
    again.graph.close()
    again.writer.close()


def test_two_writers_take_turns(store: OpenStore, store_path: Path) -> None:
    """What one writer remembers never contradicts what another wrote."""
    other = OpenStore(store_path, store.clock)
    store.follow(("a", "anna", 100))
    other.accounts(AccountRecord("anna", key="17"))
    other.accounts(AccountRecord("annika", key="17"), now=NOW + 1)
    store.follow(("a", "anna", 200), ("b", "anna", 200))

    assert store.names("a") == ["anna", "annika"]
    assert other.names("b") == ["anna"]
    other.graph.close()
    other.writer.close()


def test_clients_and_tokens(store_path: Path) -> None:
    """Clients are kept, listed and revoked; tokens are found until they are forgotten or their client ends."""
    assemble.create_store(str(store_path))
    access = assemble.open_access(str(store_path))
    first = Client("k1", "One", frozenset({"s", "t"}), 100)
    second = Client("k2", "Two", frozenset({"s"}), 200)
    digests = [bytes([n]) * 32 for n in range(3)]

    async def story() -> None:
        assert await access.find_client("k1") is None
        await access.add_client(first, digests[0])
        await access.add_client(second, digests[0])
        assert (first, digests[0]) == await access.find_client("k1")
        assert [first, second] == await access.clients()
        for number, digest in enumerate(digests):
            await access.add_token(digest, "k1" if number else "k2", 1000 + number)
        assert Grant("k1", frozenset({"s", "t"}), 1001) == await access.find_grant(digests[1])
        assert await access.find_grant(b"x" * 32) is None
        assert await access.forget_tokens(1001) == 2
        assert await access.find_grant(digests[1]) is None
        assert await access.find_grant(digests[2]) is not None
        assert not await access.revoke_client("nobody", 300)
        assert await access.revoke_client("k1", 300)
        assert await access.revoke_client("k1", 400)
        assert [client.revoked_at for client in await access.clients()] == [300, None]
        assert await access.find_grant(digests[2]) is None

    run(story())
    access.close()


def test_a_withheld_account_comes_back_to_its_place(store: OpenStore) -> None:
    """Visibility is no part of a list: what comes back stands where it stood."""
    store.follow(("a", "b", 100), ("a", "c", 200), ("a", "d", 300))
    store.accounts(AccountRecord("c", visibility=Visibility.WITHHELD))
    assert store.names("a") == ["d", "b"]

    store.accounts(AccountRecord("c", visibility=Visibility.PUBLIC))
    assert store.names("a") == ["d", "c", "b"]
