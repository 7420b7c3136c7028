"""The file of usernames: one rule of names, odd lines are told and the others collected."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from retinue import names
from retinue.cli import collect_names
from support.collecting import arguments_of, tables, verified
from support.scripted_service import Said, enveloped, page, scripted


def run(tmp_path: Path, content: bytes, *more: str) -> tuple[Any, list[str]]:
    """Collect with a file of these bytes; what it says, and which names were asked for."""
    asked_for: list[str] = []

    def answer(path: str, body: dict[str, Any]) -> Said:
        if "/info/" in path:
            return enveloped({"following_count": 1})
        asked_for.append(body["username"])
        return page([{"username": "z"}])

    with scripted(answer) as url:
        arguments = arguments_of(url, tmp_path / "found", [], "--concurrency", "1", *more)
        (tmp_path / "found.txt").write_bytes(content)
        command = [sys.executable, "-m", "retinue", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False), asked_for


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"https://iris.to/alice\nnpub1@x\n", ["https://iris.to/alice", "npub1@x"]),
        (b'"test_user"\n"test_username"\n', ["test_user", "test_username"]),
        (b"'@anna'\n\"ben\n", ["anna", '"ben']),
        ("\ufeff@Anna\r\n \tanna\r\r\n# no\n名前\n".encode(), ["anna", "名前"]),
        (b"@#anna", ["#anna"]),
    ],
)
def test_collect_accepts_the_same_names_as_import(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, expected: list[str]
) -> None:
    """Printable text without whitespace, of any platform, each once, with or without quotes and `@`."""
    (tmp_path / "names.txt").write_bytes(content)
    assert collect_names.read(tmp_path / "names.txt") == collect_names.Names(expected, 0)
    assert capsys.readouterr().err == ""


@given(name=st.text(max_size=260))
def test_lines_are_validated_as_usernames(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    """For every line without quotes, comment or surrounding whitespace: taken if an import takes it."""
    assume(name == name.strip() and name[:1] not in ("#", '"', "'") and not set("\r\n\ufeff") & set(name))
    path = tmp_path_factory.mktemp("names") / "names.txt"
    path.write_text(f"p\n{name}\n", encoding="utf-8")
    is_username = names.fault_in_username(name) is None
    found = collect_names.read(path)
    assert found.rejected == (0 if is_username or not name else 1)
    assert not is_username or names.fold(name) in [names.fold(one) for one in found.usernames]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"an na", "'an na' has whitespace or characters that cannot be printed"),
        (b'"an na"', "'an na' has whitespace"),
        (b"@@anna", "'@@anna' begins with more than one @"),
        (b"@", "'@' is empty"),
        (b"x" * 256, "is longer than 255 characters"),
        (b"anna\xff", "is not UTF-8 text"),
        (b"a\x0bb", r"'a\x0bb' has whitespace"),
        ("a\u2028b".encode(), r"'a\u2028b' has whitespace"),
        (b"https://www.TikTok.com/@anna?lang=de", "is the address of a profile page; give only the username"),
    ],
)
def test_invalid_lines_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: bytes, words: str
) -> None:
    """With its number and the reason."""
    path = tmp_path / "names.txt"
    path.write_bytes(b"p\n" + line + b"\nq\n")
    assert collect_names.read(path) == collect_names.Names(["p", "q"], 1)
    told = capsys.readouterr().err
    assert f"{path}: line 2: " in told
    assert words in told


def test_valid_lines_beside_invalid_ones_are_collected(tmp_path: Path) -> None:
    """Exit code 1 reports the rejected line; no call is spent on it, and no mirror is made without it."""
    mirror = tmp_path / "mirror.db"
    done, asked_for = run(tmp_path, b"p\nan na\nq\n", "--into", str(mirror))
    assert (done.returncode, asked_for, mirror.exists()) == (1, ["p", "q"], False)
    assert "line 2: 'an na' has whitespace" in done.stderr
    assert "skipped lines without a usable username: 1" in done.stderr
    found = tables(tmp_path / "found", "SELECT owner, state FROM {}lists.parquet'")
    assert found == [("p", "complete"), ("q", "complete")]
    assert verified(tmp_path / "found").returncode == 0


def test_a_file_without_any_username_is_refused(tmp_path: Path) -> None:
    """With 2, and not with a line for each of thousands."""
    done, asked_for = run(tmp_path, b"".join(b"an na %d\n" % number for number in range(1_000)))
    assert (done.returncode, asked_for, done.stderr.count("\n")) == (2, [], 22)
    assert "980 more lines are not usernames" in done.stderr
    assert "contains no usernames" in done.stderr
    assert not (tmp_path / "found").exists()
