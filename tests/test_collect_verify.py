"""`retinue collect verify` and what it looks at: a manifest says what the journal has, and nothing was altered."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from retinue.collect import journal
from retinue.collect.collector import CollectPlan
from retinue.collect.progress import Item
from retinue.collect.verify import verify as verify_collection
from retinue.errors import InputError
from running import retinue
from support.collecting import MANY, Change, asked, changed_manifest, collected, odd, verified
from support.scripted_service import Said, enveloped, page, scripted

ROWS = [{"username": "z", "display_name": ""}]
KILLED_AT_THE_THIRD = """
import os, signal
from pathlib import Path
from retinue.collect import collection

rename, left = Path.rename, [3]

def counted(path, target):
    left[0] -= 1
    return rename(path, target) if left[0] else os.kill(os.getpid(), signal.SIGKILL)

Path.rename = counted
collection.write_tables(Path({folder!r}), ["csv"], [], 1, lambda rows: None)
"""


def service(path: str, body: dict[str, Any]) -> Said:
    """One row and a profile each; gone is unknown; q's followers, and r's lists after a page, are refused."""
    if body["username"] == "gone":
        return enveloped({}, "invalid_params", "cannot find the user", 400)
    if "info" in path:
        return enveloped({"display_name": "A"})
    direction = path.rstrip("/").rpartition("/")[2]
    if (body["username"], direction) == ("q", "followers") or (body["username"] == "r" and "cursor" in body):
        return enveloped({}, "invalid_params", "something odd", 400)
    return enveloped({f"user_{direction}": ROWS, "cursor": 1_600_000_000, "has_more": body["username"] == "r"})


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A collection that is complete."""
    with scripted(service) as url:
        done = asked(url, tmp_path / "found", ["p", "gone"], "--lists", "following,info", "--format", "csv")
    assert (done.returncode, verify_collection(tmp_path / "found").problems) == (0, []), done.stderr
    return tmp_path / "found"


def test_a_narrower_run_does_not_complete_a_collection(tmp_path: Path) -> None:
    """Missing lists stay missing after a narrower run; the table of lists has all of them."""
    folder = tmp_path / "found"
    with scripted(service) as url:
        wide = asked(url, folder, ["p", "q", "r"], "--lists", "following,followers", "--format", "csv")
        assert wide.returncode == 1, wide.stderr
        assert "q,followers,incomplete,0,0,," in (folder / "lists.csv").read_text()
        narrow = asked(url, folder, ["p"], "--lists", "following", "--format", "csv")
    assert narrow.returncode == 0, narrow.stderr

    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["is_complete"], manifest["lists"]["following"]) == (False, {"complete": 2, "incomplete": 1})
    assert verified(folder).stdout.endswith("are as they came; not complete.\n")


def test_a_narrower_run_makes_no_incomplete_mirror(tmp_path: Path) -> None:
    """All of the folder is in a mirror, so all of it has to be there."""
    folder, mirror = tmp_path / "found", tmp_path / "mirror.db"
    with scripted(service) as url:
        assert asked(url, folder, ["r"]).returncode == 1
        done = asked(url, folder, ["p"], "--into", str(mirror))
    assert (done.returncode, mirror.exists()) == (1, False)
    assert "following: 1 complete, 1 incomplete\n2 pages, 2 rows\n" in done.stdout
    assert f"--into {mirror}: is created once {folder} is complete" in done.stderr


def test_an_altered_journal_is_not_resumed(whole: Path) -> None:
    """It would be taken for what the service has said; and nothing is asked or written."""
    pages = whole / "pages.jsonl"
    pages.write_text(pages.read_text().replace('"p"', '"x"'))
    before = {path: path.read_bytes() for path in whole.iterdir()}
    done = asked("http://127.0.0.1:9", whole, ["p"])

    assert (2, 1) == (done.returncode, done.stderr.count("\n"))
    assert "pages.jsonl: was altered" in done.stderr
    assert before == {path: path.read_bytes() for path in whole.iterdir()}


@pytest.mark.parametrize("is_old", [True, False])
def test_an_altered_journal_is_not_compared(whole: Path, is_old: bool) -> None:
    """Differences to what a service has never said would be taken for follows."""
    altered = whole.with_name("altered")
    shutil.copytree(whole, altered)
    pages = altered / "pages.jsonl"
    pages.write_text(pages.read_text().replace('"p"', '"x"'))
    folders = (altered, whole) if is_old else (whole, altered)
    command = [sys.executable, "-m", "retinue", "collect", "diff", *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (2, "") == (done.returncode, done.stdout)
    assert f"{pages}: was altered" in done.stderr


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.update(is_complete=False),
        lambda manifest: manifest.update(lists={"following": {"complete": 2}, "info": {"complete": 2}}),
        lambda manifest: manifest.update(lists={}),
        lambda manifest: manifest.update(server="https://open.tiktokapis.com"),
        lambda manifest: manifest.update(begun_at=1),
        lambda manifest: manifest.update(pages=0),
        lambda manifest: manifest.update(rows=5),
        lambda manifest: manifest["files"].pop("rows.csv"),
        lambda manifest: manifest["files"]["rows.csv"].update(bytes=1),
        lambda manifest: manifest["files"]["pages.jsonl"].update(bytes=0, sha256="0" * 64),
    ],
)
def test_the_manifest_is_compared_with_the_journal(whole: Path, change: Change) -> None:
    """A manifest that does not follow from the journal was altered."""
    changed_manifest(whole, change)

    assert [] != verify_collection(whole).problems
    assert 1 == verified(whole).returncode


@pytest.mark.parametrize(
    "change", [lambda m: m["files"].pop("pages.jsonl"), lambda m: m["files"]["rows.csv"].update(bytes=-1)]
)
def test_an_invalid_manifest_is_reported(whole: Path, change: Change) -> None:
    """In a line, with exit code 2."""
    changed_manifest(whole, change)

    done = verified(whole)
    assert (2, 1) == (done.returncode, done.stderr.count("\n"))


@pytest.mark.parametrize("kind", ["begun", "page", "info", "unavailable"])
def test_pages_after_the_end_of_a_list_are_found(whole: Path, kind: str) -> None:
    """A line that is in the journal twice was added later."""
    pages = whole / "pages.jsonl"
    (line,) = [line for line in pages.read_text().splitlines() if f'"type":"{kind}"' in line][:1]
    pages.write_text(pages.read_text() + line + "\n")

    assert 1 == len(verify_collection(whole).problems)


def test_answers_of_all_kinds_may_be_newer_than_the_tables(whole: Path) -> None:
    """A run that was killed before it wrote tables has left them."""
    with scripted(service) as url:
        asked(url, whole.with_name("other"), ["q"], "--lists", "info")
    line = whole.with_name("other").joinpath("pages.jsonl").read_text().splitlines()[1]
    pages = whole / "pages.jsonl"
    pages.write_text(pages.read_text() + line + "\n")

    assert verified(whole).stdout.endswith("1 responses arrived after the tables were written.\n")


def test_an_unreadable_journal_is_reported(whole: Path) -> None:
    """In lines, with exit code 1."""
    (whole / "pages.jsonl").unlink()
    (whole / "pages.jsonl").mkdir()

    done = verified(whole)
    assert (1, False) == (done.returncode, "Traceback" in done.stderr)


@pytest.mark.parametrize("name", ["pages.jsonl", "manifest.json"])
def test_endless_files_of_a_collection_are_not_read(whole: Path, name: str) -> None:
    """Pipes and devices in place of files are refused."""
    (whole / name).unlink()
    os.mkfifo(whole / name)
    piped = verified(whole)
    (whole / name).unlink()
    (whole / name).symlink_to("/dev/zero")
    endless = verified(whole)

    for done in (piped, endless):
        assert done.returncode in (1, 2)
        assert f"{whole / name}: is not a file" in done.stdout + done.stderr


def test_an_overlong_journal_line_is_reported(whole: Path) -> None:
    """It is not read to its end, which may be terabytes away in a file that takes no room."""
    pages = whole / "pages.jsonl"
    with pages.open("ab") as file:
        file.truncate(pages.stat().st_size + (8 << 40))

    with pytest.raises(InputError, match="is longer than any response"):
        list(journal.records(pages))


def test_tables_without_a_manifest_were_cut_off_or_tampered_with(whole: Path) -> None:
    """The same command rewrites tables that a kill left half replaced."""
    killed = KILLED_AT_THE_THIRD.format(folder=str(whole))
    done = subprocess.run([sys.executable, "-c", killed], check=False)
    assert -signal.SIGKILL == done.returncode

    found = verified(whole)
    assert (2, True) == (found.returncode, "run the same command again to write all files" in found.stderr)


def test_a_name_may_be_spelled_otherwise_in_the_other_collection(tmp_path: Path) -> None:
    """Owners and rows are compared by folded name."""
    for folder, owner, row in (("old", "Foo", "\u00dcnal"), ("new", "foo", "\u00fcnal")):
        rows = [{"username": row, "display_name": ""}, {"username": folder, "display_name": ""}]
        with scripted(lambda _path, _body, rows=rows: page(rows)) as url:  # type: ignore[misc]  # bound now
            asked(url, tmp_path / folder, [owner])
    command = [sys.executable, "-m", "retinue", "collect", "diff", str(tmp_path / "old"), str(tmp_path / "new")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert ("followed,foo,new,following\nunfollowed,foo,old,following\n", "") == (
        done.stdout.partition("\n")[2],
        done.stderr,
    )


def test_verify_recognizes_an_unfinished_collection(tmp_path: Path) -> None:
    """Before its tables were written, and when it went on since."""
    folder = tmp_path / "found"
    with scripted(odd) as url:
        collected(url, folder, CollectPlan([Item("anna", "following")], MANY, 1))
        assert "no tables have been written" in retinue("collect", "verify", str(folder))
        assert asked(url, folder, ["anna"]).returncode == 0
        collected(url, folder, CollectPlan([Item("ben", "following")], MANY, 1))
    assert "2 responses arrived after the tables were written" in retinue("collect", "verify", str(folder))


def test_unreadable_damage_is_reported(tmp_path: Path) -> None:
    """Bytes that are no text, a manifest that is gone."""
    folder = tmp_path / "found"
    with scripted(odd) as url:
        asked(url, folder, ["anna"])
    pages = folder / "pages.jsonl"
    good = pages.read_bytes()
    pages.write_bytes(good.replace(b'"anna"', b'"ann\xff"'))
    done = subprocess.run(
        [sys.executable, "-m", "retinue", "collect", "verify", str(folder)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "pages.jsonl: line 2: " in done.stderr, "Traceback" in done.stderr) == (1, True, False)
    pages.write_bytes(good)
    (folder / "manifest.json").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "retinue", "collect", "verify", str(folder)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "manifest.json: does not exist, but tables do" in done.stderr) == (2, True)
