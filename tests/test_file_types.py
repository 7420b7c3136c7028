"""Files of a server that are replaced by links, pipes and folders: nothing waits, and nothing else is changed."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from retinue.access.management_token import management_token
from retinue.audit.record_counters import open_counters, read_made
from retinue.audit.trusted_time import TimeFiles
from retinue.errors import InputError, StoreError
from retinue.quota.file_counters import FileQuotaCounters
from retinue.safe_files import open_regular

PRECIOUS = b"not a file of ours"


def link(path: Path) -> None:
    """A link to another file."""
    target = path.with_name("precious")
    target.write_bytes(PRECIOUS)
    path.symlink_to(target)


def dangling(path: Path) -> None:
    """A link to no file."""
    path.symlink_to(path.with_name("absent"))


def listening(path: Path) -> None:
    """A socket."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


KINDS = [link, dangling, os.mkfifo, Path.mkdir, listening]


@pytest.mark.parametrize("put", KINDS)
def test_only_regular_files_hold_counters_and_times(tmp_path: Path, put: Callable[[Path], None]) -> None:
    """Every reader and writer names the file at once; a link's target keeps its content."""
    for name in ("counters", "clock", "graph.quotas"):
        put(tmp_path / name)
        (tmp_path / "precious").unlink(missing_ok=True)
        (tmp_path / "precious").write_bytes(PRECIOUS)
    for use in (open_counters, read_made):
        with pytest.raises(StoreError, match="counters"):
            use(tmp_path)
    with pytest.raises(StoreError, match=r"graph\.quotas: quota counters cannot be stored here"):
        FileQuotaCounters(tmp_path / "graph.quotas")
    assert TimeFiles(tmp_path, b"secret").trusted.read() is None
    assert PRECIOUS == (tmp_path / "precious").read_bytes()
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("put", [os.mkfifo, Path.mkdir, listening])
def test_a_management_token_is_in_a_file(tmp_path: Path, put: Callable[[Path], None]) -> None:
    """Nothing else is waited for; a link is followed, since secrets are often mounted as links."""
    put(tmp_path / "token")
    with pytest.raises(InputError, match="token: the management token cannot be stored here"):
        management_token(tmp_path / "token", os.urandom)
    (tmp_path / "real").write_bytes(b"x" * 40)
    (tmp_path / "real").chmod(0o600)
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    assert management_token(tmp_path / "linked", os.urandom).is_in(b"Bearer " + b"x" * 40)


def test_a_regular_file_is_opened(tmp_path: Path) -> None:
    """It is made with the mode that is asked for."""
    descriptor = open_regular(tmp_path / "new", os.O_CREAT | os.O_WRONLY)
    os.close(descriptor)
    assert 0o600 == (tmp_path / "new").stat().st_mode & 0o777
