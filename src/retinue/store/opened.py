"""Parts of a store as `assemble.py` gives them out: each of the contract's Protocols, to be closed by its user."""

from typing import Protocol, runtime_checkable

from retinue.model import Account, Shown_co, Stretch
from retinue.store.bulk import WholeGraph
from retinue.store.contract import AccessStore, AuditStore, Checker, GraphReader, GraphWriter, HotGraph, Run
from retinue.store.quota_counters import Ledger, Restoring


class Closing(Protocol):
    """What holds something as long as it is open."""

    def close(self) -> None:
        """Give back what it holds."""
        ...


@runtime_checkable
class Asking(Protocol):
    """A part that has to ask over the network."""

    def statements_sent(self) -> int:
        """How many statements it has sent."""
        ...


class OpenGraph(GraphReader[Shown_co], Closing, Protocol[Shown_co]):
    """A graph for reading."""


class OpenHotGraph(HotGraph, Closing, Protocol):
    """What a graph can answer at once."""


class OpenWriter(GraphWriter, Closing, Protocol):
    """A graph for writing."""


class OpenWhole(WholeGraph, Closing, Protocol):
    """A graph for reading from one end to the other."""


class OpenAccess(AccessStore, AuditStore, Closing, Protocol):
    """Clients, tokens and the audit's checkpoint."""


class OpenLedger(Ledger, Restoring, Closing, Protocol):
    """The counters of quotas."""

    def settle(self) -> None:
        """Make what was counted survive a power loss."""
        ...


class OpenChecker(Checker, Closing, Protocol):
    """A consistency check."""


class ColdGraph:
    """An `OpenHotGraph` of a graph that can answer nothing at once."""

    def account_at_once(self, folded: str) -> Account | None:
        """None: ask the graph."""

    def run_at_once(self, stretch: Stretch) -> Run | None:
        """None: ask the graph."""

    def close(self) -> None:
        """Nothing is held."""
