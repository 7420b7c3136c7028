"""Bringing the graph file of an older Retinue to the schema of this one, in one transaction: wholly or not at all.

From 1 to 2 lists were packed into blocks, and followers, history and claims to usernames came in. Positions in
following lists, and with them every cursor that a client holds, stay as they were.
"""

from collections.abc import Callable
from importlib.resources import files as package_files
from pathlib import Path

import apsw

from retinue import names
from retinue.errors import StoreError, StoreUnavailable
from retinue.store.sqlite import files
from retinue.store.sqlite.accounts import PROFILE_FIELDS
from retinue.store.sqlite.files import Execute
from retinue.store.sqlite.pairs import Pair, Pairs
from retinue.store.sqlite.sides import Sides

_ROWS_AT_ONCE = 20_000

OnProgress = Callable[[int, int], None]

_ASIDE = """
    DROP INDEX account_changed;
    DROP INDEX following_pair;
    DROP TABLE following_run;
    ALTER TABLE profile RENAME TO old_profile;
    ALTER TABLE following RENAME TO old_following;
    ALTER TABLE account RENAME TO old_account;
"""
_ACCOUNTS = """
    INSERT INTO account
    SELECT id, key, folded, username, named_at, display_name, 0, visibility, 0, revision FROM old_account
"""
_FOLLOWS = """
    SELECT follower, position, followee, ifnull(followed_at, position) FROM old_following
    ORDER BY follower, position DESC
"""
_REMOVE = "DROP TABLE old_following; DROP TABLE old_profile; DROP TABLE old_account"


def migrate(path: Path, on_progress: OnProgress) -> tuple[int, int]:
    """Migrate a graph file; the schema it had and the one it has now. `on_progress` gets follows done and in all."""
    connection = files.open_for_migration(path, files.GRAPH)
    try:
        connection.execute("PRAGMA foreign_keys = OFF")  # tables change places; `check` looks at the result
        with files.transaction(connection):
            found = int(connection.execute("PRAGMA user_version").get)
            if found < files.GRAPH.version:
                _require_sound(connection, path)
                _from_1_to_2(connection, on_progress)
                connection.execute(f"PRAGMA user_version = {files.GRAPH.version}")
        if found < files.GRAPH.version:
            connection.execute("VACUUM")
    except (apsw.Error, StoreUnavailable) as error:
        raise StoreError(f"{path}: cannot be migrated: {error}") from error
    finally:
        connection.close()
    return found, files.GRAPH.version


def _require_sound(connection: apsw.Connection, path: Path) -> None:
    for (line,) in connection.execute("PRAGMA integrity_check(1)"):
        if line != "ok":
            raise StoreError(f"{path}: cannot be migrated, it is damaged: {line}")
    for table, _, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        raise StoreError(f"{path}: cannot be migrated: a row of {table} points to a row of {parent} that is not there")


def _from_1_to_2(connection: apsw.Connection, on_progress: OnProgress) -> None:
    execute = files.executor(connection)
    execute(_ASIDE)
    execute(package_files("retinue.store.sqlite").joinpath(files.GRAPH.schema).read_text())
    execute(_ACCOUNTS)
    _move_claims(execute)
    for field in PROFILE_FIELDS:
        execute(f"INSERT INTO profile SELECT account, '{field}', {field}, 0 FROM old_profile WHERE {field} NOT NULL")
    _move_follows(connection, on_progress)
    execute(_REMOVE)


def _move_claims(execute: Execute) -> None:
    """Who carried a name has the best claim to it. Who had lost it keeps a claim only if that one is worse."""
    accounts = execute("SELECT id, key, folded, username, username_at FROM account ORDER BY folded IS NULL").fetchall()
    holders: dict[str, tuple[int, str]] = {}
    for account, key, folded, username, named_at in accounts:
        name = folded or names.fold(username)
        claim = (-named_at, key)
        if folded:
            holders[name] = claim
        elif name not in holders or claim < holders[name]:
            continue
        execute("INSERT INTO claim (folded, account, at) VALUES (?, ?, ?)", (name, account, named_at))


def _move_follows(connection: apsw.Connection, on_progress: OnProgress) -> None:
    execute = files.executor(connection)
    total = execute("SELECT count(*) FROM old_following").fetchall()[0][0]
    sides = Sides(connection)
    sides.begin()
    pairs = Pairs(connection, sides)
    for done, (follower, position, followee, at) in enumerate(connection.execute(_FOLLOWS)):
        pairs.restore(Pair(follower, followee), at, position)
        if done % _ROWS_AT_ONCE == 0:
            pairs.flush()
            on_progress(done, total)
    pairs.flush()
