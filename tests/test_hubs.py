"""Large lists in a cluster: what was deleted must never stand in the way of what is read.

The node of the tests refuses to read past fewer tombstones (`services/cassandra_node.py`) than lists here have entries.
"""

from typing import Any

import pytest

from retinue.model import ErasureEvent, FollowEvent
from retinue.store.cassandra.lease import LEASE_SECONDS
from retinue.store.cassandra.scanning import scan
from retinue.store.cassandra.writer import CassandraGraphWriter
from retinue.store.contract import Verdict
from support.backends import backoff_on
from support.cassandra_node import TOMBSTONE_LIMIT
from support.clusters import NOW, Site, run

MANY = TOMBSTONE_LIMIT + 200
GROUP = 200
PARTS = [range(first, first + GROUP) for first in range(0, MANY, GROUP)]


def forgetful(site: Site) -> None:
    """Give a store a writer that remembers nothing."""
    site.writer = CassandraGraphWriter(site.session, backoff_on(site.clock))


def test_a_hub_may_gain_a_follower_each_second(site: Site) -> None:
    """One slot run grows with each follower, and the next writer can still read it."""
    for part in PARTS:
        site.follow(*((f"u{n}", "hub", 100_000 + n) for n in part))

    forgetful(site)
    assert [Verdict.ACCEPTED] == site.follow(("late", "hub", 100_000 + MANY // 2))
    assert site.site.problems() == []


def test_a_hub_can_be_erased(site: Site) -> None:
    """Nothing of it stays, whatever was said of it: follows, unfollows of which some came first, and follows again."""
    for part in PARTS:
        run(site.writer.apply([FollowEvent(f"u{n}", "hub", 100, is_follow=False) for n in part], NOW))
        site.follow(*((f"u{n}", "hub", 100_000 + 3 * n) for n in part))
        site.unfollow(*((f"u{n}", "hub") for n in part if n % 2))

    forgetful(site)
    run(site.writer.apply([ErasureEvent("hub", NOW)], NOW))
    while run(site.writer.tidy()):
        pass
    assert site.site.problems() == []
    assert [] == list(scan(site.session, "follower", "pair", "follower"))


def test_an_account_with_many_follows_of_few_others_can_be_erased(site: Site) -> None:
    """Their pairs are few, but have many intervals."""
    for time in range(MANY // 60):
        begun = [FollowEvent("bot", f"u{n}", 1_000 * time + 3 * n + 1) for n in range(60)]
        ended = [FollowEvent("bot", f"u{n}", 1_000 * time + 3 * n + 500, is_follow=False) for n in range(60)]
        run(site.writer.apply([*begun, *ended], NOW))

    forgetful(site)
    run(site.writer.apply([ErasureEvent("bot", NOW)], NOW))
    while run(site.writer.tidy()):
        pass
    assert site.site.problems() == []


def test_a_group_that_takes_long_to_compute_keeps_the_lease(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each item of it may take a second: the lease is renewed in between, not only when it is written."""
    renewed = 0
    whole = type(site.session).compare_and_set
    add = site.writer._work.changes.add_follow

    def counted(one: Any, query: str, values: Any = ()) -> tuple[bool, Any]:
        nonlocal renewed
        renewed += query.startswith("UPDATE lease")
        return whole(one, query, values)

    def slow(*given: Any) -> Verdict:
        site.clock.advance(1)
        return add(*given)

    monkeypatch.setattr(type(site.session), "compare_and_set", counted)
    monkeypatch.setattr(site.writer._work.changes, "add_follow", slow)
    assert {Verdict.ACCEPTED} == set(site.follow(*((f"u{n}", "hub", 100_000 + n) for n in range(30))))
    assert renewed > 30 // LEASE_SECONDS
