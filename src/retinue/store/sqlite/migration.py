"""Bringing the files of an older Retinue to the schemas of this one, each in one transaction: wholly or not at all.

Graph, from 1 to 2: lists were packed into blocks, and followers, history and claims to usernames came in. Positions
in following lists, and with them every cursor that a client holds, stay as they were.
Access file, from 1 to 2: clients got quotas, an access window and more, and the audit log its checkpoint. Clients have
the default quotas afterwards; their secrets and tokens stay good.
"""

from collections.abc import Callable
from contextlib import closing
from importlib.resources import files as package_files
from pathlib import Path
from typing import NamedTuple

import apsw

from retinue import names
from retinue.errors import StoreError, StoreUnavailable
from retinue.history import Moment
from retinue.model import Quota
from retinue.store.rules.accounts import PROFILE_FIELDS
from retinue.store.rules.values import LAST_SECOND, UNKNOWN, Pair, Wanted
from retinue.store.sqlite import files
from retinue.store.sqlite.files import Execute
from retinue.store.sqlite.work import Work

_ROWS_AT_ONCE = 20_000

OnProgress = Callable[[int, int], None]


class Migrated(NamedTuple):
    """A file, the schema it had and the one it has now."""

    path: Path
    before: int
    after: int


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
_ACCESS_ASIDE = """
    DROP INDEX token_expiry;
    ALTER TABLE token RENAME TO old_token;
    ALTER TABLE client RENAME TO old_client;
"""
_CLIENTS = """
    INSERT INTO client (key, name, contact, notes, scopes, created_at, revoked_at,
        list_calls, list_rows, other_calls, secret)
    SELECT key, name, '', '', scopes, created_at, revoked_at, ?, ?, ?, secret_digest FROM old_client ORDER BY rowid
"""
_TOKENS = """
    INSERT INTO token SELECT digest, client.id, expires_at FROM old_token JOIN client ON client.key = old_token.client;
    DROP TABLE old_token;
    DROP TABLE old_client
"""
_REMOVE = "DROP TABLE old_following; DROP TABLE old_profile; DROP TABLE old_account"


def migrate(graph: Path, on_progress: OnProgress) -> list[Migrated]:
    """Migrate both files of a store; what became of each. `on_progress` gets follows done and in all."""
    with closing(files.open_for_migration(graph, files.GRAPH)):
        pass  # the graph is what was named, and so are its faults
    access = files.access_path(graph)
    return [
        _migrate(access, files.ACCESS, _access_from_1_to_2),
        _migrate(graph, files.GRAPH, lambda connection: _graph_from_1_to_2(connection, on_progress)),
    ]


def _migrate(path: Path, kind: files.Kind, change: Callable[[apsw.Connection], None]) -> Migrated:
    connection = files.open_for_migration(path, kind)
    try:
        connection.execute("PRAGMA foreign_keys = OFF")  # tables change places; `check` looks at the result
        with files.transaction(connection):
            found = int(connection.execute("PRAGMA user_version").get)
            if found < kind.version:
                _require_sound(connection, path)
                change(connection)
                connection.execute(f"PRAGMA user_version = {kind.version}")
        if found < kind.version:
            connection.execute("VACUUM")
    except (apsw.Error, StoreUnavailable) as error:
        raise StoreError(f"{path}: cannot be migrated: {error}") from error
    finally:
        connection.close()
    return Migrated(path, found, kind.version)


def _require_sound(connection: apsw.Connection, path: Path) -> None:
    for (line,) in connection.execute("PRAGMA integrity_check(1)"):
        if line != "ok":
            raise StoreError(f"{path}: cannot be migrated, it is damaged: {line}")
    for table, _, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        raise StoreError(f"{path}: cannot be migrated: a row of {table} points to a row of {parent} that is not there")


def _access_from_1_to_2(connection: apsw.Connection) -> None:
    execute = files.executor(connection)
    execute(_ACCESS_ASIDE)
    execute(package_files("retinue.store.sqlite").joinpath(files.ACCESS.schema).read_text())
    quota = Quota()
    execute(_CLIENTS, (quota.list_calls, quota.list_rows, quota.other_calls))
    execute(_TOKENS)


def _graph_from_1_to_2(connection: apsw.Connection, on_progress: OnProgress) -> None:
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
    work = Work(connection)
    work.begin()
    for done, (follower, position, followee, at) in enumerate(connection.execute(_FOLLOWS)):
        pair, wanted = Pair(follower, followee), Wanted(following=position)
        work.pairs.learn(pair, UNKNOWN, Moment(at), LAST_SECOND, wanted)
        if done % _ROWS_AT_ONCE == 0:
            work.flush()
            on_progress(done, total)
    work.flush()
