"""A writer's groups: the records that it places together, and the names that it refuses."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from retinue.model import AccountEvent, AccountRecord, ErasureEvent, FollowEvent, FollowRecord, Visibility
from retinue.store.bulk import NO_ACCOUNT
from retinue.store.contract import Verdict
from retinue.store.layout import entries
from retinue.store.layout.columns import NO_ENTRIES
from retinue.store.layout.entries import EntryTable
from retinue.store.layout.sealing import unseal
from retinue.store.layout.tables import ACCOUNT, ACCOUNT_KEY, USERNAME, pair_key
from retinue.store.load import groups, loader
from retinue.store.rules.accounts import Accounts
from retinue.store.rules.pairs import Pairs
from support.dict_engine import DictBackend, DictGraph
from support.frozen_clock import FrozenClock
from support.store_contract import NOW, run


class Noted:
    """A writer of follows that notes which of them go through the rules one by one."""

    def __init__(self, patch: pytest.MonkeyPatch, kind: str, *, is_turned: bool) -> None:
        self.backend = DictBackend()
        self.writer = self.backend.open_writer(FrozenClock())
        self.kind, self.is_turned = kind, is_turned
        self.learned = 0
        learn = Pairs.learn

        def noted(pairs: Pairs, *arguments: Any) -> Verdict:
            self.learned += 1
            return learn(pairs, *arguments)

        patch.setattr(Pairs, "learn", noted)
        patch.setattr(Accounts, "create", lambda *_: pytest.fail("an account was created alone"))

    def follow(self, pairs: Sequence[tuple[str, str]], verdict: Verdict = Verdict.ACCEPTED) -> int:
        """Store follows, all with one verdict; return how many went through the rules."""
        before, ordered = self.learned, [pair[::-1] for pair in pairs] if self.is_turned else pairs
        if self.kind == "events":
            decisions = run(self.writer.apply([FollowEvent(*pair, NOW) for pair in ordered], NOW))
        else:
            decisions = [*run(self.writer.add_follows([FollowRecord(*pair, None, NOW) for pair in ordered]))]
        assert decisions == [verdict] * len(pairs)
        return self.learned - before


@pytest.mark.parametrize("is_turned", [False, True])
@pytest.mark.parametrize("kind", ["events", "rows"])
def test_ordinary_follows_of_a_group_are_placed_together(
    monkeypatch: pytest.MonkeyPatch, kind: str, *, is_turned: bool
) -> None:
    """None of them goes through the rules, but for those of a long list in which little is new."""
    monkeypatch.setattr(loader, "ALWAYS_REWRITTEN", 150)
    noted = Noted(monkeypatch, kind, is_turned=is_turned)
    of_hub = [("hub", f"a{number}") for number in range(400)]

    assert noted.follow(of_hub) == 0
    assert noted.follow(of_hub, Verdict.DUPLICATE) == 0
    assert noted.follow([(f"a{number}", f"b{number}") for number in range(100)]) == 0
    assert noted.follow([("hub", "c"), *((f"a{number}", f"c{number}") for number in range(100))]) == 1
    few = [(f"a{number}", f"d{number % 3}") for number in range(groups.MIN_GROUP - 1)]
    assert noted.follow([(f"d{number}", f"a{number}") for number in range(groups.MIN_GROUP)]) == 0
    assert noted.follow(few) == len(few)
    assert noted.backend.problems() == []


NEW_NAMES = st.sampled_from(["u", "U", "@u", "ñ", "x" * 66, "u\u0130"])
NEW_KEYS = st.sampled_from([None, None, "k", "7", "07", "0", "\u0667", "9" * 18, "9" * 19])
NEW_RECORDS = st.builds(
    AccountRecord,
    NEW_NAMES,
    NEW_KEYS,
    st.sampled_from([None, "", "A", "u1"]),
    st.sampled_from([None, *Visibility]),
    **{field: st.sampled_from([None, "", "x"]) for field in ("bio_description", "avatar_url", "bio_url")},
    is_verified=st.sampled_from([None, False, True]),
    likes_count=st.sampled_from([None, 0, 2**63 - 1]),
    video_count=st.sampled_from([None, 0, 7]),
)


@given(records=st.lists(NEW_RECORDS, max_size=20), at=st.sampled_from([0, 1, NOW]))
def test_rows_of_new_accounts_equal_those_of_single_ones(records: list[AccountRecord], at: int) -> None:
    """Each row, byte for byte: of names that repeat in no way, and keys in digits or not."""
    rows = [
        replace(record, username=f"{record.username}{number}", key=record.key and f"{record.key}{number}")
        for number, record in enumerate(records)
    ]
    single, together = DictBackend(), DictBackend()
    writer = single.open_writer(FrozenClock())
    verdicts = [verdict for row in rows for verdict in run(writer.add_accounts([row], at))]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "MIN_GROUP", 1)
        assert run(together.open_writer(FrozenClock()).add_accounts(rows, at)) == verdicts
    assert contents_of(single) == contents_of(together)
    assert together.problems() == []


def contents_of(backend: DictBackend) -> list[list[bytes]]:
    """Return all accounts, without their ids, and the texts that lead to them."""
    tables = backend.rows.tables
    accounts = sorted(unseal(ACCOUNT, key, value) for key, value in tables[ACCOUNT].items())
    return [accounts, *([key.encode() for key in sorted(map(str, tables[each]))] for each in (ACCOUNT_KEY, USERNAME))]


@pytest.mark.parametrize("count", [1, 2 * groups.MIN_GROUP])
def test_fields_of_a_group_of_accounts_date_from_its_import(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """An earlier event changes nothing of them, a later one everything."""
    backend = DictBackend()
    writer = backend.open_writer(FrozenClock())
    old, new = {"display_name": "b", "likes_count": 2}, {"display_name": "c", "likes_count": 1}
    rows = [AccountRecord(f"u{number}", f"k{number}", "a", Visibility.PUBLIC, likes_count=3) for number in range(count)]
    if count > 1:
        monkeypatch.setattr(Accounts, "import_record", lambda *_: pytest.fail("an account was created alone"))
    assert run(writer.add_accounts(rows, 50)) == [Verdict.ACCEPTED] * count
    records = [
        AccountEvent(AccountRecord(f"{name}{number}", f"k{number}", visibility=visibility, **fields), at)  # type: ignore[arg-type]
        for number in range(count)
        for name, visibility, fields, at in [("v", Visibility.PRIVATE, old, 49), ("w", Visibility.WITHHELD, new, 51)]
    ]
    graph = backend.open_graph(FrozenClock())

    run(writer.apply(records[::2], NOW))
    assert run(shown(graph, f"u{count - 1}")) == (Visibility.PUBLIC, "a", 3)
    run(writer.apply(records[1::2], NOW))
    assert run(shown(backend.open_graph(FrozenClock()), f"w{count - 1}")) == (Visibility.WITHHELD, "c", 1)


def test_all_lists_forget_cached_blocks_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a commit: visible and hidden entries of both directions."""
    writer = DictBackend().open_writer(FrozenClock())
    run(writer.add_follows([FollowRecord("a", "b", 1, NOW)]))
    forgotten = set[EntryTable]()

    def forget(table: EntryTable) -> None:
        forgotten.add(table)

    monkeypatch.setattr(EntryTable, "forget", forget)
    run(writer.add_follows([FollowRecord("a", "c", 1, NOW)]))
    assert len(forgotten) == 0
    monkeypatch.setattr(entries, "MAX_CACHED_BLOCKS", -1)
    run(writer.add_follows([FollowRecord("a", "d", 1, NOW)]))
    assert len(forgotten) == 4


def test_a_list_is_long_by_the_place_of_its_blocks() -> None:
    """Its oldest block begins at slot 1, also when it is the only one."""
    owners = np.arange(1, 6)
    keys = np.array([pair_key(1, 0), pair_key(2, 1), pair_key(4, 1), pair_key(4, 700)])

    assert loader._Rewritten(NO_ENTRIES, keys).is_long(owners).tolist() == [False, True, False, True, False]


def test_new_keys_of_a_group_take_precedence_over_known_names() -> None:
    """A name that was looked up before means the account with that key as soon as there is one."""
    writer = DictBackend().open_writer(FrozenClock())
    run(writer.add_accounts([AccountRecord("anna", "1")], NOW))
    assert run(writer.keys_of(["Anna", "Ben", "@ben"])) == ["1", None, None]

    many = [AccountRecord(f"name{number}", f"key{number}") for number in range(groups.MIN_GROUP)]
    run(writer.add_accounts([*many, AccountRecord("zed", "Anna"), AccountRecord("ben", "2")], NOW))

    assert run(writer.keys_of(["Anna", "anna", "zed", "Ben", "@ben"])) == ["Anna", "1", "Anna", "2", "2"]


KEYS = ("17", "18", "a", "b")
USERNAMES = ("a", "A", "b", "17", "c", "@d", "ö" * 40)  # the last one is too long for a key
RECORDS = st.lists(
    st.builds(AccountRecord, st.sampled_from(USERNAMES), st.none() | st.sampled_from(KEYS))
    | st.builds(AccountRecord, st.none(), st.sampled_from(KEYS)),
    max_size=4,
)


@given(before=RECORDS, records=RECORDS, is_one_erased=st.booleans())
@example(before=[AccountRecord("a", "17")], records=[AccountRecord("c", "17")], is_one_erased=False)
@example(before=[AccountRecord("b", "a")], records=[AccountRecord("a")], is_one_erased=False)
def test_a_group_of_accounts_equals_single_ones(
    before: list[AccountRecord], records: list[AccountRecord], is_one_erased: bool
) -> None:
    """For keys and usernames that collide within the group and with stored accounts, erased ones among them."""
    others = [AccountRecord(f"u{number}", f"k{number}") for number in range(groups.MIN_GROUP)]
    found = []
    for together in (False, True):
        backend = DictBackend()
        writer = backend.open_writer(FrozenClock())
        for record in before:
            run(writer.add_accounts([record], NOW))
        if is_one_erased:
            run(writer.apply([ErasureEvent("17", NOW)], NOW))
        pieces = [[*records, *others]] if together else [[record] for record in [*records, *others]]
        verdicts = [verdict for piece in pieces for verdict in run(writer.add_accounts(piece, NOW))]
        graph = backend.open_graph(FrozenClock())
        names = [run(shown(graph, name)) for name in (*USERNAMES, "u1")]
        found.append((verdicts, run(writer.keys_of([*KEYS, *USERNAMES, "u1"])), names))
        assert backend.problems() == []

    assert found[0] == found[1]


async def shown(graph: DictGraph, name: str) -> tuple[Visibility, str, int] | None:
    """Return what an account says of itself."""
    account = await graph.find_account(name)
    profile = None if account is None else await graph.profile(account.id)
    return (
        None if account is None or profile is None else (account.visibility, profile.display_name, profile.likes_count)
    )


def test_names_of_erased_accounts_are_refused() -> None:
    """Unless another account has them. So are names that none can have."""
    writer = DictBackend().open_writer(FrozenClock())
    run(writer.add_accounts([AccountRecord("ann", "1"), AccountRecord("bob", "2"), AccountRecord("cy", "3 3")], 1))
    run(writer.apply([ErasureEvent("1", NOW), ErasureEvent("2", NOW)], NOW))
    run(writer.apply([AccountEvent(AccountRecord("bob", "4"), NOW)], NOW))
    asked = ["ann", "1", "bob", "2", "4", "3 3", "4 4", "new", "cy"]

    assert run(writer.refused(asked)) == ["ann", "1", "2", "4 4"]
    ids = run(writer.account_ids(asked))
    assert [name for name, account_id in zip(asked, ids, strict=True) if account_id == NO_ACCOUNT] == [
        *("ann", "1", "2", "4 4")
    ]
    assert ids[2] == ids[4]
    assert ids[5] == ids[8]
    assert run(writer.account_ids(["new", "@NEW"])) == [ids[7], ids[7]]
