"""The program that says how large a cluster a graph needs."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scale import Figures, doubled, plan_of, report

ROOT = Path(__file__).parent.parent
SCALE = ROOT / "scripts" / "scale.py"


def scale(*flags: str) -> subprocess.CompletedProcess[str]:
    """Run the program."""
    return subprocess.run([sys.executable, SCALE, *flags], capture_output=True, text=True, check=False)


def test_the_page_shows_the_output_of_the_program() -> None:
    """The worked example is no copy that grows old."""
    assert "\n".join(report(Figures())) in (ROOT / "docs" / "scale.md").read_text()
    assert "\n".join(report(Figures())) + "\n" == scale().stdout


def test_a_small_graph_by_hand() -> None:
    """A million follows of 100 bytes on three nodes, and one page a second."""
    figures = Figures(
        accounts=1,
        follows=1e6,
        pages=1,
        bytes_a_follow=100,
        bytes_an_account=1,
        node_us_a_page=1_000,
        retinue_us_a_page=500,
        names_missed=4,
        query_of_page=0.5,
        node_price=10,
        server_price=1,
    )
    plan = plan_of(figures)

    assert (300_000_003, 3, 1, 1) == (plan.disk, plan.nodes_for_disk, plan.nodes_for_cpu, plan.servers)
    assert pytest.approx((0.006, 0.0015)) == (plan.node_cores, plan.server_cores)
    assert 31 == plan.cost  # as many nodes as replicas


@given(factor=st.floats(1, 1000), name=st.sampled_from(["accounts", "follows", "pages", "names_missed", "replication"]))
def test_more_never_costs_less(factor: float, name: str) -> None:
    """For every larger graph or load."""
    figures = Figures()
    larger = replace(figures, **{name: factor * getattr(figures, name)})

    assert plan_of(larger).cost >= plan_of(figures).cost
    assert all(change > 0 for _, change in doubled(larger))


@pytest.mark.parametrize(
    "flag", ["--follows=0", "--busy=2", "--pages=inf", "--disk-a-node=nan", "--names-missed=-1", "--replication=2.5"]
)
def test_impossible_sizes_are_refused(flag: str) -> None:
    """The error names the flag."""
    done = scale(flag)

    assert done.returncode == 2
    assert f"{flag.partition('=')[0]}: expected " in done.stderr
    assert 0 == scale("--names-missed=0").returncode
