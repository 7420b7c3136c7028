"""Large lists in a cluster: what was deleted must never stand in the way of what is read.

The node of the tests refuses to read past fewer tombstones (`services/cassandra_node.py`) than lists here have entries.
"""

from retinue.model import ErasureEvent, FollowEvent
from retinue.store.contract import Verdict
from support.backends import writer_on
from support.cassandra_node import TOMBSTONE_LIMIT
from support.clusters import NOW, ClusterStore, run

MANY = TOMBSTONE_LIMIT + 200
GROUP = 200
PARTS = [range(first, first + GROUP) for first in range(0, MANY, GROUP)]


def forgetful(cluster_store: ClusterStore) -> None:
    """Give a store a writer with an empty cache."""
    cluster_store.writer = writer_on(cluster_store.session, cluster_store.clock)


def test_a_hub_may_gain_a_follower_each_second(cluster_store: ClusterStore) -> None:
    """One slot run grows with each follower, and the next writer can still read it."""
    for part in PARTS:
        cluster_store.follow(*((f"u{n}", "hub", 100_000 + n) for n in part))

    forgetful(cluster_store)
    assert [Verdict.ACCEPTED] == cluster_store.follow(("late", "hub", 100_000 + MANY // 2))
    assert cluster_store.backend.problems() == []


def test_a_hub_can_be_erased(cluster_store: ClusterStore) -> None:
    """Nothing of it stays, whatever was said of it: follows, unfollows of which some came first, and follows again."""
    for part in PARTS:
        run(cluster_store.writer.apply([FollowEvent(f"u{n}", "hub", 100, is_follow=False) for n in part], NOW))
        cluster_store.follow(*((f"u{n}", "hub", 100_000 + 3 * n) for n in part))
        cluster_store.unfollow(*((f"u{n}", "hub") for n in part if n % 2))

    forgetful(cluster_store)
    run(cluster_store.writer.apply([ErasureEvent("hub", NOW)], NOW))
    while run(cluster_store.writer.run_maintenance()):
        pass
    assert cluster_store.backend.problems() == []
    stored = cluster_store.stored()
    assert all(not rows for name, rows in stored.items() if name.startswith("follow"))


def test_an_account_with_many_follows_of_few_others_can_be_erased(cluster_store: ClusterStore) -> None:
    """Their pairs are few, but have many intervals."""
    for time in range(MANY // 60):
        begun = [FollowEvent("bot", f"u{n}", 1_000 * time + 3 * n + 1) for n in range(60)]
        ended = [FollowEvent("bot", f"u{n}", 1_000 * time + 3 * n + 500, is_follow=False) for n in range(60)]
        run(cluster_store.writer.apply([*begun, *ended], NOW))

    forgetful(cluster_store)
    run(cluster_store.writer.apply([ErasureEvent("bot", NOW)], NOW))
    while run(cluster_store.writer.run_maintenance()):
        pass
    assert cluster_store.backend.problems() == []
