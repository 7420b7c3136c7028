"""Accounts that are hidden and shown again; for every store and the model."""

from collections.abc import Callable

import pytest

from retinue.model import AccountRecord, Direction, Visibility
from support.store_contract import (
    FOLLOWERS,
    FOLLOWING,
    FOLLOWING_HIDDEN,
    PRIVATE,
    PUBLIC,
    WITHHELD,
    OpenStore,
    followed,
    said,
    unfollowed,
)

HIDING: list[tuple[str, Callable[[OpenStore], object], Callable[[OpenStore], object]]] = [
    (
        "private",
        lambda store: store.apply(said("c", 1000, visibility=PRIVATE)),
        lambda store: store.apply(said("c", 1001, visibility=FOLLOWING_HIDDEN)),
    ),
    (
        "withheld",
        lambda store: store.accounts(AccountRecord("c", visibility=WITHHELD), now=1000),
        lambda store: store.accounts(AccountRecord("c", visibility=PUBLIC), now=1001),
    ),
    (
        "nameless",
        lambda store: store.apply(said("thief", 1000, username="c")),
        lambda store: store.apply(said("c", 1001, username="c")),
    ),
]


@pytest.mark.parametrize(("hide", "show"), [case[1:] for case in HIDING], ids=[case[0] for case in HIDING])
@pytest.mark.parametrize("is_tidied", [False, True])
@pytest.mark.parametrize("direction", Direction)
def test_an_account_shown_again_has_its_old_position(
    store: OpenStore,
    direction: Direction,
    is_tidied: bool,
    hide: Callable[[OpenStore], object],
    show: Callable[[OpenStore], object],
) -> None:
    """Visibility is no part of a list: its places stay taken, today's and those of the past."""
    pairs = [("a", "b", 300), ("a", "c", 300), ("a", "d", 300), ("a", "e", 500)]
    pairs = [(a, b, at) if direction is FOLLOWING else (b, a, at) for a, b, at in pairs]
    owner, other = ("a", "c") if direction is FOLLOWING else ("c", "a")
    store.apply(*(followed(*pair) for pair in pairs))
    store.apply(unfollowed(owner, other, 400), followed(owner, other, 500))
    assert store.positions("a", direction) == [500, 499, 300, 298]

    hide(store)
    assert store.names("a", direction) == ["e", "b", "d"]
    if is_tidied:
        store.run_maintenance()
    assert store.names("a", direction) == ["e", "b", "d"]
    assert store.names("a", direction, as_of=350) == ["b", "d"]
    assert store.counts("a") == ((4, 0) if direction is FOLLOWING else (0, 4))
    store.apply(followed(*(("a", "f", 500) if direction is FOLLOWING else ("f", "a", 500))))
    assert store.positions("a", direction) == [500, 498, 300, 298]

    show(store)
    assert store.names("a", direction) == ["e", "c", "f", "b", "d"]
    if is_tidied:
        store.run_maintenance()
    assert store.names("a", direction) == ["e", "c", "f", "b", "d"]
    assert store.positions("a", direction) == [500, 499, 498, 300, 298]
    assert store.positions("a", direction, as_of=350) == [300, 299, 298]


@pytest.mark.parametrize("is_tidied", [False, True])
def test_changes_of_hidden_accounts_are_visible_afterwards(store: OpenStore, is_tidied: bool) -> None:
    """Follows begin, move and end for hidden accounts as for all others."""
    store.apply(followed("a", "x", 300), followed("a", "y", 300), followed("a", "z", 300), followed("y", "x", 300))
    store.apply(*(said(key, 400, visibility=WITHHELD) for key in ("x", "y")))
    if is_tidied:
        store.run_maintenance()
    store.apply(unfollowed("a", "x", 500), followed("a", "y", 200), followed("y", "z", 300), followed("b", "x", 1))
    assert store.names("a") == ["z"]
    assert store.counts("a") == (2, 0)

    store.apply(*(said(key, 600, visibility=PUBLIC) for key in ("x", "y")))
    if is_tidied:
        store.run_maintenance()
    assert (store.names("a"), store.positions("a")) == (["z", "y"], [298, 200])
    assert (store.names("a", as_of=450), store.positions("a", as_of=450)) == (["x", "z", "y"], [300, 298, 200])
    assert store.names("x", FOLLOWERS) == ["y", "b"]
    assert store.names("y") == ["x", "z"]


@pytest.mark.parametrize("is_tidied", [False, True])
def test_counts_hold_all_but_the_erased(store: OpenStore, is_tidied: bool) -> None:
    """Rows, private and withheld ones; follows that go on, each once."""
    for number, visibility in enumerate(Visibility):
        store.apply(said(f"v{number}", 5, visibility=visibility), followed("a", f"v{number}", 10 + number))
        store.apply(followed(f"v{number}", "a", 10))
    store.apply(followed("a", "ended", 5), unfollowed("a", "ended", 6))
    store.apply(followed("a", "gone", 5), followed("gone", "a", 5))
    store.erase("gone")
    if is_tidied:
        store.run_maintenance()

    assert store.counts("a") == (4, 4)
    assert store.names("a") == ["v1", "v0"]
    assert sorted(store.names("a", FOLLOWERS)) == ["v0", "v1"]
    assert store.counts("v3") == (1, 1)
