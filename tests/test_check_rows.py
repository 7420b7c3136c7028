"""`check` names every well-formed row that contradicts others, in each table: rows whose checksums are right."""

import asyncio
from collections.abc import Callable, Iterator
from random import Random

import msgspec
import pytest
from msgspec.structs import replace

from retinue.history import Moment
from retinue.model import AccountEvent, AccountRecord, Direction, ErasureEvent, Event, FollowEvent, Visibility
from retinue.store.check.invariants import invariants
from retinue.store.layout import tables
from retinue.store.layout.accounts import LAST_ID, LAST_REVISION
from retinue.store.layout.blocks import Block
from retinue.store.layout.histories import decode_moments, encode_moments
from retinue.store.layout.lists import ListFacts
from retinue.store.layout.relocations import MERGED, UNMERGED
from retinue.store.layout.sealing import seal, unseal
from retinue.store.layout.stored_accounts import decode_account, encode_account
from retinue.store.layout.tables import (
    LISTS,
    SECRET,
    STORE_ID,
    TABLES,
    TOMBSTONES,
    Key,
    Table,
    first_of,
    pair_key,
    second_of,
)
from support.dict_engine import DictBackend
from support.frozen_clock import FrozenClock

NOW = 1_700_000_000
Content = bytes | None  # None: the row is removed
Rows = dict[Key, Content]
Damage = Callable[[Key, bytes], Iterator[Content | Rows]]  # of a row: other contents for it, or other rows


def events() -> Iterator[Event]:
    """Yield events that fill every table."""
    for name in "abcdefgh":
        yield AccountEvent(AccountRecord(f"name-{name}", key=name, display_name=name.upper(), likes_count=3), 100)
    yield AccountEvent(AccountRecord("name-x", key="a"), 200)
    yield AccountEvent(AccountRecord("name-b", key="c"), 50)
    yield AccountEvent(AccountRecord(key="d", visibility=Visibility.PRIVATE), 200)
    yield AccountEvent(AccountRecord(key="e", display_name="later"), NOW + 50)
    for number in range(150):
        yield FollowEvent(f"fan{number}", "hub", 1000 + number + (number > 100) * 3 * number)
        yield FollowEvent("hub", f"fan{number}", 1000 + number)
    for other in "bcd":
        yield FollowEvent("a", other, 500)
        yield FollowEvent(other, "a", 500)
        yield FollowEvent("e", other, 1 + ord(other), is_follow=False)
    yield FollowEvent("a", "b", 600, is_follow=False)
    yield FollowEvent("a", "b", 700)
    yield FollowEvent("f", "b", 1)
    yield FollowEvent("g", "b", 1)
    yield FollowEvent("f", "g", NOW + 10)
    yield FollowEvent("h", "b", 5)
    yield FollowEvent("d", "f", 5)
    yield FollowEvent("d", "f", 6, is_follow=False)
    for erased in ("fan7", "fan8"):
        yield ErasureEvent(erased, NOW)


def made() -> DictBackend:
    """A sound store of everything; two relocations are queued, of an erased and a shown account."""
    backend, clock = DictBackend(), FrozenClock(NOW)
    writer = backend.open_writer(clock)

    async def fill() -> None:
        await writer.apply(list(events()), NOW)
        while await writer.run_maintenance():
            pass
        shown = AccountEvent(AccountRecord(key="d", visibility=Visibility.PUBLIC), 300)
        hidden = AccountEvent(AccountRecord(key="c", visibility=Visibility.PRIVATE), 300)
        await writer.apply([ErasureEvent("h", NOW), shown, hidden], NOW)

    asyncio.run(fill())
    assert backend.problems() == []
    return backend


def _number(content: bytes, change: int) -> bytes:
    return (int.from_bytes(content, "little") + change).to_bytes(len(content), "little")


def _of_meta(key: Key, content: bytes) -> Iterator[Content | Rows]:
    if key in (LAST_ID, LAST_REVISION, TOMBSTONES):
        yield from (None, _number(content, 1), _number(content, -1))
    elif key == SECRET:
        yield from (None, content[:-1])
    else:
        assert key == STORE_ID
        yield None


def _of_account(key: Key, content: bytes) -> Iterator[Content | Rows]:
    account = decode_account(int(key), content)
    if account is None:
        yield None
        return
    yield from (None, b"")
    yield {int(key) + 100_000: content}
    yield encode_account(replace(account, username="other"))
    yield encode_account(replace(account, key="other"))
    yield encode_account(replace(account, has_name=not account.has_name))
    yield bytes((3 - content[0],)) + content[1:]  # the kind of account, which the group loader reads
    yield encode_account(replace(account, display_name="x\0y"))
    yield encode_account(replace(account, former_names=(*account.former_names, "never")))


def _of_finder(_key: Key, content: bytes) -> Iterator[Content | Rows]:
    yield None
    yield _number(content, 1)
    yield {"unknown": content}


def _of_claim(_key: Key, content: bytes) -> Iterator[Content | Rows]:
    claims = msgspec.msgpack.decode(content, type=list[tuple[int, int]])
    yield None
    yield msgspec.msgpack.encode([(account + 1, at) for account, at in claims])
    yield msgspec.msgpack.encode(claims[1:])
    yield {"unknown": content}


def _of_change(key: Key, content: bytes) -> Iterator[Content | Rows]:
    yield from (None, bytes(4))
    yield {int(key) + 100_000: content}


def _of_relocation(key: Key, content: bytes) -> Iterator[Content | Rows]:
    assert isinstance(key, int)
    yield None
    yield bytes((1 - content[0],)) + content[1:]
    kind = UNMERGED if first_of(key) == MERGED else MERGED
    yield {key: None, pair_key(kind, second_of(key)): content}
    yield {pair_key(MERGED, 100_000): content}


def _of_tombstone(key: Key, content: bytes) -> Iterator[Content | Rows]:
    yield from (None, b"x")
    yield {str(key)[::-1]: content}
    yield {str(key): None, "short": content}


def _of_future_event(key: Key, content: bytes) -> Iterator[Content | Rows]:
    assert isinstance(key, int)
    if second_of(key):
        yield from (None, msgspec.msgpack.encode([bytes(16)]), msgspec.msgpack.encode([]))
    yield {pair_key(100_000, second_of(key)): content}


def _of_block(table: Table) -> Damage:
    def damages(key: Key, content: bytes) -> Iterator[Content | Rows]:
        assert isinstance(key, int)

        def block() -> Block:
            return Block.decode(table, key, content)

        yield None
        yield {pair_key(100_000, second_of(key)): content}
        for change in (_remove, _replace_account, _restart, _end, _link, _add):
            changed = block()
            change(changed)
            yield changed.encode()

    return damages


def _remove(block: Block) -> None:
    block.remove(block.positions[-1])


def _replace_account(block: Block) -> None:
    block.accounts[0] += 1


def _restart(block: Block) -> None:
    entry = block.remove(block.positions[0])
    block.insert(entry._replace(start=entry.start + 1))


def _end(block: Block) -> None:
    entry = block.remove(block.positions[0])
    block.insert(entry._replace(end=entry.end + 1 if entry.end else NOW))


def _link(block: Block) -> None:
    block.next_start = 0 if block.next_start else NOW


def _add(block: Block) -> None:
    last = block.entry(block.positions[-1])
    block.insert(last._replace(position=last.position + 1, start=last.position + 1, end=0))


def _of_run(key: Key, content: bytes) -> Iterator[Content | Rows]:
    assert isinstance(key, int)
    yield from (None, _number(content, 1), _number(content, -1))
    yield {pair_key(first_of(key) + 1, second_of(key)): content}


def _of_facts(table: Table) -> Damage:
    def damages(key: Key, content: bytes) -> Iterator[Content | Rows]:
        facts = ListFacts.decode(table, int(key), content)
        yield None
        yield replace(facts, visible=facts.visible + 1).encode()
        yield replace(facts, hidden=facts.hidden + 1).encode()
        yield {100_000: replace(facts, visible=1).encode()}
        if facts.is_late:
            yield replace(facts, is_late=False).encode()

    return damages


def _of_history(table: Table) -> Damage:
    def damages(key: Key, content: bytes) -> Iterator[Content | Rows]:
        moments = decode_moments(table, int(key), content)
        first = min(moments)
        yield None
        yield encode_moments(moments - {first} | {Moment(first.at + 1, first.is_unfollow)})
        yield encode_moments(moments - {first} | {Moment(first.at, not first.is_unfollow)})
        yield encode_moments(moments | {Moment(NOW, is_unfollow=True)})
        yield {pair_key(100_000, 1): content}

    return damages


DAMAGES: dict[Table, Damage] = {
    tables.META: _of_meta,
    tables.ACCOUNT: _of_account,
    tables.ACCOUNT_KEY: _of_finder,
    tables.USERNAME: _of_finder,
    tables.CLAIM: _of_claim,
    tables.CHANGE: _of_change,
    tables.RELOCATION: _of_relocation,
    tables.TOMBSTONE: _of_tombstone,
    tables.FUTURE_EVENT: _of_future_event,
}
for each in LISTS.values():
    DAMAGES |= {each.visible: _of_block(each.visible), each.hidden: _of_block(each.hidden), each.runs: _of_run}
    DAMAGES |= {each.facts: _of_facts(each.facts), each.histories: _of_history(each.histories)}

SAMPLE = 6  # rows of each table


@pytest.fixture(scope="module")
def sound() -> DictBackend:
    """A sound store."""
    return made()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_row_that_contradicts_others_is_named(sound: DictBackend, table: Table) -> None:
    """Missing, changed and added ones; the first and last rows of a table, and some others."""
    rows = sound.engine.tables[table]
    assert rows
    keys = sorted(rows)
    chosen = {*keys[:2], *keys[-2:], *Random(1).sample(keys, min(SAMPLE, len(keys)))}
    unnamed = []
    for key in sorted(chosen):
        for number, other in enumerate(DAMAGES[table](key, unseal(table, key, rows[key]))):
            changed = other if isinstance(other, dict) else {key: other}
            if not _is_named(sound, table, changed):
                unnamed.append((key, number, changed))
    assert unnamed == []
    assert sound.problems() == []


def _is_named(sound: DictBackend, table: Table, changed: Rows) -> bool:
    """Return whether `check` finds a problem with other rows in a table."""
    rows, before = sound.rows, dict(sound.rows.tables[table])
    puts = sorted((key, seal(table, key, content)) for key, content in changed.items() if content is not None)
    rows.write(tables.Changes(table, puts, [key for key, content in changed.items() if content is None]))
    try:
        return any(True for problems in invariants(sound.engine) for _ in problems)
    finally:
        added = [key for key in rows.tables[table] if key not in before]
        rows.write(tables.Changes(table, sorted(before.items()), added))


def test_the_two_lists_of_all_directions_are_damaged() -> None:
    """No table is left out."""
    assert set(DAMAGES) == set(TABLES)
    assert set(LISTS) == set(Direction)
