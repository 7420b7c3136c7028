"""The row file: readers get whole rows of right accounts, or none, whatever happens to the file."""

import asyncio
import os
import random
import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retinue.model import AccountEvent, AccountRecord, Direction, ErasureEvent, FollowEvent, PageRequest, Visibility
from retinue.store.layout.stored_accounts import StoredAccount
from retinue.store.open import open_store
from retinue.store.reading import mapped_rows
from retinue.store.reading.account_cache import AccountCache
from retinue.store.reading.row_file import HEADER_SLOTS, SLOT_BYTES, TEXT_BYTES, RowFile, RowFileWriter, State
from retinue.wire import rendering
from support.backends import CLUSTER
from support.frozen_clock import FrozenClock
from support.service import problems_of

NOW = 1_700_000_000
NAMES = {"ann": "Ann", "ben": "Ben " * 20, "cy": "", "dora": "Ðóra"}


def ids(*numbers: int) -> "np.ndarray[tuple[int], np.dtype[np.uint32]]":
    """Account ids as readers ask for them."""
    return np.array(numbers, np.uint32)


TEXTS = st.one_of(st.none(), st.binary(max_size=TEXT_BYTES + 4).filter(lambda text: not text.endswith(b"\0")))


@settings(max_examples=50)
@given(st.lists(st.dictionaries(st.integers(1, 40), TEXTS, min_size=1), max_size=5))
def test_rows_are_read_as_they_were_last_written(
    tmp_path_factory: pytest.TempPathFactory, writes: list[dict[int, bytes | None]]
) -> None:
    """A text that is too long, unknown or never written is in no file."""
    path = tmp_path_factory.mktemp("rows") / "rows"
    expected: dict[int, bytes | None] = {}
    with closing(RowFileWriter(path)) as writer:
        for texts in writes:
            writer.write(sorted(texts), [texts[each] for each in sorted(texts)])
            expected |= texts
        writer.save_state(State("store", "boot", 3, 40))
    rows = RowFile(path)

    assert rows.state == State("store", "boot", 3, 40)
    for number in range(1, 41):
        text = expected.get(number)
        is_there = text is not None and len(text) <= TEXT_BYTES
        assert rows.texts(ids(number)) == [text if is_there else None]


def test_half_a_row_and_another_accounts_row_are_refused(tmp_path: Path) -> None:
    """For every byte of a slot, and for slots that changed places."""
    path = tmp_path / "rows"
    with closing(RowFileWriter(path)) as writer:
        writer.write([1, 2], [b"first", b"second"])
        writer.save_state(State("store", "boot", 0, 2))
    content = bytearray(path.read_bytes())
    begin = (HEADER_SLOTS + 1) * SLOT_BYTES
    for at in range(begin, begin + SLOT_BYTES):
        damaged = bytearray(content)
        damaged[at] ^= 0x40
        path.write_bytes(damaged)
        assert RowFile(path).texts(ids(1)) == [None]
    first, second = content[begin : begin + SLOT_BYTES], content[begin + SLOT_BYTES : begin + 2 * SLOT_BYTES]
    path.write_bytes(content[:begin] + second + first + content[begin + 2 * SLOT_BYTES :])
    assert RowFile(path).texts(ids(1)) == [None]
    assert RowFile(path).texts(ids(2)) == [None]
    path.write_bytes(content)
    assert RowFile(path).texts(ids(2, 1)) == [b"second", b"first"]


@pytest.mark.parametrize(
    "content", [b"", b"RTNROWS1", bytes(8192), b"RTNROWS1" + bytes(4089), b"RTNROWS2" + bytes(8184)]
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    """An empty, short, torn or foreign one."""
    path = tmp_path / "rows"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"empty file|no row file"):
        RowFile(path)


class Served:
    """A store with a writer, the updater of its row file, its served graph, and the slow twin of that."""

    def __init__(self, url: str, folder: Path) -> None:
        self.clock = FrozenClock(NOW)
        self.folder = folder
        self.store = open_store(url, str(folder))
        self.store.create()
        self.open()

    def open(self) -> None:
        """Open the store, and bring the row file up to date."""
        self.writer = self.store.writer(self.clock)
        self.rows = self.store.row_file(rendering.ROW_ENCODING)
        self.step()
        (self.path,) = self.folder.glob("*.rows")
        self.graph = self.store.served_graph(self.clock, rendering.ROW_ENCODING, 1)
        self.twin = self.store.graph(self.clock)

    def step(self) -> None:
        """Bring the row file up to date."""
        while self.rows.step():
            pass

    def apply(self, *events: AccountEvent | ErasureEvent | FollowEvent) -> None:
        """Apply events."""
        asyncio.run(self.writer.apply(events, NOW))

    def compare(self, owner: str = "ann") -> bytes | None:
        """Return the page of an account's list, which is the same in each way to read it."""
        self.clock.advance(2)
        account = asyncio.run(self.twin.find_account(owner))
        assert account is not None
        request = PageRequest(account.id, Direction.FOLLOWING, NOW, 100)
        twin, page = asyncio.run(self.twin.read(request)), asyncio.run(self.graph.read(request))
        rows = [rendering.ROW_ENCODING.encode(row.display_name, row.username) for row in twin.rows]
        assert (page.rows, page.oldest, page.has_more) == (rows, twin.oldest, twin.has_more)
        fast, expected = self.graph.read_nowait(request), b",".join(rows)
        assert fast is None or (fast.text, fast.oldest, fast.has_more) == (expected, twin.oldest, twin.has_more)
        return expected

    def close(self) -> None:
        """Close everything."""
        for part in (self.graph, self.twin, self.rows, self.writer):
            part.close()


@pytest.fixture(params=["folder", CLUSTER])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> "Served":
    """A store in which ann follows three others."""
    is_folder = request.param == "folder"
    url = str(tmp_path / "graph.db") if is_folder else request.getfixturevalue("cassandra_keyspace")
    return with_accounts(Served(url, tmp_path))


def with_accounts(served: Served) -> Served:
    """Add what tests expect."""
    for key, name in NAMES.items():
        served.apply(AccountEvent(AccountRecord(key, key, name), 1))
    served.apply(*(FollowEvent("ann", key, NOW - number) for number, key in enumerate(NAMES) if key != "ann"))
    return served


def test_pages_are_the_same_with_the_file_behind_it_and_without_it(served: Served) -> None:
    """Before the file has the rows, after it has them, and with a text that is too long for it."""
    without = served.compare()
    served.step()
    assert [bool(text) for text in RowFile(served.path).texts(ids(1, 2, 3, 4))] == [True, False, True, True]
    assert without == served.compare() is not None
    served.close()


def test_many_new_accounts_get_into_the_file_with_one_step(served: Served) -> None:
    """More than are read one by one."""
    served.apply(*(AccountEvent(AccountRecord(f"new{number}", f"new{number}", "New"), 1) for number in range(20)))
    served.step()
    assert served.path.read_bytes().count(b"new") == 20
    served.close()


def test_only_rows_that_the_file_lacks_are_read_and_cached(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of a worker grows with texts that are too long, not with all names."""
    loaded: list[int] = []
    load = AccountCache.load

    async def recorded(cache: AccountCache[bytes], account_ids: Sequence[int]) -> list[StoredAccount | None]:
        loaded.extend(account_ids)
        return await load(cache, account_ids)

    monkeypatch.setattr(AccountCache, "load", recorded)
    served.step()
    request = PageRequest(1, Direction.FOLLOWING, NOW, 100)
    served.clock.advance(2)
    assert len(asyncio.run(served.graph.read(request)).rows) == 3
    fast = served.graph.read_nowait(request)
    assert fast is None or fast.count == 3
    assert loaded == [2]
    served.close()


@pytest.mark.parametrize("most", [0, 1, 4])
def test_names_are_right_however_few_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Those that are kept are forgotten with the next rename, and when others have been asked for more often."""
    monkeypatch.setattr(mapped_rows, "MAX_KNOWN", most)
    served = with_accounts(Served(str(tmp_path / "graph.db"), tmp_path))
    served.apply(FollowEvent("cy", "ann", NOW))
    served.step()
    rows = served.graph._rows  # type: ignore[attr-defined]
    sizes = set()
    for at in range(2, 6):
        for owner in ("ann", "cy", "cy", "ann"):
            served.compare(owner)
            sizes.add(len(rows._known))
        served.apply(AccountEvent(AccountRecord(key="cy", display_name=f"Anton {at}"), at))
        assert f"Anton {at}".encode() in (served.compare() or b"")
    assert sizes == {0: {0}, 1: {0, 1, 3}, 4: {3, 4}}[most]
    served.close()


def test_names_are_right_while_the_file_is_far_behind(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """If more accounts have changed than readers note one by one, all rows come from the store."""
    monkeypatch.setattr(mapped_rows, "MAX_STALE", 1)
    served.compare()
    for at in (2, 3):
        served.apply(*(AccountEvent(AccountRecord(key=key, display_name=f"New {at}"), at) for key in ("cy", "dora")))
        for _ in range(2):
            page = served.compare()
            assert page is not None
            assert page.count(f"New {at}".encode()) == 2
    served.step()
    served.compare()
    served.close()


def test_a_rename_reaches_readers_before_and_after_the_file(served: Served) -> None:
    """A reader whose file is behind the store reads changed rows from the store."""
    served.step()
    assert b"Anton" not in (served.compare() or b"Anton")
    served.apply(AccountEvent(AccountRecord(key="cy", display_name="Anton"), 2))
    assert b"Anton" in (served.compare() or b"")
    served.step()
    assert b"Anton" in (served.compare() or b"")
    served.close()


def test_an_erased_name_leaves_the_file_with_the_next_step(served: Served) -> None:
    """No byte of it stays, and readers skip the account at once."""
    served.step()
    assert "Ðóra".encode() in served.path.read_bytes()
    served.apply(ErasureEvent("dora", NOW))
    assert "Ðóra".encode() not in (served.compare() or b"")
    served.step()
    assert "Ðóra".encode() not in served.path.read_bytes()
    served.close()


def test_hidden_accounts_have_no_text(served: Served) -> None:
    """Of an account that lists do not show the file says nothing."""
    served.apply(AccountEvent(AccountRecord(key="dora", visibility=Visibility.PRIVATE), 2))
    served.step()
    assert RowFile(served.path).texts(ids(4)) == [b""]
    served.compare()
    served.close()


@pytest.mark.parametrize("damage", ["another store", "another start of the machine", "torn", "emptied", "noise"])
def test_a_file_that_cannot_be_trusted_is_made_again(served: Served, damage: str) -> None:
    """Its rows are not used meanwhile, nor afterwards."""
    served.step()
    expected = served.compare()
    served.rows.close()
    with closing(RowFileWriter(served.path)) as writer:
        state = writer.state()
        if damage == "noise":
            os.pwrite(writer._descriptor, random.Random(1).randbytes(4 * SLOT_BYTES), HEADER_SLOTS * SLOT_BYTES)
        elif damage == "emptied":
            writer.clear()
        else:
            writer.write([1, 2, 3, 4], [b"wrong"] * 4)
            other = {"another store": State("x" * 32, "", 0, 4), "torn": State("", "", 0, 0)}
            writer.save_state(other.get(damage, State(state.store, "another start", state.revision, 4)))
    served.rows = served.store.row_file(rendering.ROW_ENCODING)
    if damage == "noise":
        served.apply(AccountEvent(AccountRecord(key="cy", display_name="Cy"), 2))
    served.step()
    page = served.compare()
    assert page is not None
    assert b"wrong" not in page
    assert damage == "noise" or page == expected
    served.close()


@pytest.mark.parametrize(("is_backup", "is_changed"), [(False, False), (True, False), (True, True)])
def test_rows_newer_than_a_restored_copy_are_not_used(tmp_path: Path, is_backup: bool, is_changed: bool) -> None:
    """A copy by `backup` may even have been changed before the next update of the file."""
    served = with_accounts(Served(str(tmp_path / "graph.db"), tmp_path))
    graph, copy = tmp_path / "graph.db", tmp_path / "copy.db"
    if is_backup:
        served.store.back_up(copy, lambda *_: None)
    else:
        served.close()
        shutil.copy(graph, copy)
        served.open()
    served.apply(AccountEvent(AccountRecord("cy", "cy", "Later"), 2), AccountEvent(AccountRecord("x", "x", "Later"), 1))
    served.step()
    served.close()
    copy.replace(graph)

    with closing(served.store.writer(served.clock)) as writer:
        if is_changed:
            events = [AccountEvent(AccountRecord(key, key, "New"), 2) for key in ("ben", "dora", "y", "z")]
            asyncio.run(writer.apply(events, NOW))
    served.open()
    page = served.compare()

    assert page is not None
    assert b"Later" not in served.path.read_bytes()
    served.close()


def test_a_page_of_a_cluster_reads_no_account_that_the_file_has(cassandra_keyspace: str, tmp_path: Path) -> None:
    """One statement for the list, and those for what the process does not know yet of the store."""
    served = with_accounts(Served(cassandra_keyspace, tmp_path))
    served.step()
    request = PageRequest(1, Direction.FOLLOWING, NOW, 100)
    asyncio.run(served.graph.read(request))
    before = served.graph.statements_sent()
    assert len(asyncio.run(served.graph.read(request)).rows) == len(NAMES) - 1
    assert served.graph.statements_sent() - before == 1
    served.close()


def test_a_damaged_header_is_noticed(tmp_path: Path) -> None:
    """For every byte of it: a newer revision than the true one would hide changes."""
    path = tmp_path / "rows"
    with closing(RowFileWriter(path)) as writer:
        writer.write([1], [b"first"])
        writer.save_state(State("0123456789abcdef" * 2, "boot", 3, 1))
    content = path.read_bytes()
    for at in range(8, 96):
        path.write_bytes(content[:at] + bytes((content[at] ^ 0x10,)) + content[at + 1 :])
        assert RowFile(path).state == State()


def test_a_check_names_rows_that_differ_from_their_accounts(tmp_path: Path) -> None:
    """Another text, a damaged row and one without an account are named; outdated and missing rows are not."""
    served = with_accounts(Served(str(tmp_path / "graph.db"), tmp_path))
    store = str(tmp_path / "graph.db")
    served.step()
    assert problems_of(store) == []
    served.apply(AccountEvent(AccountRecord(key="ben", display_name="Other"), NOW))
    with closing(RowFileWriter(served.path)) as writer:
        writer.write([3], [None])
    assert problems_of(store) == []
    served.step()
    begin = (HEADER_SLOTS + 2) * SLOT_BYTES
    content = bytearray(served.path.read_bytes())
    content[begin : begin + SLOT_BYTES] = content[begin - SLOT_BYTES : begin]
    served.path.write_bytes(content)
    with closing(RowFileWriter(served.path)) as writer:
        writer.write([4], [b"another"])
    served.close()

    assert problems_of(store) == [
        f"{store}: the row of account 2 is damaged",
        f"{store}: the row of account 4 is not what the store has",
    ]


def test_rows_of_a_file_that_is_ahead_of_its_store_are_checked(tmp_path: Path) -> None:
    """Readers use such a file, as if no row had changed since."""
    served = with_accounts(Served(str(tmp_path / "graph.db"), tmp_path))
    served.step()
    served.close()
    with closing(RowFileWriter(served.path)) as writer:
        state = writer.state()
        writer.write([4], [b"another"])
        writer.save_state(State(state.store, state.boot, state.revision + 1, state.last_id))

    store = str(tmp_path / "graph.db")
    assert problems_of(store) == [f"{store}: the row of account 4 is not what the store has"]
