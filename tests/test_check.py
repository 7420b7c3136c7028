"""`check` finds every broken invariant and says where it is."""

import asyncio
from pathlib import Path

import apsw
import pytest

from frozen_clock import FrozenClock
from retinue import assemble
from retinue.model import FollowRecord
from retinue.store.sqlite.files import access_path
from service import problems_of
from test_cli import retinue

NOW = 1_700_000_000


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A store to be broken: a list of three in one second, and a gap."""
    path = tmp_path / "broken.db"
    assemble.create_store(str(path))
    writer = assemble.open_graph_writer(str(path), FrozenClock())
    rows = (("b", 100), ("c", 100), ("d", 100), ("e", 50))
    asyncio.run(writer.add_follows([FollowRecord("a", name, at, NOW) for name, at in rows]))
    writer.close()
    assert [] == problems_of(path)
    return path


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        ("DELETE FROM following_run", "list of account 1: the run of seconds 98 to 100 is not stored"),
        ("UPDATE following_run SET first = 97", "the run of seconds 97 to 100 is stored, but the list has no such run"),
        ("INSERT INTO following_run VALUES (1, 200, 201)", "the run of seconds 200 to 201 is stored, but"),
        ("INSERT INTO following VALUES (1, 99999, 77, NULL)", "a row of table following points to a row of account"),
        ("UPDATE following SET followee = 1 WHERE position = 50", "position 50: account 1 follows itself"),
        ("UPDATE following SET followed_at = 50 WHERE position = 50", "has the wrong true time 50"),
        ("UPDATE following SET followed_at = 0 WHERE position = 50", "has the wrong true time 0"),
        (
            "UPDATE account SET folded = 'x' WHERE id = 1",
            "account 1: found as 'x', which is not its username 'a' folded",
        ),
        ("UPDATE account SET username = 'a b' WHERE id = 2", "account 2: username 'a b' has whitespace"),
        ("UPDATE account SET username = 'A' WHERE id = 1", "account 1: username 'A' is not as answers carry it"),
        ("UPDATE account SET display_name = char(0) WHERE id = 2", "account 2: its display name has a NUL"),
        ("UPDATE account SET key = '' WHERE id = 2", "account 2: key '' is empty"),
    ],
)
def test_broken_graphs(broken: Path, damage: str, finding: str) -> None:
    """Each damage is found, named with its place, and ends the command with exit code 1."""
    connection = apsw.Connection(str(broken))
    connection.execute(damage)
    connection.close()

    done = retinue("check", "--store", broken)

    assert 1 == done.returncode
    assert f"{broken}: " in done.stdout
    assert finding in done.stdout
    assert "problems" in done.stdout


def test_broken_access_files(broken: Path) -> None:
    """A token without its client, and a file that others may read."""
    path = access_path(broken)
    connection = apsw.Connection(str(path))
    connection.execute("INSERT INTO token VALUES (zeroblob(32), 'nobody', 5)")
    connection.close()
    path.chmod(0o644)

    found = problems_of(broken)

    assert f"{path}: a row of table token points to a row of client that is not there" in found
    assert f"{path}: can be used by others (mode 644); run chmod 600 on it" in found


def test_damaged_bytes(broken: Path) -> None:
    """Garbage inside the file is reported, not a traceback."""
    content = bytearray(broken.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    broken.write_bytes(content)

    done = retinue("check", "--store", broken)

    assert 1 == done.returncode
    assert "damaged" in done.stdout or "malformed" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_long_list_of_problems_is_cut(broken: Path) -> None:
    """Twenty of a kind are enough to see what is wrong."""
    connection = apsw.Connection(str(broken))
    connection.execute(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 50)"
        " INSERT INTO following_run SELECT 7, 10 * x, 10 * x + 1 FROM n"
    )
    connection.close()

    found = problems_of(broken)

    assert 21 == len(found)
    assert "and more of this kind" in found[-1]
