"""Waiting for the disk, where a system allows less than usual."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Root reads every folder unless it gives this up.
WITHIN = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
CSV = "follower,followee,followed_at\nanna,ben,100\n"


@pytest.fixture
def unreadable(tmp_path: Path) -> Iterator[Path]:
    """A folder in which its owner may make files, and not list them."""
    folder = tmp_path / "unreadable"
    folder.mkdir(mode=0o300)
    yield folder
    folder.chmod(0o700)


def command_of(*words: str | Path) -> list[str | Path]:
    """A command of a user who may not read the folder."""
    return [*WITHIN, sys.executable, "-m", "retinue", *words]


def test_files_are_made_in_folders_that_cannot_be_read(unreadable: Path, tmp_path: Path) -> None:
    """Their names cannot be synced; the store, a backup, an export and the audit log are there all the same."""
    follows, store = tmp_path / "follows.csv", unreadable / "graph.db"
    follows.write_text(CSV)
    for words in (
        ("import", follows, "--store", store),
        ("backup", unreadable / "copy.db", "--store", store),
        ("export", unreadable / "exported", "--store", store),
    ):
        done = subprocess.run(command_of(*words), capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stderr

    serving = command_of("serve", "--store", store, "--port", "0", "--management-port", "0")
    with subprocess.Popen(serving, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        server.terminate()
        _, errors = server.communicate()
    assert line.startswith("Serving"), errors


def test_unreadable_files_are_not_assumed_durable(tmp_path: Path) -> None:
    """Only folders may be unreadable: a file that cannot be synced may not be on the disk."""
    (tmp_path / "file").touch(mode=0o200)
    script = "import sys, pathlib; from retinue.durable import sync; sync(pathlib.Path(sys.argv[1]))"
    command = [*WITHIN, sys.executable, "-c", script, tmp_path / "file"]

    assert "PermissionError" in subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False).stderr
