"""Compute nodes, disk, servers and cost of a cluster for a graph.

    python scripts/scale.py --follows 300e9 --accounts 1.5e9 --pages 100000

Every measured or assumed figure below is a flag. The last table shows the factor by which the cost changes if one of
them doubles, and so which assumption is worth a measurement.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

GIGA, TERA = 1e9, 1e12
_HOURS = 3600
# The valid range of a figure; values outside are typing errors.
_ANY = (1e-6, 1e15)
_BOUNDS = {"names_missed": (0, 1000), "busy": (0.01, 1), "disk_used": (0.01, 1), "replication": (1, 100)}


@dataclass(frozen=True, slots=True)
class Figures:
    """Requirements, measurements (`make bench SCENARIO=cluster`) and assumptions."""

    # Required
    accounts: float = 1.5e9
    follows: float = 300e9
    pages: float = 100_000  # a second, of 20 rows
    events: float = 10_000  # a second
    # Measured on one node, one core each, all names known; one replica, compacted
    bytes_a_follow: float = 69.3
    bytes_an_account: float = 184
    node_us_a_page: float = 148  # of CPU
    retinue_us_a_page: float = 325
    imported: float = 1_379  # rows a second
    applied: float = 596  # events a second, by one writer
    # Assumed
    replication: float = 3
    replicas_asked: float = 2  # by a read at LOCAL_QUORUM
    names_missed: float = 5  # of the 20 of a page, by the memory of a worker; each is one more query
    query_of_page: float = 0.7  # cost of a query for a name on both sides, as a share of the cost of a page
    disk_a_node: float = 4e12  # bytes
    disk_used: float = 0.5  # at most, leaves space for compaction
    cores_a_node: float = 16
    cores_a_server: float = 16
    busy: float = 0.5  # cores on average, leaves room for a failed node and for peaks
    node_price: float = 900  # a month
    server_price: float = 400


@dataclass(frozen=True, slots=True)
class Plan:
    """The hardware that a graph needs. Cores are busy ones."""

    disk: float  # bytes, all replicas
    node_cores: float
    server_cores: float
    nodes_for_disk: int
    nodes_for_cpu: int
    servers: int
    hours_of_import: float
    cost: float  # a month

    @property
    def nodes(self) -> int:
        """The number of nodes, by disk or by CPU, whichever is larger."""
        return max(self.nodes_for_disk, self.nodes_for_cpu)


def plan_of(figures: Figures) -> Plan:
    """Return the hardware that a graph needs."""
    one_replica = figures.follows * figures.bytes_a_follow + figures.accounts * figures.bytes_an_account
    disk = one_replica * figures.replication
    queries = 1 + figures.names_missed * figures.query_of_page  # in pages
    node_cores = figures.pages * queries * figures.node_us_a_page * figures.replicas_asked / 1e6
    server_cores = figures.pages * queries * figures.retinue_us_a_page / 1e6
    for_disk = max(math.ceil(disk / (figures.disk_a_node * figures.disk_used)), int(figures.replication))
    for_cpu = math.ceil(node_cores / (figures.cores_a_node * figures.busy))
    servers = math.ceil(server_cores / (figures.cores_a_server * figures.busy))
    nodes = max(for_disk, for_cpu)
    cost = nodes * figures.node_price + servers * figures.server_price
    hours = figures.follows / figures.imported / _HOURS
    return Plan(disk, node_cores, server_cores, for_disk, for_cpu, servers, hours, cost)


def doubled(figures: Figures) -> list[tuple[str, float]]:
    """Return the cost factor of doubling each figure, largest change first."""
    cost = plan_of(figures).cost
    changes = [
        (each.name, plan_of(replace(figures, **{each.name: 2 * getattr(figures, each.name)})).cost / cost)
        for each in fields(figures)
    ]
    return sorted(changes, key=lambda change: -abs(math.log(change[1])))


def report(figures: Figures) -> Iterator[str]:
    """Yield the lines of the plan and of the table of factors."""
    plan = plan_of(figures)
    yield f"{figures.accounts:,.0f} accounts, {figures.follows:,.0f} follows, {figures.pages:,.0f} pages a second"
    yield f"disk      {plan.disk / TERA:,.1f} TB in {figures.replication:.0f} replicas: {plan.nodes_for_disk:,} nodes"
    yield f"CPU       {plan.node_cores:,.0f} busy cores of Cassandra: {plan.nodes_for_cpu:,} nodes"
    yield f"          {plan.server_cores:,.0f} busy cores of Retinue: {plan.servers:,} servers"
    yield f"cost      {plan.cost:,.0f} a month, {plan.cost / (figures.follows / GIGA):,.0f} for each billion follows"
    is_enough = "enough" if figures.applied >= figures.events else "NOT ENOUGH"
    yield f"events    {figures.events:,.0f} a second are wanted, one writer applies {figures.applied:,.0f}: {is_enough}"
    yield f"import    {plan.hours_of_import:,.0f} hours by `retinue import`"
    yield "twice as large       cost times"
    for name, factor in doubled(figures):
        if abs(factor - 1) > 0.005:  # noqa: PLR2004 - what would be printed as 1.00
            yield f"{name:<20} {factor:>10.2f}"


def main() -> None:
    """Print the plan for the flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    for each in fields(Figures):
        text = f"{each.default:g} unless given; the comments in this file say what it is"
        parser.add_argument(
            f"--{each.name.replace('_', '-')}", type=float, default=each.default, metavar="N", help=text
        )
    figures = Figures(**vars(parser.parse_args()))
    for name, (least, most) in {each.name: _BOUNDS.get(each.name, _ANY) for each in fields(figures)}.items():
        if not least <= getattr(figures, name) <= most:
            parser.error(f"--{name.replace('_', '-')}: expected {least:g} to {most:g}")
    if figures.replication % 1:
        parser.error("--replication: expected a whole number")
    print("\n".join(report(figures)))


if __name__ == "__main__":
    main()
