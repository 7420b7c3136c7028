"""Java and the jars of Apache Cassandra on this machine; the jars are fetched once by Maven.

Maven Central has no archive of Cassandra 5 to unpack, only the jars; so configuration and options are our own
(`cassandra_node.py`).
"""

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import debian

OLDEST_JAVA = 17
PACKAGES = ("openjdk-17-jre-headless", "maven")
POM = Path(__file__).parent / "pom.xml"
CACHE = Path(__file__).parent.parent.parent / ".cache" / "cassandra"


def missing() -> str:
    """Return why no node can be started here, or an empty string. With CI=true missing programs are installed."""
    reason = _reason()
    if reason and os.environ.get("CI") == "true":
        debian.install(*PACKAGES)
        reason = _reason()
    return reason


def jars() -> Path:
    """The folder with the jars of a node."""
    version = re.findall(r"<version>([\d.]+)</version>", POM.read_text())[1]
    folder = CACHE / f"jars-{version}"
    with _alone(CACHE / "lock"):
        if not folder.exists():
            unfinished = folder.with_suffix(".new")
            shutil.rmtree(unfinished, ignore_errors=True)
            goal = ["dependency:copy-dependencies", f"-DoutputDirectory={unfinished}"]
            subprocess.run(["mvn", "-q", "-B", "-f", str(POM), *goal], check=True)
            unfinished.rename(folder)
    return folder


def _reason() -> str:
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian: {' '.join(PACKAGES)})"
    found = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr
    version = re.search(r'version "(\d+)', found)
    if version is None or int(version[1]) < OLDEST_JAVA:
        return f"Java {OLDEST_JAVA} or newer is needed, found {found.splitlines()[0]}"
    return ""


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from fetching the same files meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
