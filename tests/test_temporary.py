"""Temporary folders end with their process; those of killed ones are removed by the next, and no others."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from retinue.temporary import TemporaryFolder, sweep
from support.waiting import waiting_for

NAME = "tell_tale_name"
ROWS = 400_000  # a large file is staged on disk


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, for this process and those that it starts."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


def command(*arguments: str | Path) -> list[str]:
    """A command line."""
    return [sys.executable, "-m", "retinue", *map(str, arguments)]


def has_names(folder: Path) -> bool:
    """Whether a file in a folder has the names that these tests import."""
    return any(NAME.encode() in content(path) for path in folder.rglob("*"))


def content(path: Path) -> bytes:
    """Return the bytes of a file; none of what is gone or is a folder or link."""
    try:
        return path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    except FileNotFoundError:
        return b""


def table(folder: Path, name: str) -> Path:
    """Write a large table of follows."""
    rows = f"SELECT '{NAME}' || n // 300 AS follower, '{NAME}x' || n % 300 AS followee FROM range({ROWS}) r(n)"
    duckdb.sql(f"COPY ({rows}) TO '{folder / name}'")
    return folder / name


def staging_has_begun(folder: Path) -> bool:
    """Whether a large table is staged on disk."""
    return any(path.stat().st_size for path in folder.glob("*/staging.duckdb*"))


KINDS: dict[str, tuple[str, tuple[str, ...], Callable[[Path], bool]]] = {
    "the folder is made": ("follows.csv", (), lambda folder: any(folder.iterdir())),
    "a table is staged": ("follows.csv", (), staging_has_begun),
    "a dump is kept": ("follows.csv", ("--snapshot-at", "2026-01-01"), has_names),
    "a packed table is unpacked": ("follows.parquet", (), lambda folder: any(folder.glob("*/table.parquet"))),
}


@pytest.mark.parametrize(("name", "flags", "is_at_point"), KINDS.values(), ids=KINDS)
def test_the_next_import_removes_leftovers(
    tmp_path: Path, temporary: Path, name: str, flags: tuple[str, ...], is_at_point: Callable[[Path], bool]
) -> None:
    """Killed at any point, an import leaves names until the next command that makes such a folder."""
    big, small, store = table(tmp_path, name), tmp_path / "small.parquet", tmp_path / "graph.db"
    if name.endswith(".parquet"):
        subprocess.run(["gzip", str(big)], check=True)
        big = tmp_path / f"{name}.gz"
    duckdb.sql(f"COPY (SELECT 'a' AS follower, 'b' AS followee) TO '{small}'")
    with subprocess.Popen(command("import", "--store", store, big, *flags), stdout=-3, stderr=-3) as importing:
        waiting_for(lambda: is_at_point(temporary) or importing.poll() is not None)
        importing.kill()
    assert -signal.SIGKILL == importing.returncode
    assert [] != list(temporary.iterdir())

    subprocess.run(command("import", "--store", store, small), check=True, capture_output=True)

    assert [] == list(temporary.iterdir())


def test_compacting_removes_leftovers(tmp_path: Path, temporary: Path) -> None:
    """`erase --compact` removes abandoned ones, leaves those in use, and says which."""
    store, accounts = tmp_path / "graph.db", tmp_path / "accounts.csv"
    accounts.write_text("username\nanna\n")
    subprocess.run(command("import", "--store", store, "--accounts", accounts), check=True, capture_output=True)
    with closing(TemporaryFolder()) as used:
        abandoned = left_by_a_killed_process(temporary)
        done = subprocess.run(
            command("erase", "anna", "--compact", "--store", store), check=True, capture_output=True, text=True
        )
        assert [used.path] == list(temporary.iterdir())

    assert f"{abandoned}: removed\n" in done.stdout
    assert f"{used.path}: is in use by a running command, which removes it when it ends\n" in done.stdout
    assert [] == list(temporary.iterdir())


def left_by_a_killed_process(folder: Path, target: str = "") -> Path:
    """Let a process make a folder with names in it, and die by SIGKILL; return the folder."""
    before = set(folder.iterdir())
    code = f"""
import os, signal
from pathlib import Path
from retinue.temporary import TemporaryFolder
made = TemporaryFolder({f"Path({target!r})" if target else ""})
(made.path / "names").write_text({NAME!r})
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert -signal.SIGKILL == subprocess.run([sys.executable, "-c", code], check=False).returncode
    (left,) = set(folder.iterdir()) - before
    assert NAME == (left / "names").read_text()
    return left


@pytest.mark.parametrize("words", ["export {target}", "backup {target}"])
def test_the_next_export_removes_leftovers(tmp_path: Path, words: str) -> None:
    """The unfinished files are beside the target, under a name of their own, and locked as temporary ones are."""
    store, rows, place = tmp_path / "graph.db", tmp_path / "follows.csv", tmp_path / "place"
    rows.write_text("follower,followee\na,b\n")
    place.mkdir()
    target = place / "target"
    subprocess.run(command("import", "--store", store, rows), check=True, capture_output=True)
    left_by_a_killed_process(place, str(target))

    arguments = words.format(target=target).split()
    subprocess.run(command(*arguments, "--store", store), check=True, capture_output=True)

    assert target.exists()
    assert [] == [path for path in place.iterdir() if "retinue-tmp-" in path.name]


def test_only_leftovers_are_removed(tmp_path: Path, temporary: Path) -> None:
    """Links, files, folders with other names, and folders beside other targets stay."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    (temporary / "retinue-tmp-abcdefgh").symlink_to(outside)
    (temporary / "retinue-tmp-abcdefgi").write_text("a file")
    for name in ("retinue-tmp-my-notes", "retinue-tmp-ABCDEFGH", "retinue-run-abcdefgh", ".x.retinue-tmp-abcdefgh"):
        (temporary / name).mkdir()
    before = sorted(temporary.iterdir())

    assert ([], []) == sweep()
    assert before == sorted(temporary.iterdir())
    assert "mine" == (outside / "file").read_text()


RACER = """
import os, random, signal, sys
from retinue.temporary import TemporaryFolder, sweep
draw = random.Random(int(sys.argv[1]))
for _ in range(60):
    made = TemporaryFolder()
    (made.path / "names").write_text("x")
    sweep()
    assert "x" == (made.path / "names").read_text()
    if draw.random() < 0.02:
        os.kill(os.getpid(), signal.SIGKILL)
    made.close()
"""


def test_racing_processes_never_lose_a_folder(temporary: Path) -> None:
    """However making, sweeping and dying fall together, a folder in use stays, and nothing remains at the end."""
    racers = [subprocess.Popen([sys.executable, "-c", RACER, str(seed)], stderr=-1, text=True) for seed in range(8)]
    for racer in racers:
        _, errors = racer.communicate(timeout=600)
        assert racer.returncode in (0, -signal.SIGKILL), errors
    assert {-signal.SIGKILL} <= {racer.returncode for racer in racers}

    sweep()

    assert [] == list(temporary.iterdir())


def test_a_temporary_folder_ends_with_its_process(temporary: Path) -> None:
    """Without `close` it is removed when its object is, or at the end of the process; a renamed one stays."""
    made = TemporaryFolder()
    assert 0o700 == made.path.stat().st_mode & 0o777
    del made
    assert [] == list(temporary.iterdir())

    with closing(TemporaryFolder()) as made:
        made.path.rename(temporary / "stays")
    assert [temporary / "stays"] == list(temporary.iterdir())
    code = "from retinue.temporary import TemporaryFolder\nmade = TemporaryFolder()"
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
    assert [temporary / "stays"] == list(temporary.iterdir())
