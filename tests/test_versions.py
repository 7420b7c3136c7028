"""Versions of other people's packages: what is promised, what is pinned, and what is compared when it is fetched."""

import ast
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import lock
import lowest
from lowest import PINNED_EXTRAS, ROOT, name_of, normalized

SOURCE = ROOT / "src" / "retinue"
EXTRAS = lowest.requirements()
DIRECT = {
    name_of(each): Requirement(each) for name, group in EXTRAS.items() if name not in PINNED_EXTRAS for each in group
}
# Classes that their libraries document as made to be extended.
EXTENSIBLE = {"msgspec.Struct", "prometheus_client.registry.Collector", "cassandra.policies.RetryPolicy"}
PACKAGES = {"cassandra": "cassandra-driver", "prometheus_client": "prometheus-client"}


def test_each_promised_version_has_a_lower_bound_and_the_pinned_one_is_within() -> None:
    """Also those of `bench` and `dev` are pinned, and nothing is pinned twice."""
    pins = lowest.pins()

    assert set(DIRECT) == set(lowest.lower_bounds())
    assert [] == [str(each) for name, each in DIRECT.items() if not each.specifier.contains(pins[name])]
    assert set() == {name_of(each) for group in EXTRAS.values() for each in group} - set(pins)
    assert len(pins) == len((ROOT / "constraints.txt").read_text().splitlines())


def test_the_tests_at_lower_bounds_run_with_just_those() -> None:
    """`make test-lowest` passes every lower bound to pip, and the pinned tools."""
    versions = lowest.lowest()

    assert lowest.lower_bounds().items() <= versions.items()
    assert lowest.pins()["pytest"] == versions["pytest"]


def test_the_lock_file_has_every_pin_with_hashes() -> None:
    """Each package once, each with the SHA-256 of its files, and nothing that says where to get them."""
    entries = list(lock.locked())
    assert lowest.pins() == dict(entry.pin for entry in entries)
    assert len(lowest.pins()) == len(entries)
    for entry in entries:
        first, *hashes = entry.requirement.split()
        assert entry.requirement.startswith(first + " \\\n")
        assert hashes
        assert set() == {word for word in hashes if not re.fullmatch(r"--hash=sha256:[0-9a-f]{64}|\\", word)}
    for path in ("constraints.txt", "requirements.lock"):
        assert not re.search(r"://|index|find-links|@", (ROOT / path).read_text()), path


@pytest.mark.parametrize("extra", sorted(EXTRAS.keys() - {"", "fuzz"}))  # `make fuzz` alone installs its package
def test_the_lock_file_has_the_requirements_of_each_extra(extra: str) -> None:
    """By what the installed packages say of themselves: all that is needed is there, so pip never asks for more."""
    needed = {name for each in [*EXTRAS[""], *EXTRAS[extra]] for name in closure(Requirement(each))}
    known = {entry.pin[0] for entry in lock.locked() if entry.extras & {lock.ALWAYS, extra}}

    assert len(needed) > len(EXTRAS[""])
    assert set() == needed - known


def closure(requirement: Requirement, seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """A package, and all that it needs here."""
    name = normalized(requirement.name)
    yield name
    for text in requires(name) or []:
        needed = Requirement(text)
        applies = any(
            needed.marker is None or needed.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)
        )
        if applies and normalized(needed.name) not in seen:
            yield from closure(needed, seen | {name})


def test_a_class_that_extends_a_library_s_has_an_upper_bound() -> None:
    """A newer version may change what we build on, unless the library has made the class for that."""
    extended = {
        (PACKAGES.get(base.partition(".")[0], base.partition(".")[0]), base)
        for path in SOURCE.rglob("*.py")
        for base in bases_in(path)
        if base not in EXTENSIBLE
    }

    assert {"uvicorn", "typer"} == {package for package, _ in extended}
    assert [] == [base for package, base in extended if "<" not in str(DIRECT[package].specifier)]


def bases_in(path: Path) -> Iterator[str]:
    """The classes of direct dependencies that a file's classes extend, with their modules."""
    tree = ast.parse(path.read_text())
    imported = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    for node in ast.walk(tree):
        for base in node.bases if isinstance(node, ast.ClassDef) else []:
            name = imported.get(ast.unparse(base), ast.unparse(base))
            library = name.partition(".")[0]
            if "." in name and PACKAGES.get(library, library) in DIRECT:
                yield name


def test_no_private_name_of_a_library_is_imported() -> None:
    """They may go without notice."""
    private = re.compile(
        r"^\s*(?:from|import) (?!retinue)[\w.]*(?:\b_(?!_)\w+|.* import (?:.*, )?_(?!_)\w+)", re.MULTILINE
    )
    found = {path.name: private.findall(path.read_text()) for path in SOURCE.rglob("*.py")}

    assert {} == {name: lines for name, lines in found.items() if lines}


def test_a_missing_package_is_noticed() -> None:
    """The closure is not taken from thin air."""
    with pytest.raises(PackageNotFoundError):
        list(closure(Requirement("no-such-package-of-ours")))
