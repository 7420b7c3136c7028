"""`retinue collect --into`: a mirror keeps the order of lists, is made last, and replaces nothing."""

from pathlib import Path
from typing import Any

from retinue.client import Client
from retinue.collect import collection
from running import create_client, retinue, running_server
from support.collecting import asked, odd
from support.scripted_service import Said, enveloped, page, scripted


def test_a_mirror_keeps_the_order_of_lists_that_contradict_each_other(tmp_path: Path) -> None:
    """An account in one list only was unfollowed in between, in the same second."""
    folder, mirror = tmp_path / "found", tmp_path / "mirror.db"

    def answer(path: str, body: dict[str, Any]) -> Said:
        followers = [{"username": name} for name in ("p4", "p20", "p6")] if body["username"] == "p0" else []
        following = [{"username": "p0"}] if body["username"] == "p19" else []
        key, rows = ("user_followers", followers) if "followers" in path else ("user_following", following)
        return enveloped({key: rows, "cursor": 1, "has_more": False})

    with scripted(answer) as url:
        done = asked(url, folder, ["p0", "p19"], "--lists", "following,followers", "--into", str(mirror))
    assert done.returncode == 0
    access = create_client(mirror)
    with running_server(mirror) as server, Client(access.key, access.secret, server.base_url) as client:
        found = [person.username for person in client.followers("p0")]
    assert [name for name in found if name != "p19"] == ["p4", "p20", "p6"]


def test_a_mirror_never_replaces_a_store(tmp_path: Path) -> None:
    """Neither one that appeared while lists were read, nor its other files; one mirror is made at a time."""
    folder, mirror = tmp_path / "found", tmp_path / "mirror.db"
    for name in ("mirror.db", "mirror.access.db"):
        precious = tmp_path / name

        def answer(_path: str, _body: dict[str, Any]) -> Said:
            precious.write_text("precious")  # noqa: B023 - it runs in this round
            return page([{"username": "ben"}])

        with scripted(answer) as url:
            done = asked(url, tmp_path / f"{name}-found", ["anna"], "--into", str(mirror))
            assert (done.returncode, f"{precious} already exists" in done.stderr) == (2, True), done.stderr
            assert precious.read_text() == "precious"
        precious.unlink()
    with scripted(odd) as url, collection.lock_folder(tmp_path / ".mirror.db.unfinished"):
        done = asked(url, folder, ["anna"], "--into", str(mirror))
    assert (done.returncode, "another process" in done.stderr) == (2, True), done.stderr


def test_a_mirror_is_made_after_all_lists_are_complete(tmp_path: Path) -> None:
    """Until then the same command goes on; what a kill has left of it is no hindrance."""
    folder, mirror = tmp_path / "found", tmp_path / "mirror.db"
    with scripted(odd) as url:
        done = asked(url, folder, ["anna", "ben"], "--into", str(mirror), "--calls-per-day", "1", "--concurrency", "1")
        assert (done.returncode, mirror.exists()) == (1, False)
        assert f"--into {mirror}: is created once {folder} is complete" in done.stderr
        (tmp_path / ".mirror.db.unfinished").mkdir()
        (tmp_path / ".mirror.db.unfinished" / "mirror.db").write_text("half")
        assert asked(url, folder, ["anna", "ben"], "--into", str(mirror)).returncode == 0
    assert "every invariant holds" in retinue("check", "--store", str(mirror))
    assert not list(tmp_path.glob(".*"))


def test_nothing_is_requested_if_no_mirror_can_be_made(tmp_path: Path) -> None:
    """A folder that is not there, and what is no file, are said at once."""
    for into, words in (
        (str(tmp_path / "no" / "m.db"), "does not exist"),
        ("cassandra://h/k", "a mirror is a file"),
    ):
        done = asked("http://127.0.0.1:9", tmp_path / "found", ["anna"], "--into", into)
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr
