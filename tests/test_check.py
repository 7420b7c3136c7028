"""`check` finds every broken invariant and says where it is."""

from array import array
from pathlib import Path

import pytest

from retinue.store.sqlite.files import access_path
from support.broken_store import (
    ENDED,
    ERASED,
    LIST_OF_A,
    LIST_OF_B,
    LIST_OF_E,
    LIST_OF_HUB,
    PRIVATE,
    A,
    B,
    C,
    D,
    E,
    change,
)
from support.service import problems_of


def packed(*numbers: int) -> str:
    """A blob of 32-bit numbers, as SQL. Blocks: the positions, then the accounts; or positions with true seconds."""
    return f"x'{array('I', numbers).tobytes().hex()}'"


FAULTS = {
    # Names
    "UPDATE account SET folded = 'x' WHERE id = 2": ["account 2: found as 'x', which is not its username 'b' folded"],
    "UPDATE account SET username = 'B' WHERE id = 2": ["account 2: username 'B' is not as answers carry it"],
    f"UPDATE account SET username = 'b b', folded = NULL WHERE id = {ENDED}": [
        "account 6: username 'b b' has whitespace or characters that cannot be printed"
    ],
    "UPDATE account SET display_name = 'x' || char(0) WHERE id = 2": [
        "account 2: its display name has a NUL character"
    ],
    "UPDATE account SET key = '' WHERE id = 2": ["account 2: key '' is empty"],
    # Owners of names
    "INSERT INTO claim VALUES ('b', 3, 5)": ["account 2: is found as 'b', to which it has not the best claim"],
    "DELETE FROM claim WHERE folded = 'b'": ["account 2: is found as 'b', to which it has not the best claim"],
    f"UPDATE account SET folded = NULL WHERE id = {ENDED}": [
        "account 6: has the best claim to 'ended', but is not found by it"
    ],
    # Rows of accounts that are not there, or not any more
    "INSERT INTO claim VALUES ('x', 999, 5)": ["a row of table claim points to a row of account that is not there"],
    "INSERT INTO profile VALUES (999, 'bio_url', '', 5)": [
        "a row of table profile points to a row of account that is not there"
    ],
    f"UPDATE account SET display_name = 'x' WHERE id = {ERASED}": [
        "account 8: is erased, but something is still said of it"
    ],
    f"INSERT INTO claim VALUES ('x', {ERASED}, 5)": ["account 8: is erased, but something is still said of it"],
    f"INSERT INTO profile VALUES ({ERASED}, 'bio_url', '', 5)": [
        "account 8: is erased, but something is still said of it"
    ],
    # Blocks
    "UPDATE followers_count SET entries = 131": ["followers of account 10: the stored count is not 130"],
    "INSERT INTO following_count VALUES (1, 4)": ["following of account 1: the stored count is not None"],
    "INSERT INTO followers_aside_count VALUES (5, 1)": ["followers_aside of account 5: has a count, but no blocks"],
    f"INSERT INTO following VALUES ({LIST_OF_A + 200}, {packed(200, ENDED)}, NULL)": [
        "following of account 1: has more blocks than its only one",
        "account 1 follows 6 since 200 in the following list only",
    ],
    f"INSERT INTO following VALUES ({LIST_OF_HUB}, x'', NULL)": [
        "following of account 10: block 0: has 0 positions and 0 accounts"
    ],
    f"UPDATE following SET displaced = {packed(97, 100, 98, 100, 99, 100)} WHERE block = {LIST_OF_A}": [
        "following of account 1: block 0: has wrong true seconds"
    ],
    f"UPDATE following SET entries = {packed(50, 99, 98, 100, E, C, D, B)} WHERE block = {LIST_OF_A}": [
        "following of account 1: block 0: its positions are not ascending, or reach out of the block",
        "following of account 1: the slot run 98 to 100 is stored, but the list has no such run",
        "pair of accounts 1 and 3: does not stand on second 99 of the following list of account 1",
    ],
    f"UPDATE following SET entries = {packed(50, 98, 99, 100, E, D, C, E)} WHERE block = {LIST_OF_A}": [
        "following of account 1: has an account twice",
        "account 1 follows 2 since 100 in the followers list only",
        "account 1 follows 5 since 100 in the following list only",
    ],
    f"UPDATE following SET entries = {packed(70, B)} WHERE block = {LIST_OF_B}": [
        "following of account 2: has its owner among its accounts",
        "account 2 follows 1 since 70 in the followers list only",
        "account 2 follows 2 since 70 in the following list only",
    ],
    # Seconds
    "DELETE FROM following_taken WHERE first = 98": ["following of account 1: the slot run 98 to 100 is not stored"],
    "DELETE FROM following_taken WHERE first = 20": ["following of account 1: the slot run 20 to 20 is not stored"],
    f"INSERT INTO followers_taken VALUES ({ENDED}, 200, 201)": [
        "followers of account 6: the slot run 200 to 201 is stored, but the list has no such run"
    ],
    "UPDATE ended SET following_position = 50": [
        "following of account 1: second 50 is taken twice",
        "following of account 1: the slot run 30 to 30 is stored, but the list has no such run",
        "following of account 1: the slot run 50 to 50 is not stored",
        "following of account 1: second 50 is later than 30, which is not noted",
    ],
    # Both directions
    f"DELETE FROM followers WHERE block = {LIST_OF_E}": ["account 1 follows 5 since 50 in the following list only"],
    f"DELETE FROM following WHERE block = {LIST_OF_B}": ["account 2 follows 1 since 70 in the followers list only"],
    # Sides
    f"UPDATE account SET visibility = 2 WHERE id = {E}": [
        "following of account 1, position 50: account 5 is out of place"
    ],
    f"UPDATE account SET visibility = 0 WHERE id = {PRIVATE}": [
        "following_aside of account 1, position 20: account 7 is out of place"
    ],
    f"DELETE FROM account WHERE id = {E}": [
        "a row of table claim points to a row of account that is not there",
        "following of account 1, position 50: account 5 is not there",
        "followers of account 5, position 50: account 1 is not there",
    ],
    f"INSERT INTO moving VALUES ({E}, 0, 'followers', 5)": [
        "account 5: is being moved, and readers are wrongly told not to merge"
    ],
    f"INSERT INTO moving VALUES ({PRIVATE}, 1, 'followers', 5)": [
        "account 7: is being moved, and readers are wrongly told to merge"
    ],
    # Pairs
    "UPDATE ended SET ended_at = 41": ["pair of accounts 1 and 6: its events make 30 to 40, but stored is 30 to 41"],
    f"INSERT INTO pair VALUES ({A}, {E}, NULL, 50, 50, 50)": [
        "pair of accounts 1 and 5: has nothing that the lists do not tell"
    ],
    f"UPDATE pair SET followers_position = 90 WHERE followee = {C}": [
        "pair of accounts 1 and 3: does not stand on second 90 of the followers list of account 3"
    ],
    f"DELETE FROM pair WHERE followee = {ENDED}": ["the interval of accounts 1 and 6 that began at 30 has no pair"],
    f"DELETE FROM pair WHERE followee = {C}": ["following of account 1: second 99 is away from 100 unexplained"],
}


@pytest.mark.parametrize(("damage", "findings"), FAULTS.items(), ids=FAULTS)
def test_each_fault_is_found_with_its_place(broken_store: Path, damage: str, findings: list[str]) -> None:
    """Exactly this is said of it."""
    change(broken_store, damage)

    assert [f"{broken_store}: {finding}" for finding in findings] == problems_of(broken_store)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("broken.db", f"UPDATE account SET visibility = 7 WHERE id = {ENDED}"),
        (
            "broken.access.db",
            "INSERT INTO client (key, name, contact, notes, scopes, created_at, secret) VALUES (1, 2, 3, 4, 5, 6, x'')",
        ),
    ],
)
def test_values_that_a_table_does_not_allow_are_found(broken_store: Path, file: str, damage: str) -> None:
    """However they came there."""
    change(broken_store.with_name(file), "PRAGMA ignore_check_constraints = ON", damage)

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


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        *(("account", column, value) for column in ("username_at", "visibility_at") for value in (-1, 2**32, 2**62)),
        ("account", "revision", 2**62),
        ("claim", "at", -1),
        ("moving", "position", 2**62),
    ],
)
def test_numbers_out_of_their_range_are_found(broken_store: Path, table: str, column: str, value: int) -> None:
    """Times that are no seconds, and revisions after which none can come."""
    change(broken_store, f"INSERT INTO moving VALUES ({A}, 0, 'following', 5)")
    before = problems_of(broken_store)
    name = "id" if table == "account" else "account"
    change(broken_store, f"UPDATE {table} SET {column} = {value} WHERE {name} = {A}")

    found = [problem for problem in problems_of(broken_store) if problem not in before]
    assert any(
        f"{broken_store}: account {A}: {column} in table {table} is {value}, not from 0 to " in each for each in found
    )


@pytest.mark.parametrize("account", [-5, 0, 2**31, 2**40])
def test_numbers_of_accounts_that_no_list_can_hold_are_found(broken_store: Path, account: int) -> None:
    """An import would fail on them."""
    change(
        broken_store,
        f"INSERT INTO account VALUES ({account}, 'odd', 'odd', 'odd', 1, '', 0, 0, 0, 0)",
        f"INSERT INTO claim VALUES ('odd', {account}, 1)",
    )

    assert (
        f"{broken_store}: account {account}: id in table account is {account}, not from 1 to {2**31 - 1}"
        in problems_of(broken_store)
    )


@pytest.mark.parametrize("damage", ["DELETE FROM secret", "INSERT INTO moving VALUES (5, 1, 'sideways', 5)"])
def test_state_that_writers_refuse_is_found(broken_store: Path, damage: str) -> None:
    """A store is not sound when only reading goes well."""
    change(broken_store, damage)

    assert [] != problems_of(broken_store)
