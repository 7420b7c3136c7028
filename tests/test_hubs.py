"""Large lists in a cluster: what was deleted must never stand in the way of what is read.

The node of the tests refuses to read past fewer tombstones (`services/cassandra_node.py`) than lists here have entries.
"""

from cassandra_node import TOMBSTONE_LIMIT
from retinue.model import ErasureEvent, FollowEvent
from retinue.store.base import Verdict
from retinue.store.cassandra.scanning import scan
from retinue.store.cassandra.writer import CassandraGraphWriter
from test_cluster import NOW, Site, run, site

__all__ = ["site"]
MANY = TOMBSTONE_LIMIT + 200
GROUP = 200
PARTS = [range(first, first + GROUP) for first in range(0, MANY, GROUP)]


def forgetful(site: Site) -> None:
    """Give a store a writer that remembers nothing."""
    site.writer = CassandraGraphWriter(site.session, site.clock.elapsed, lambda _: site.clock.advance(1))


def test_a_hub_may_gain_a_follower_each_second(site: Site) -> None:
    """One stretch of seconds grows as often as there are followers, and the next writer can still read it."""
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
