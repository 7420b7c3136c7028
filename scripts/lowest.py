"""Print the lowest versions that pyproject.toml allows, as constraints for pip.

Direct dependencies that users install are at their lower bounds, the tools of `bench` and `dev` as in constraints.txt.
pip chooses the versions of indirect dependencies, as it does for users. `make test-lowest` runs the tests with them.
"""

import re
import tomllib
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parent.parent
PINNED_EXTRAS = {"bench", "dev"}  # their versions are in constraints.txt alone
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_BOUND = re.compile(r">=([0-9.]+)")


def requirements() -> dict[str, list[str]]:
    """Return the direct dependencies by extra (`""` for every installation)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {"": project["dependencies"], **project["optional-dependencies"]}


def pins() -> dict[str, str]:
    """Return the version of each package in constraints.txt by its normalized name."""
    lines = (ROOT / "constraints.txt").read_text().split()
    return {normalized(name): version for name, version in (line.split("==") for line in lines)}


def lower_bounds() -> dict[str, str]:
    """Return the lowest version of each direct dependency by its normalized name. Raises `ValueError` without one."""
    bounds: dict[str, str] = {}
    promised = [group for extra, group in requirements().items() if extra not in PINNED_EXTRAS]
    for requirement in chain.from_iterable(promised):
        bound = _BOUND.search(requirement)
        if bound is None or bounds.setdefault(name_of(requirement), bound[1]) != bound[1]:
            raise ValueError(f"{requirement}: expected one lower bound, the same in every extra")
    return bounds


def lowest() -> dict[str, str]:
    """Return the versions to test with."""
    tools = {name_of(requirement) for extra in PINNED_EXTRAS for requirement in requirements()[extra]}
    return {name: version for name, version in pins().items() if name in tools} | lower_bounds()


def name_of(requirement: str) -> str:
    """Return the normalized name of the package that a requirement is for."""
    found = _NAME.match(requirement)
    assert found is not None
    return normalized(found[0])


def normalized(name: str) -> str:
    """Return a package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    print("\n".join(f"{name}=={version}" for name, version in lowest().items()))
