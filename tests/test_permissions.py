"""Files with secrets are used only if no one but their owner can read or replace them."""

import stat
from pathlib import Path

import pytest

from retinue.safe_files import exposure
from retinue.store.open import open_store
from support.commands import retinue


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """An empty store in a folder of its own."""
    path = tmp_path / "data" / "graph.db"
    path.parent.mkdir(mode=0o700)
    open_store(str(path)).create()
    return path


def test_a_file_is_private_if_its_mode_gives_others_nothing(tmp_path: Path) -> None:
    """For every mode of a file."""
    path = tmp_path / "secret"
    path.touch()
    for mode in range(0o1000):
        path.chmod(mode)
        assert bool(exposure(path)) is bool(mode & 0o077), oct(mode)


@pytest.mark.parametrize(
    "command", [("client", "list"), ("serve", "--port", "0", "--management-port", "0"), ("backup", "copy.db")]
)
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
@pytest.mark.parametrize("ending", ["", "-wal", "-shm"])
def test_secrets_with_open_permissions_are_refused(
    store: Path, ending: str, mode: int, command: tuple[str, ...]
) -> None:
    """The access file and SQLite's logs of it, to read or to write, by each command that opens it."""
    path = store.with_name(f"graph.access.db{ending}")
    with open_store(str(store)).held_open():
        path.chmod(mode)
        done = retinue(*command, "--store", store)

    assert 2 == done.returncode
    assert f"retinue: {path}: others may use it (mode {mode:04o}); `chmod 600` it\n" == done.stderr


@pytest.mark.parametrize(
    "command", [("client", "list"), ("check",), ("serve", "--port", "0", "--management-port", "0")]
)
def test_a_world_writable_folder_is_refused(store: Path, command: tuple[str, ...]) -> None:
    """Even a private file can be replaced there. A group may write: on many systems it is the owner's own."""
    table = store.with_suffix(".csv")
    table.write_text("follower,followee,followed_at\na,b,1\n")
    store.parent.chmod(0o777)
    done = retinue(*command, "--store", store)

    assert 2 == done.returncode
    assert f"{store.parent}: all users may replace files in this folder (mode 0777); `chmod o-w` it" in done.stderr
    assert 2 == retinue("import", "--store", store.with_name("new.db"), table).returncode
    assert [] == list(store.parent.glob("new*"))  # nothing was begun
    for mode in (0o770, 0o755, 0o777 | stat.S_ISVTX):
        store.parent.chmod(mode)
        assert 0 == retinue("client", "list", "--store", store).returncode


@pytest.mark.parametrize("mode", [0o777, 0o777 | stat.S_ISVTX])
def test_a_world_writable_audit_folder_is_refused(store: Path, tmp_path: Path, mode: int) -> None:
    """Others could add files to the log, whether or not they can remove ours."""
    audit = tmp_path / "audit"
    audit.mkdir()
    audit.chmod(mode)
    done = retinue("serve", "--store", store, "--audit-folder", audit, "--port", "0", "--management-port", "0")

    assert 2 == done.returncode
    assert f"retinue: {audit}: all users may replace files in this folder" in done.stderr
