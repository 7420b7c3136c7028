"""Three nodes, each row on all of them: one, then two go and come back. Run by `make long PROOF=three_nodes`.

While pages are read over HTTP and events are applied, nothing fails as long as two nodes are there, and nothing that
was acknowledged is lost.
"""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from retinue.clock import SystemClock
from retinue.errors import StoreUnavailable
from retinue.model import FollowEvent
from retinue.store.contract import Verdict
from retinue.store.open import open_store
from running import Refused, Session, fresh_token, retinue, running_server
from support.backends import CLUSTER_SECONDS
from support.cassandra_jars import missing
from support.cassandra_node import Node, free_port, running
from support.requirements import require

SECONDS = int(os.environ.get("SECONDS", "60"))
pytestmark = pytest.mark.timeout(CLUSTER_SECONDS + 2 * SECONDS)
BEGIN = 1_600_000_000
OWNERS = 20


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    """Three nodes."""
    require(missing())
    with running(3, free_port()) as nodes:
        yield nodes


@pytest.fixture
def store(nodes: list[Node], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store with three replicas of each row; files of this machine go to a temporary folder."""
    monkeypatch.chdir(tmp_path)
    store = f"cassandra://{','.join(node.address for node in nodes)}:{nodes[0].port}/k{time.monotonic_ns()}"
    retinue("store", "init", "--store", store, "--replication", "3")
    return store


class Writing:
    """Applies events until told to stop; what a refusal leaves open it sends again."""

    def __init__(self, store: str) -> None:
        self.acknowledged = 0
        self.refused = 0
        self._store = store
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Apply events in the background."""
        self._thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            self._thread.join()

    def _run(self) -> None:
        with closing(open_store(self._store).writer(SystemClock())) as writer:
            while not self._stopping.is_set():
                batch = [event(number) for number in range(self.acknowledged, self.acknowledged + OWNERS)]
                try:
                    verdicts = asyncio.run(writer.apply(batch, int(time.time())))
                except StoreUnavailable:
                    self.refused += 1
                    continue
                assert set(verdicts) <= {Verdict.ACCEPTED, Verdict.DUPLICATE}
                self.acknowledged += len(batch)


def event(number: int) -> FollowEvent:
    """The events that are applied, by number: each owner follows one after the other, a second apart."""
    return FollowEvent(f"owner{number % OWNERS}", f"friend{number}", BEGIN + number // OWNERS)


def expected(owner: int, acknowledged: int) -> list[str]:
    """A list of names, newest first."""
    return [f"friend{number}" for number in range(owner, acknowledged, OWNERS)][::-1]


def walked(session: Session, owner: int) -> list[str]:
    """A whole list over HTTP."""
    found: list[str] = []
    cursor = None
    while True:
        body = {"username": f"owner{owner}", "max_count": 100} | ({} if cursor is None else {"cursor": cursor})
        page = session.following(body)
        found += [row["username"] for row in page["user_following"]]
        if not page["has_more"]:
            return found
        cursor = page["cursor"]


def until(condition: Callable[[], bool], seconds: float) -> float:
    """Wait for something; how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not happen"
        time.sleep(0.1)
    return time.monotonic() - began


def test_a_node_may_go_and_come_back(nodes: list[Node], store: str) -> None:
    """No request fails, no acknowledged event is lost, and every list is exact afterwards."""
    writing = Writing(store)
    with (
        writing.going_on(),
        running_server(store) as server,
        Session(server.base_url, fresh_token(server, store)) as session,
    ):
        until(lambda: writing.acknowledged >= OWNERS, 60)
        deadline, reads, gone, back = time.monotonic() + SECONDS, 0, False, False
        while time.monotonic() < deadline:
            left = deadline - time.monotonic()
            if not gone and left < SECONDS * 0.8:
                nodes[1].kill()
                gone = True
            if not back and left < SECONDS * 0.5:
                nodes[1].begin()
                back = True
            before = writing.acknowledged
            found = walked(session, reads % OWNERS)  # raises where a request fails
            assert found[-len(expected(reads % OWNERS, before)) :] == expected(reads % OWNERS, before)
            reads += 1
        nodes[1].wait()
    print(f"{reads} lists read, {writing.acknowledged} events acknowledged, {writing.refused} batches refused")
    with running_server(store) as server, Session(server.base_url, fresh_token(server, store)) as session:
        assert all(expected(owner, writing.acknowledged) == walked(session, owner) for owner in range(OWNERS))
    assert "every invariant holds" in retinue("check", "--store", store)


def test_without_a_quorum_requests_are_refused_at_once(nodes: list[Node], store: str) -> None:
    """Two nodes down: 503 in under a second; once one is back, answers without a restart."""
    with closing(open_store(store).writer(SystemClock())) as writer:
        asyncio.run(writer.apply([event(number) for number in range(2 * OWNERS)], int(time.time())))
    with running_server(store) as server:
        with Session(server.base_url, fresh_token(server, store)) as session:
            assert expected(3, 2 * OWNERS) == walked(session, 3)
            for node in nodes[1:]:
                node.kill()
            for _ in range(10):
                began = time.monotonic()
                assert status(session) == 503
                assert time.monotonic() - began < 1
            nodes[1].begin()
            nodes[1].wait()
            print(f"back after {until(lambda: status(session) == 200, 60):.1f} s")
            assert expected(3, 2 * OWNERS) == walked(session, 3)
        nodes[2].begin()
        nodes[2].wait()


def status(session: Session) -> int:
    """How a request is answered."""
    try:
        session.following({"username": "owner3"})
    except Refused as refused:
        return refused.status
    return 200


if __name__ == "__main__":
    # In a process of its own: pytest rewrites the asserts of `retinue`'s plugin, which is imported here.
    sys.exit(subprocess.run((sys.executable, "-m", "pytest", "-rP", __file__), check=False).returncode)
