"""Help is printed without importing the libraries of the commands."""

import subprocess
import sys

import pytest

from retinue.cli.following import DirectionChoice
from retinue.model import RESEARCH_SCOPE, Direction
from support.commands import retinue

# Typer may import anything, but rich and pydantic come only when there is something to show or to check.
HEAVY = {
    *("apsw", "duckdb", "httptools", "numpy", "prometheus_client", "starlette", "uvicorn", "uvloop"),
    *("asyncio", "importlib.metadata", "msgspec", "pydantic", "rich", "ssl"),
}


def imported_by(*arguments: str) -> set[str]:
    """The modules that a run of our interpreter has imported when it ends."""
    done = subprocess.run([sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True)
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


@pytest.mark.parametrize("words", ["", "serve", "following", "client", "client create", "store init"])
def test_help_imports_nothing_heavy(words: str) -> None:
    """Help of every kind comes without a library that only the commands themselves need."""
    imported = imported_by("-m", "retinue", *words.split(), "--help")

    assert {"retinue.cli.main", "typer"} <= imported
    assert set() == HEAVY & imported


def test_the_package_itself_imports_nothing() -> None:
    """`import retinue` brings nothing of ours but the package, and nothing of others."""
    more = imported_by("-c", "import retinue") - imported_by("-c", "pass")

    assert {"retinue"} == more


def test_help_without_imports_equals_the_full_help() -> None:
    """The command line repeats two things of the model, which it does not import to show help."""
    assert [each.value for each in Direction] == [each.value for each in DirectionChoice]
    assert RESEARCH_SCOPE in retinue("client", "create", "--help").stdout
