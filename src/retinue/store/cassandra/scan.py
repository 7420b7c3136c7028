"""Reading a whole graph from its keyspace. Writers may work meanwhile: each row is as it was when it was read."""

from collections.abc import Iterator

from retinue.model import AccountRecord
from retinue.store.bulk import Intervals
from retinue.store.cassandra.parts import PartDirectory
from retinue.store.cassandra.session import Session
from retinue.store.cassandra.source import CassandraSource
from retinue.store.reading.scan import LayoutScan


class CassandraScan:
    """A `GraphScan`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        parts = PartDirectory()
        parts.load(session)
        self._scan = LayoutScan(CassandraSource(session, parts))

    def accounts(self) -> Iterator[list[tuple[int, AccountRecord]]]:
        """Yield all accounts that were not erased."""
        return self._scan.accounts()

    def intervals(self, *, with_ended: bool) -> Iterator[Intervals]:
        """Yield all intervals."""
        return self._scan.intervals(with_ended=with_ended)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()
