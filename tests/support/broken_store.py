"""A sound store, and a copy of it for a test to damage."""

import asyncio
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from msgspec.structs import replace

from retinue.model import AccountEvent, AccountRecord, Direction, ErasureEvent, Event, FollowEvent, Visibility
from retinue.store.layout.blocks import Block
from retinue.store.layout.sealing import seal, unseal
from retinue.store.layout.stored_accounts import decode_account, encode_account
from retinue.store.layout.tables import ACCOUNT, LISTS, Key, Table, pair_key
from retinue.store.open import open_store
from retinue.store.sqlite.files import access_path
from support.frozen_clock import FrozenClock
from support.service import problems_of

NOW = 1_700_000_000
# Ids in the store that is broken here.
A, B, C, D, E, ENDED, PRIVATE, ERASED, _, HUB, CROWD = range(1, 12)
FOLLOWING, FOLLOWERS = LISTS[Direction.FOLLOWING], LISTS[Direction.FOLLOWERS]


@pytest.fixture(scope="module")
def sound_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with bursts, an ended follow, hidden entries, an erased account and a list of several blocks."""
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
        FollowEvent("fan0", "hub", NOW),
        FollowEvent("fan0", "crowd", 500),
        ErasureEvent("erased", NOW),
        *(FollowEvent(f"fan{n}", "hub", NOW - 2 * n) for n in range(1, 130)),
        *(FollowEvent(f"fan{n}", "crowd", 500) for n in range(1, 70)),
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


def write(path: Path, table: Table, key: Key, content: bytes | None) -> None:
    """Store a row with a right checksum, or remove it (None)."""
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute(f"DELETE FROM {table.name} WHERE key = ?", (key,))
        if content is not None:
            value = seal(table, key, content)
            connection.execute(f"INSERT INTO {table.name} (key, value) VALUES (?, ?)", (key, value))


def content_of(path: Path, table: Table, key: Key) -> bytes:
    """Return the content of an existing row."""
    with closing(apsw.Connection(str(path))) as connection:
        value = connection.execute(f"SELECT value FROM {table.name} WHERE key = ?", (key,)).get
    return unseal(table, key, value)


def edit_block(path: Path, table: Table, owner: int, edit: Callable[[Block], object]) -> None:
    """Change the only block of a list."""
    key = pair_key(owner, 0)
    block = Block.decode(table, key, content_of(path, table, key))
    edit(block)
    write(path, table, key, block.encode())


def edit_account(path: Path, account_id: int, **changes: Any) -> None:
    """Change fields of an account."""
    account = decode_account(account_id, content_of(path, ACCOUNT, account_id))
    assert account is not None
    write(path, ACCOUNT, account_id, encode_account(replace(account, **changes)))


def change(path: Path, *statements: str) -> None:
    """Execute statements on a file without the store."""
    with closing(apsw.Connection(str(path))) as connection:
        for statement in statements:
            connection.execute(statement)
