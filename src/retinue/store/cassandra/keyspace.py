"""Creating a keyspace for a store, and opening it."""

from contextlib import closing
from importlib.resources import files

from retinue.errors import InputError, MissingStore, NotAStore, UnsupportedSchema
from retinue.store.cassandra import lease
from retinue.store.cassandra.location import Location
from retinue.store.cassandra.session import READS_AT_ONCE, Session
from retinue.store.layout.sealing import seal
from retinue.store.layout.tables import META, new_meta

VERSION = 3
_REPLICATED = 'CREATE KEYSPACE IF NOT EXISTS "{keyspace}" WITH replication = {replication}'
_REPLICATION = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?"
_TABLES = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?"
_BEGIN = "INSERT INTO store (name, version) VALUES ('store', ?) IF NOT EXISTS"
_ADD_META = "INSERT INTO meta (key, value) VALUES (?, ?) IF NOT EXISTS"


def create(location: Location, replication: int) -> bool:
    """Create keyspace and tables; return whether something was missing.

    Each row has `replication` replicas. Raises `InputError` if the keyspace has, or needs, another number.
    """
    with closing(Session(location)) as session:
        datacenter = location.datacenter or session.run_as_is("SELECT data_center FROM system.local")[0][0]
        _require_replication(location, session, datacenter, replication)
        options = f"{{'class': 'NetworkTopologyStrategy', '{datacenter}': {replication}}}"
        session.run_as_is(_REPLICATED.format(keyspace=location.keyspace, replication=options))
        session.enter()
        for statement in statements():
            session.run_as_is(statement)
        begin(session)
        is_made, _ = session.compare_and_set(_BEGIN, (VERSION,))
        return is_made


def begin(session: Session) -> None:
    """Write the first rows of an empty graph."""
    for key, content in new_meta().items():
        session.compare_and_set(_ADD_META, (key, seal(META, key, content)))
    session.compare_and_set(lease.BEGIN)


def _require_replication(location: Location, session: Session, datacenter: str, replication: int) -> None:
    for (options,) in session.rows(_REPLICATION, (location.keyspace,)):
        found = {name: value for name, value in options.items() if name != "class"}
        if found.get(datacenter, found.get("replication_factor")) != str(replication):
            shown = ", ".join(f"{name}: {value}" for name, value in sorted(found.items()))
            raise InputError(
                f"{location}: the keyspace already exists, with other replicas than {replication} ({shown})"
            )
        return
    places = [session.run_as_is(f"SELECT data_center FROM system.{table}") for table in ("local", "peers")]
    nodes = sum(place == datacenter for rows in places for (place,) in rows)
    if replication > nodes:
        raise InputError(
            f"--replication {replication}: the datacenter {datacenter} has {nodes} nodes, and a replica needs its own"
        )


def open_session(location: Location, reads_at_once: int = READS_AT_ONCE) -> Session:
    """Return connections to an existing store."""
    session = Session(location, reads_at_once)
    try:
        _require_store(location, session)
    except BaseException:
        session.close()
        raise
    return session


def _require_store(location: Location, session: Session) -> None:
    tables = {table for (table,) in session.rows(_TABLES, (location.keyspace,))}
    if not tables:
        raise MissingStore(f"{location}: no store exists here; `retinue store init` creates one")
    if "store" not in tables:
        raise NotAStore(f"{location}: not a Retinue store (the keyspace has other tables)")
    session.enter()
    found = session.rows("SELECT version FROM store WHERE name = 'store'")
    if not found:
        raise MissingStore(f"{location}: the store was not finished; run `retinue store init` again")
    if found[0][0] != VERSION:
        raise UnsupportedSchema(location, found[0][0], VERSION)


def statements() -> list[str]:
    """Return the schema's statements."""
    text = files("retinue.store.cassandra").joinpath("schema.cql").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    return [statement.strip() for statement in "\n".join(lines).split(";") if statement.strip()]
