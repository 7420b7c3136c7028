"""Programs from Debian's packages: found, or installed where we may, without leaving a service running.

PostgreSQL refuses to run as root, so root hands it to another user.
"""

import fcntl
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from running import Failed

_NO_SERVICES = Path("/usr/sbin/policy-rc.d")  # asked by packages before they start a service; 101 means no
_NO_CLUSTER = Path("/etc/postgresql-common/createcluster.conf")
_SERVANTS = ("postgres", "nobody")
_INSTALLED = Path("/var/lib/dpkg")  # also what is locked: apt's own locks are not waited for


@dataclass(frozen=True, slots=True)
class Program:
    """A program, its folder and its package."""

    name: str
    package: str
    folder: Path = Path("/usr/sbin")
    service: str = ""

    def path(self) -> str | None:
        """Return its path, or None."""
        return shutil.which(str(self.folder / self.name)) or shutil.which(self.name)


WRK = Program("wrk", "wrk", Path("/usr/bin"))
NGINX = Program("nginx", "nginx", service="nginx")
POSTGRES_BINARIES = Path("/usr/lib/postgresql/15/bin")
POSTGRES = Program("postgres", "postgresql-15", POSTGRES_BINARIES, service="postgresql")


def require(*programs: Program) -> None:
    """Install what is missing. Raises `Failed` with what to do where that is not possible."""
    missing = [program for program in programs if program.path() is None]
    if not missing:
        return
    names = " ".join(program.package for program in missing)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Failed(f"missing: {names}; run this as root on Debian, or there: apt-get install {names}")
    print(f"installing {names}", flush=True)
    install(*names.split())
    for program in missing:
        if program.service and shutil.which("systemctl"):
            subprocess.run(["systemctl", "disable", program.service], capture_output=True, check=False)
        if program.path() is None:
            raise Failed(f"the package {program.package} was installed, but {program.name} is not there")


def install(*packages: str) -> None:
    """Install packages of Debian's, one process at a time. Raises `Failed`."""
    lock = os.open(_INSTALLED, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with _quiet_installation():
            _apt("update")
            _apt("install", "--no-install-recommends", *packages)
    finally:
        os.close(lock)


def servant() -> str | None:
    """Return the user for programs that refuse to be root, or None."""
    if os.geteuid() != 0:
        return None
    known = {user.pw_name for user in pwd.getpwall()}
    return next(name for name in _SERVANTS if name in known)


def as_servant(command: list[str]) -> list[str]:
    """Return a command line that runs as that user."""
    name = servant()
    if name is None:
        return command
    return ["setpriv", f"--reuid={name}", f"--regid={pwd.getpwnam(name).pw_gid}", "--clear-groups", *command]


def give_to_servant(folder: Path) -> None:
    """Let that user write into a folder, and reach it."""
    name = servant()
    if name is not None:
        shutil.chown(folder, name, pwd.getpwnam(name).pw_gid)


@contextmanager
def _quiet_installation() -> Iterator[None]:
    """Keep packages from starting services and making clusters."""
    made = [path for path in (_NO_SERVICES, _NO_CLUSTER) if not path.exists()]
    try:
        if _NO_SERVICES in made:
            _NO_SERVICES.write_text("#!/bin/sh\nexit 101\n")
            _NO_SERVICES.chmod(0o755)
        if _NO_CLUSTER in made:
            _NO_CLUSTER.parent.mkdir(exist_ok=True)
            _NO_CLUSTER.write_text("create_main_cluster = false\n")
        yield
    finally:
        for path in made:
            path.unlink(missing_ok=True)


def _apt(what: str, *packages: str) -> None:
    keep = ["-o", "Dpkg::Options::=--force-confold"]
    command = ["apt-get", what, "-y", "-qq", *(keep if packages else []), *packages]
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "UCF_FORCE_CONFFOLD": "1"}
    done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"`{' '.join(command)}` failed; is there a network?\n{done.stdout}{done.stderr}")
