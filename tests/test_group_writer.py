"""A writer's groups: the records that it places together, and the names that it refuses."""

from collections.abc import Sequence
from typing import Any

import pytest

from retinue.model import AccountEvent, AccountRecord, ErasureEvent, FollowEvent, FollowRecord
from retinue.store.bulk import NO_ACCOUNT
from retinue.store.contract import Verdict
from retinue.store.load import groups, loader
from retinue.store.rules.pairs import Pair, Pairs
from support.dict_engine import DictBackend
from support.frozen_clock import FrozenClock
from support.store_contract import NOW, run


@pytest.mark.parametrize("kind", ["events", "rows"])
def test_ordinary_follows_of_a_group_are_placed_together(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them goes through the rules, but for those of a long list in which little is new."""
    learned: list[Pair] = []
    learn = Pairs.learn

    def noted(self: Pairs, pair: Pair, *more: Any) -> Verdict:
        learned.append(pair)
        return learn(self, pair, *more)

    monkeypatch.setattr(Pairs, "learn", noted)
    monkeypatch.setattr(loader, "ALWAYS_REWRITTEN", 150)
    writer = DictBackend().open_writer(FrozenClock())

    def follow(pairs: Sequence[tuple[str, str]]) -> None:
        if kind == "events":
            decisions = run(writer.apply([FollowEvent(*pair, NOW) for pair in pairs], NOW))
        else:
            decisions = [*run(writer.add_follows([FollowRecord(*pair, None, NOW) for pair in pairs]))]
        assert decisions == [Verdict.ACCEPTED] * len(pairs)

    follow([("hub", f"a{number}") for number in range(400)])
    follow([(f"a{number}", f"b{number}") for number in range(100)])
    assert learned == []
    follow([("hub", "c"), *((f"a{number}", f"c{number}") for number in range(100))])
    assert len(learned) == 1
    follow([(f"hub{number}", f"b{number}") for number in range(groups.MIN_GROUP - 1)])
    assert len(learned) == groups.MIN_GROUP


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
