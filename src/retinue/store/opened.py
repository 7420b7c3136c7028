"""Parts of a store as `assemble.py` gives them out: each of the contract's Protocols, to be closed by its user."""

from typing import Protocol

from retinue.model import Account, Shown_co, Stretch
from retinue.store.base import AccessStore, AuditStore, Checker, GraphReader, GraphWriter, HotGraph, Ledger, Run


class OpenGraph(GraphReader[Shown_co], Protocol[Shown_co]):
    """A graph for reading."""

    def close(self) -> None:
        """Give back what it holds."""
        ...


class OpenHotGraph(HotGraph, Protocol):
    """What a graph can answer at once."""

    def close(self) -> None:
        """Give back what it holds."""
        ...


class ColdGraph:
    """An `OpenHotGraph` of a graph that can answer nothing at once."""

    def account_at_once(self, folded: str) -> Account | None:
        """None: ask the graph."""

    def run_at_once(self, stretch: Stretch) -> Run | None:
        """None: ask the graph."""

    def close(self) -> None:
        """Nothing is held."""


class OpenWriter(GraphWriter, Protocol):
    """A graph for writing."""

    def close(self) -> None:
        """Give back what it holds."""
        ...


class OpenAccess(AccessStore, AuditStore, Protocol):
    """Clients, tokens and the audit's anchor."""

    def close(self) -> None:
        """Give back what it holds."""
        ...


class OpenLedger(Ledger, Protocol):
    """The counters of quotas."""

    def settle(self) -> None:
        """Make what was counted survive a power loss."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class OpenChecker(Checker, Protocol):
    """A consistency check."""

    def close(self) -> None:
        """Give back what it holds."""
        ...
