"""A sound store, and a copy of it for a test to damage."""

import asyncio
import shutil
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from retinue.model import AccountEvent, AccountRecord, ErasureEvent, Event, FollowEvent, Visibility
from retinue.store.open import open_store
from retinue.store.sqlite.files import access_path
from support.frozen_clock import FrozenClock
from support.service import problems_of

NOW = 1_700_000_000
# Ids in the store that is broken here, and the numbers of the first blocks of their lists.
A, B, C, D, E, ENDED, PRIVATE, ERASED, _, HUB = range(1, 11)
LIST_OF_A, LIST_OF_B, LIST_OF_E, LIST_OF_HUB = (account << 32 for account in (A, B, E, HUB))


@pytest.fixture(scope="module")
def sound_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a burst, an ended follow, hidden entries, an erased account and a list of several blocks."""
    path = tmp_path_factory.mktemp("sound") / "graph.db"
    follows = [
        ("a", "b", 100),
        ("a", "c", 100),
        ("a", "d", 100),
        ("a", "e", 50),
        ("a", "ended", 30),
        ("a", "private", 20),
    ]
    events: list[Event] = [
        *(FollowEvent(*follow) for follow in follows),
        FollowEvent("a", "ended", 40, is_follow=False),
        AccountEvent(AccountRecord(key="private", visibility=Visibility.PRIVATE), 50),
        FollowEvent("a", "erased", 10),
        FollowEvent("b", "a", 70),
        *(FollowEvent(f"fan{n}", "hub", NOW - 2 * n) for n in range(130)),
        ErasureEvent("erased", NOW),
    ]
    open_store(str(path)).create()
    with closing(open_store(str(path)).writer(FrozenClock())) as writer:
        asyncio.run(writer.apply(events, NOW))
        asyncio.run(writer.compact())
    assert [] == problems_of(path)
    return path


@pytest.fixture
def broken_store(sound_store: Path, tmp_path: Path) -> Path:
    """A copy of the sound store, for the test to damage."""
    path = tmp_path / "broken.db"
    shutil.copy(sound_store, path)
    shutil.copy(access_path(sound_store), access_path(path))
    return path


def change(path: Path, *statements: str) -> None:
    """Execute statements on a file without the store."""
    with closing(apsw.Connection(str(path))) as connection:
        for statement in statements:
            connection.execute(statement)
