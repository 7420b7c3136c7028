"""Reads of profiles: fields, and the lengths of both lists."""

from retinue.model import Direction, Profile
from retinue.store.profiles import profile_of
from retinue.store.rules.values import LAST_SECOND
from retinue.store.sqlite.blocks import block_at, first_block, start_of
from retinue.store.sqlite.files import Execute
from retinue.store.sqlite.merged_lists import read_list
from retinue.store.sqlite.relocations import ERASED_ACCOUNTS

_NAME = "SELECT display_name FROM account WHERE id = ? AND key IS NOT NULL"
_FIELDS = "SELECT field, value FROM profile WHERE account = ?"


def read_profile(execute: Execute, account: int) -> Profile | None:
    """Return an account's profile, or None. Call inside one read transaction."""
    names = execute(_NAME, (account,)).fetchall()
    if not names:
        return None
    said = dict(execute(_FIELDS, (account,)).fetchall())
    erased = {other for (other,) in execute(ERASED_ACCOUNTS)}
    counts = {direction: _count(execute, direction, account, erased) for direction in Direction}
    return profile_of(str(names[0][0]), said, counts)


def _count(execute: Execute, direction: Direction, account: int, erased: set[int]) -> int:
    """Return the length of a list, without accounts that are being removed."""
    tables = (direction.value, f"{direction.value}_aside")
    count = sum(_entries_in(execute, table, account) for table in tables)
    if erased:
        count -= sum(entry.account in erased for table in tables for entry in read_list(execute, table, account))
    return count


def _entries_in(execute: Execute, table: str, owner: int) -> int:
    newest = f"SELECT block, length(entries) / 8 FROM {table} WHERE block BETWEEN ? AND ? ORDER BY block DESC LIMIT 1"
    for block, entries in execute(newest, (first_block(owner), block_at(owner, LAST_SECOND))).fetchall():
        if start_of(block) == 0:
            return int(entries)
        counted = f"SELECT entries FROM {table}_count WHERE owner = ?"
        return int(execute(counted, (owner,)).fetchall()[0][0])
    return 0
