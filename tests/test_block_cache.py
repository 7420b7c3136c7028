"""Pages from cached blocks equal those that are read from the file, after any change."""

import asyncio
import json
import struct
import subprocess
import sys
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retinue.model import AccountEvent, AccountRecord, Direction, Event, FollowEvent, PageRequest, Visibility
from retinue.store.contract import EncodedRows
from retinue.store.reading import block_cache
from retinue.store.sqlite.served_graph import SqliteServedGraph
from retinue.store.sqlite.wal_index import WalIndex
from support.service import Service
from support.thorough import examples

EARLY, NOW = 1_600_000_000, 1_700_000_000
NAMES = [f"a{number}" for number in range(6)]
EVENTS = st.one_of(
    st.builds(
        FollowEvent,
        st.sampled_from(NAMES[:3]),
        st.sampled_from(NAMES[3:]),
        st.integers(EARLY, EARLY + 400),
        st.booleans(),
    ),
    st.builds(
        lambda key, name, shown, at: AccountEvent(AccountRecord(f"{key}x{name}", key, "n" * name, shown), at),
        st.sampled_from(NAMES),
        st.integers(0, 3),
        st.sampled_from(Visibility),
        st.integers(EARLY, EARLY + 9),
    ),
)
PAGE_REQUESTS = st.builds(
    PageRequest,
    st.integers(1, 6),
    st.sampled_from(Direction),
    st.integers(EARLY - 1, NOW),
    st.sampled_from([1, 2, 20, 100]),
)


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.lists(EVENTS, max_size=4), st.booleans(), st.lists(PAGE_REQUESTS, min_size=1, max_size=4)),
        max_size=8,
    )
)
def test_cached_blocks_equal_the_file(
    service: Service, steps: list[tuple[list[Event], bool, list[PageRequest]]]
) -> None:
    """For every page request, after any events, with names refreshed or not: a cached page equals a read one."""
    for events, is_later, page_requests in steps:
        service.apply(*events)
        if is_later:
            service.clock.advance(1)
        for page_request in page_requests:
            for _ in range(3):  # not known, asked for once, imaged
                rows = service.graph.read_nowait(page_request)
                found = asyncio.run(service.slow_graph.read(page_request))
                assert rows is None or rows == EncodedRows(
                    b",".join(found.rows), len(found.rows), found.oldest, found.has_more
                )


@pytest.fixture
def hub(service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """A list of several blocks, while there is room for images of only a few."""
    monkeypatch.setattr(block_cache, "BYTES_PER_BLOCK", 500_000)
    service.follow("hub", *((f"f{number}", EARLY + 2 * number) for number in range(700)))
    return service


def test_pages_across_cached_blocks_are_whole(hub: Service) -> None:
    """Every bound of a list of six blocks, while images come and go, while blocks split and while they merge."""
    account = hub.graph.find_account_nowait("hub")
    assert account is not None
    for change in range(4):
        for bound in range(EARLY - 2, EARLY + 1402, 7):
            for limit in (1, 20, 100):
                page_request = PageRequest(account.id, Direction.FOLLOWING, bound, limit)
                pages = [hub.graph.read_nowait(page_request) for _ in range(3)]
                found = asyncio.run(hub.slow_graph.read(page_request))
                expected = EncodedRows(b",".join(found.rows), len(found.rows), found.oldest, found.has_more)
                assert [expected] * 3 == pages
        hub.follow("hub", *((f"g{change}{number}", EARLY + 301 + 2 * number) for number in range(90)))
        gone = range(100 * change, 100 * change + 99)
        hub.apply(*(FollowEvent("hub", f"f{number}", NOW, is_follow=False) for number in gone))


def test_a_cached_block_is_used_until_the_next_write(service: Service) -> None:
    """From the third time on nothing is read from the file, until something is written to it."""
    service.follow("p", *((f"f{number}", EARLY + number) for number in range(30)))
    reads: list[str] = []
    service.sqlite_connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: reads.append(event["sql"]))
    account = service.graph.find_account_nowait("p")
    assert account is not None
    page_request = PageRequest(account.id, Direction.FOLLOWING, NOW, 20)

    assert 1 == len({service.graph.read_nowait(page_request) for _ in range(2)})
    assert reads
    reads.clear()
    assert 1 == len({service.graph.read_nowait(page_request) for _ in range(9)})
    assert [] == reads
    service.follow("p", ("new", EARLY + 500))
    assert service.graph.read_nowait(page_request) is not None
    assert reads
    reads.clear()
    assert 1 == len({service.graph.read_nowait(page_request) for _ in range(9)})
    assert [] == reads


OFFERS = st.tuples(st.integers(0, 30), st.integers(0, 3), st.integers(0, 9), st.booleans())


@settings(max_examples=examples(500))
@given(st.lists(OFFERS, max_size=300))
def test_the_block_cache_keeps_to_its_limit(offers: list[tuple[int, int, int, bool]]) -> None:
    """The limit holds for any blocks, also while blocks merge and names change."""
    few = block_cache.BlockCache(2 * 5 * block_cache.BYTES_PER_BLOCK)
    for number, place, reach, is_renamed in offers:
        few.edition += is_renamed
        start = 1 + 10 * place
        few.add(number, start, struct.pack("3I", 1, start, 7), lambda: [b"row"], start + 3 * reach)
        assert len(few) <= 10


def test_the_wal_index_shows_every_commit(service: Service) -> None:
    """Also of those of other processes and of those that change nothing that is shown; reading changes nothing."""
    index = WalIndex(Path(service.store))
    before = index.state()
    assert before is not None
    asyncio.run(service.graph.find_account("p"))
    assert before == index.state()
    states: set[bytes | None] = {before}
    for number in range(30):
        service.follow("p", (f"f{number}", EARLY + number))
        states.add(index.state())
    lines = "".join(
        json.dumps({"event": "follow", "follower": "p", "followee": f"g{n}", "at": EARLY + 100 + n}) + "\n"
        for n in range(9)
    )
    command = [sys.executable, "-m", "retinue", "apply", "--store", service.store, "-"]
    assert 31 == len(states)
    subprocess.run(command, input=lines, text=True, check=True, capture_output=True)
    assert index.state() not in states


def test_the_file_is_read_without_a_wal_index(service: Service) -> None:
    """Then there are no images, and nothing else is different."""
    service.follow("p", ("f", EARLY))
    account = service.graph.find_account_nowait("p")
    assert account is not None
    page_request = PageRequest(account.id, Direction.FOLLOWING, NOW, 20)
    assert service.graph.read_nowait(page_request) is not None
    assert isinstance(service.graph, SqliteServedGraph)
    service.graph._index.forget()

    assert service.graph.read_nowait(page_request) is None
    assert asyncio.run(service.slow_graph.read(page_request)) == asyncio.run(service.graph.read(page_request))


def test_a_hidden_row_makes_no_next_page(service: Service) -> None:
    """While an account that has gone private still has visible entries, the slow twin answers, and skips them."""
    service.follow("p", ("old", EARLY), ("new", EARLY + 1))
    account = service.graph.find_account_nowait("p")
    assert account is not None
    page_request = PageRequest(account.id, Direction.FOLLOWING, NOW, 1)
    pages = [service.graph.read_nowait(page_request) for _ in range(3)]  # the last one from a cached block
    assert [(1, True)] * 3 == [(rows.count, rows.has_more) for rows in pages if rows is not None]

    service.apply(AccountEvent(AccountRecord(key="old", visibility=Visibility.PRIVATE), NOW))
    service.clock.advance(1)
    assert service.graph.read_nowait(page_request) is None
    found = asyncio.run(service.slow_graph.read(page_request))
    assert (1, False) == (len(found.rows), found.has_more)
    while asyncio.run(service.writer.run_maintenance()):
        pass
    pages = [service.graph.read_nowait(page_request) for _ in range(3)]
    assert [(1, False)] * 3 == [(rows.count, rows.has_more) for rows in pages if rows is not None]
