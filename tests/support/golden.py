"""Read the contract's exchanges from the files in `golden/`."""

import tomllib
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent.parent / "golden"


def golden(name: str, table: str) -> list[dict[str, Any]]:
    """Return the entries of a golden file."""
    entries: list[dict[str, Any]] = tomllib.loads((GOLDEN / f"{name}.toml").read_text())[table]
    return entries
