"""`check` finds every broken invariant and says where it is. Damaged rows have right checksums here."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from retinue.errors import StoreUnavailable
from retinue.history import Moment
from retinue.model import Visibility
from retinue.store.layout.blocks import Block
from retinue.store.layout.histories import encode_moments
from retinue.store.layout.lists import ListFacts
from retinue.store.layout.relocations import Relocation
from retinue.store.layout.tables import (
    ACCOUNT,
    ACCOUNT_KEY,
    CLAIM,
    META,
    RELOCATION,
    SECRET,
    STORE_ID,
    USERNAME,
    Key,
    Table,
    pair_key,
)
from retinue.store.open import open_store
from retinue.store.sqlite.files import access_path
from support.broken_store import (
    CROWD,
    ENDED,
    ERASED,
    FOLLOWERS,
    FOLLOWING,
    HUB,
    NOW,
    PRIVATE,
    A,
    B,
    C,
    E,
    change,
    content_of,
    edit_account,
    edit_block,
    write,
)
from support.service import problems_of

Damage = Callable[[Path], None]


def put(table: Table, key: Key, content: bytes | None) -> Damage:
    """Store a row, or remove it."""
    return lambda path: write(path, table, key, content)


def account(account_id: int, **changes: object) -> Damage:
    """Change an account."""
    return lambda path: edit_account(path, account_id, **changes)


def block(table: Table, owner: int, edit: Callable[[Block], object]) -> Damage:
    """Change the only block of a list."""
    return lambda path: edit_block(path, table, owner, edit)


def both(*damages: Damage) -> Damage:
    """Do several damages."""

    def damage(path: Path) -> None:
        for each in damages:
            each(path)

    return damage


def replaced(block: Block, slot: int, **changes: int) -> None:
    """Change an entry."""
    block.insert(block.remove(slot)._replace(**changes))


def number(account_id: int) -> bytes:
    """An account's id, as other rows have it."""
    return account_id.to_bytes(4, "little")


def claims(*pairs: tuple[int, int]) -> bytes:
    """Claims to a username: accounts and seconds."""
    return msgspec.msgpack.encode(pairs)


def relocation(account_id: int, *, is_merged: bool, is_erased: bool = False) -> Damage:
    """Queue an account."""
    queued = Relocation(account_id, is_erased, is_merged)
    return put(RELOCATION, pair_key(not is_merged, account_id), queued.encode())


def swapped(block: Block) -> None:
    """Let two positions change places."""
    block.positions[0], block.positions[1] = block.positions[1], block.positions[0]


def unknown_visibility(path: Path) -> None:
    """Give a private account a visibility that does not exist."""
    content = content_of(path, ACCOUNT, PRIVATE)
    fields = msgspec.msgpack.decode(content[1:])
    fields[fields.index(Visibility.PRIVATE.value, 5)] = 7
    write(path, ACCOUNT, PRIVATE, content[:1] + msgspec.msgpack.encode(fields))


SECOND_LIST = "the following list of account 2"
FAULTS: dict[str, tuple[Damage, Sequence[str]]] = {
    # The store's own values
    "no secret": (put(META, SECRET, None), ["the secret of 32 bytes by which erased accounts are known is missing"]),
    "half a secret": (
        put(META, SECRET, b"x"),
        ["the secret of 32 bytes by which erased accounts are known is missing"],
    ),
    "no id": (put(META, STORE_ID, None), ["the id of the store is missing, by which its row file is known"]),
    # Names
    "a name in another spelling": (account(B, username="B"), ["account 2: username 'B' is not as answers carry it"]),
    "an empty key": (
        account(B, key=""),
        ["account 2: key '' is empty", "account 2: is not found by its key ''"],
    ),
    "a display name with NUL": (account(B, display_name="x\0"), ["account 2: its display name has a NUL character"]),
    "an unknown visibility": (unknown_visibility, ["account 7: its visibility is 7"]),
    "a name that finds nobody": (
        put(USERNAME, "b", None),
        ["account 2: has the name 'b', but is not found by it"],
    ),
    "a name that finds another account": (
        put(USERNAME, "x", number(B)),
        ["account 2: is found in username by a text that is not its own"],
    ),
    "a key that finds another account": (
        put(ACCOUNT_KEY, "x", number(B)),
        ["account 2: is found in account_key by a text that is not its own"],
    ),
    "a key that is stored twice": (put(ACCOUNT_KEY, "b", number(B)), ["account 2: key 'b' is stored twice"]),
    "a better claim": (
        put(CLAIM, "b", claims((B, 70), (C, NOW + 1))),
        [
            "account 2: its claim to 'b' is not of the second at which it got it",
            "account 2: has the name 'b', against its claims",
            "account 3: has a claim to a username that it does not know of",
        ],
    ),
    "a claim of an erased account": (
        put(CLAIM, "x", claims((ERASED, 5))),
        ["account 8: has a claim to a username that it does not know of"],
    ),
    # Blocks
    "wrong counts": (
        put(FOLLOWERS.facts, HUB, ListFacts(131, 2, is_late=False).encode()),
        ["the followers list of account 10: its stored counts are 131 and 2, not 130 and 0"],
    ),
    "no counts": (put(FOLLOWERS.facts, HUB, None), ["the followers list of account 10: its counts are missing"]),
    "counts of an empty list": (
        put(FOLLOWING.facts, HUB, ListFacts(1, 0, is_late=False).encode()),
        ["the following list of account 10: has counts, but no entries"],
    ),
    "an empty block": (
        put(FOLLOWING.visible, pair_key(HUB, 0), Block().encode()),
        ["the following list of account 10, visible: has an empty block"],
    ),
    "positions that descend": (
        block(FOLLOWING.visible, A, swapped),
        [
            "the following list of account 1, visible: its positions are not ascending, or are outside of their block",
            "account 1 follows 4 from 50 to now in the following list only",
            "account 1 follows 4 from 100 to now in the followers list only",
            "account 1 follows 5 from 50 to now in the followers list only",
            "account 1 follows 5 from 98 to now in the following list only",
        ],
    ),
    "an end before the start": (
        block(FOLLOWING.hidden, A, lambda block: replaced(block, 30, end=29)),
        [
            "the following list of account 1, hidden: has a wrong start or end",
            "the following list of account 1: account 6: its events make 30 to 40, but stored is 30 to 29",
            "account 1 follows 6 from 30 to 29 in the following list only",
            "account 1 follows 6 from 30 to 40 in the followers list only",
        ],
    ),
    "the owner in its own list": (
        block(FOLLOWING.visible, B, lambda block: replaced(block, 70, account=B)),
        [
            f"{SECOND_LIST}: has its owner among its accounts",
            "account 2 follows 1 from 70 to now in the followers list only",
            "account 2 follows 2 from 70 to now in the following list only",
        ],
    ),
    "a slot that is occupied twice": (
        block(FOLLOWING.hidden, A, lambda block: replaced(block, 30, position=50)),
        [
            "the following list of account 1: a slot is occupied twice",
            "the following list of account 1: its counts are missing",
        ],
    ),
    "an entry that is later than its start": (
        block(FOLLOWING.visible, B, lambda block: replaced(block, 70, position=71)),
        [
            f"{SECOND_LIST}: its counts are missing",
        ],
    ),
    # Runs
    "no run": (
        put(FOLLOWERS.runs, pair_key(CROWD, 431), None),
        ["the followers list of account 11: the run of slots 431 to 500 is not stored"],
    ),
    "a run too many": (
        put(FOLLOWERS.runs, pair_key(ENDED, 200), number(300)),
        ["the followers list of account 6: the run of slots 200 to 300 is stored, but does not exist"],
    ),
    "a run without a list": (
        put(FOLLOWING.runs, pair_key(HUB, 200), number(300)),
        ["the following list of account 10: has a row in following_run, but no entries"],
    ),
    # Both directions
    "a missing followers list": (
        put(FOLLOWERS.visible, pair_key(E, 0), None),
        ["account 1 follows 5 from 50 to now in the following list only"],
    ),
    "a missing following list": (
        put(FOLLOWING.visible, pair_key(B, 0), None),
        ["account 2 follows 1 from 70 to now in the followers list only"],
    ),
    "a missing entry": (
        block(FOLLOWING.visible, A, lambda block: block.remove(50)),
        ["account 1 follows 5 from 50 to now in the followers list only"],
    ),
    # Visibility
    "a hidden account that is shown": (
        account(E, visibility=Visibility.PRIVATE.value),
        ["the following list of account 1: slot 50: account 5 is wrongly visible"],
    ),
    "a visible account that is not shown": (
        account(PRIVATE, visibility=Visibility.PUBLIC.value),
        ["the following list of account 1: slot 20: account 7 is wrongly hidden"],
    ),
    "an erased account in lists": (
        both(put(ACCOUNT, E, b""), put(USERNAME, "e", None)),
        [
            "the following list of account 1: slot 50: account 5 does not exist",
        ],
    ),
    "a visible account that is relocated without merging": (
        relocation(E, is_merged=False),
        ["account 5: is being relocated, and readers are wrongly told when to merge"],
    ),
    "a hidden account that is relocated with merging": (
        relocation(PRIVATE, is_merged=True),
        ["account 7: is being relocated, and readers are wrongly told when to merge"],
    ),
    # Histories
    "another end": (
        both(
            *(
                block(table.hidden, owner, lambda block: replaced(block, 30, end=41))
                for table, owner in ((FOLLOWING, A), (FOLLOWERS, ENDED))
            )
        ),
        [
            "the following list of account 1: account 6: its events make 30 to 40, but stored is 30 to 41",
            "the followers list of account 6: account 1: its events make 30 to 40, but stored is 30 to 41",
        ],
    ),
    "no history": (
        both(put(FOLLOWING.histories, pair_key(A, ENDED), None), put(FOLLOWERS.histories, pair_key(ENDED, A), None)),
        [
            "the following list of account 1: account 6: its events make 30 to now, but stored is 30 to 40",
            "the followers list of account 6: account 1: its events make 30 to now, but stored is 30 to 40",
        ],
    ),
    "a history in one list": (
        put(FOLLOWERS.histories, pair_key(B, A), encode_moments([Moment(50, is_unfollow=True), Moment(100)])),
        ["the histories of account 1, which follows 2, differ in the two lists"],
    ),
    "a history of one follow": (
        both(
            put(FOLLOWING.histories, pair_key(A, B), encode_moments([Moment(100)])),
            put(FOLLOWERS.histories, pair_key(B, A), encode_moments([Moment(100)])),
        ),
        [
            "the following list of account 1: account 2: its history is one follow",
            "the followers list of account 2: account 1: its history is one follow",
        ],
    ),
}


@pytest.mark.parametrize(("damage", "findings"), FAULTS.values(), ids=FAULTS)
def test_each_fault_is_found_with_its_place(broken_store: Path, damage: Damage, findings: Sequence[str]) -> None:
    """Exactly this is said of it."""
    damage(broken_store)

    assert [f"{broken_store}: {finding}" for finding in findings] == problems_of(broken_store)


@pytest.mark.parametrize(
    ("table", "key"),
    [
        (META, SECRET),
        (ACCOUNT, A),
        (USERNAME, "b"),
        (FOLLOWING.visible, pair_key(A, 0)),
        (FOLLOWING.hidden, pair_key(A, 0)),
        (FOLLOWERS.runs, pair_key(CROWD, 431)),
        (FOLLOWERS.facts, HUB),
        (FOLLOWING.histories, pair_key(A, ENDED)),
    ],
    ids=lambda value: value.name if isinstance(value, Table) else "",
)
def test_a_wrong_checksum_is_found(broken_store: Path, table: Table, key: Key) -> None:
    """In every table, with the row's place and without its texts."""
    where = repr(key) if isinstance(key, str) else key
    change(broken_store, f"UPDATE {table.name} SET value = CAST(value || x'00' AS BLOB) WHERE key = {where}")

    found = problems_of(broken_store)
    assert any(f"table {table.name}, " in problem and "is damaged" in problem for problem in found)


def test_values_that_a_table_does_not_allow_are_found(broken_store: Path) -> None:
    """However they came there."""
    insertion = (
        "INSERT INTO client (key, name, contact, notes, scopes, created_at, secret) VALUES (1, 2, 3, 4, 5, 6, x'')"
    )
    change(access_path(broken_store), "PRAGMA ignore_check_constraints = ON", insertion)

    assert [] != problems_of(broken_store)


_CLIENT = (
    "INSERT INTO client (id, key, name, contact, notes, scopes, created_at, secret)"
    " VALUES (1, 'key', 'name', '', '', '', 1, zeroblob(32))"
)


@pytest.mark.parametrize(
    "change_of_client",
    [
        "id = 5000000",
        "key = ''",
        f"created_at = {2**62}",
        f"not_before = -{2**62}",
        "list_rows = -5",
        "rate_calls = 5",
        "rate_calls = 5, rate_seconds = 0",
    ],
)
def test_clients_that_a_server_would_refuse_are_found(broken_store: Path, change_of_client: str) -> None:
    """A store is not sound if it refuses every client."""
    change(access_path(broken_store), _CLIENT)
    assert [] == problems_of(broken_store)
    change(access_path(broken_store), f"UPDATE client SET {change_of_client}")

    (problem,) = problems_of(broken_store)
    assert problem.startswith(f"{access_path(broken_store)}: table client, id ")


@pytest.mark.parametrize("second", [-(2**63), -1, 253_402_300_800, 2**63 - 1])
def test_tokens_that_a_server_would_refuse_are_found(broken_store: Path, second: int) -> None:
    """Check counts tokens whose end is no second of a calendar; asked with one, the store reports the damage."""
    token = f"INSERT INTO token VALUES (zeroblob(32), 1, {second})"
    change(access_path(broken_store), _CLIENT, token)

    assert problems_of(broken_store) == [
        f"{access_path(broken_store)}: 1 rows of table token have an expires_at that is no second"
    ]
    with closing(open_store(str(broken_store)).access()) as access, pytest.raises(StoreUnavailable, match="expires_at"):
        asyncio.run(access.find_grant(bytes(32)))


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM audit",
        "INSERT INTO audit SELECT * FROM audit",
        f"UPDATE audit SET count = {2**62}",
        "UPDATE audit SET before_count = -7",
        "UPDATE audit SET hash = x'00'",
        "UPDATE audit SET before_count = 5",
    ],
)
def test_a_checkpoint_of_the_audit_log_that_cannot_be_read_is_found(broken_store: Path, damage: str) -> None:
    """No server starts with it."""
    change(access_path(broken_store), damage)

    (problem,) = problems_of(broken_store)
    assert problem.startswith(f"{access_path(broken_store)}: table audit: ")
