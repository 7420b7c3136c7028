"""Write requirements.lock, or print the part for some extras (`lock.py server,dev`).

The file contains each package of constraints.txt with the SHA-256 of every file of that version, for all platforms and
Pythons, below a line with the extras that need it. Only writing it needs uv and a network.
"""

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass

from lowest import ROOT, name_of, normalized, pins, requirements

LOCK = ROOT / "requirements.lock"
PYTHONS = ("3.11", "3.12", "3.13")
ALWAYS = "always"  # without any extra
BUILD = "build"  # builds Retinue itself, and packages that have no wheel
_HEADER = "# Made by `make lock` of pyproject.toml and constraints.txt. Do not edit.\n"
_UV = ("uv", "pip", "compile", "--quiet", "--no-config", "--no-header", "--no-annotate")


@dataclass(frozen=True, slots=True)
class Locked:
    """A package: the extras that need it, and its requirement with hashes."""

    extras: frozenset[str]
    requirement: str

    @property
    def pin(self) -> tuple[str, str]:
        """The normalized name and the version."""
        name, _, version = self.requirement.split()[0].partition("==")
        return normalized(name), version


def locked() -> Iterator[Locked]:
    """Read requirements.lock."""
    for block in LOCK.read_text().removeprefix(_HEADER).split("# ")[1:]:
        extras, _, requirement = block.partition("\n")
        yield Locked(frozenset(extras.split()), requirement)


def write() -> None:
    """Regenerate requirements.lock."""
    needed: dict[str, set[str]] = {}
    for extra in requirements():
        for python in PYTHONS:
            for name in _closure(extra, python):
                needed.setdefault(name, set()).add(extra or ALWAYS)
    for requirement in tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]:
        needed.setdefault(name_of(requirement), set()).add(BUILD)
    if needed.keys() != pins().keys():
        raise SystemExit(f"constraints.txt: these are missing or not needed: {sorted(needed.keys() ^ pins().keys())}")
    hashed = _compiled("--no-deps", "--generate-hashes", "constraints.txt")
    lines = (f"# {' '.join(sorted(needed[name_of(block)]))}\n{block}\n" for block in _blocks(hashed))
    LOCK.write_text(_HEADER + "".join(lines))


def _closure(extra: str, python: str) -> list[str]:
    flags = ("--extra", extra) if extra else ()
    found = _compiled(
        *("-c", "constraints.txt", "--python-version", python, "--python-platform", "linux", *flags), "pyproject.toml"
    )
    return [name_of(line) for line in found.splitlines()]


def _compiled(*arguments: str) -> str:
    return subprocess.run([*_UV, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def _blocks(hashed: str) -> Iterator[str]:
    """Split at lines that are not indented."""
    block: list[str] = []
    for line in hashed.splitlines():
        if block and not line.startswith(" "):
            yield "\n".join(block)
            block = []
        block.append(line.rstrip())
    yield "\n".join(block)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        write()
    else:
        wanted = {ALWAYS, *sys.argv[1].split(",")}
        sys.stdout.write("".join(each.requirement for each in locked() if wanted & each.extras))
