"""Lone surrogates in JSON: each becomes U+FFFD and is counted, but for keys and usernames in events."""

import json
import re
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from retinue.ingest.values import replace_surrogates
from running import running_server
from support.commands import imported, list_of, retinue, tally
from support.management import posted

LONE = "\ud83d"
PIECES = st.lists(st.sampled_from(["a", "é", "\\", '"', "\\ud83d", "\ud83d", "\ude00", "\udc00", "🎉", "\n", "/"]))


@given(PIECES)
def test_every_lone_surrogate_is_replaced_and_nothing_else(pieces: list[str]) -> None:
    """For every text: what UTF-16 makes of it, with the number of replacements; valid lines stay as they are."""
    text = "".join(pieces)
    line = json.dumps({text: text}).encode()
    expected = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    mended, count = replace_surrogates(line)

    assert {expected: expected} == json.loads(mended)
    assert (
        2 * len(re.findall("[\ud800-\udfff]", text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")))
        == count
    )
    if not count:
        assert line == mended


def test_import_loads_and_counts_names_with_half_an_emoji(store_path: Path, tmp_path: Path) -> None:
    """The rows are loaded, and the report says how many characters were replaced."""
    follows, accounts = tmp_path / "follows.jsonl", tmp_path / "accounts.jsonl"
    follows.write_text(json.dumps({"follower": "anna", "followee": f"ben{LONE}"}) + "\n")
    accounts.write_text(json.dumps({"username": "anna", "display_name": f"A {LONE} {LONE}"}) + "\n")

    done = retinue("import", "--store", store_path, "--accounts", accounts, follows, COLUMNS="200")

    assert (0, [("ben\ufffd", "")]) == (done.returncode, list_of(store_path, "anna"))
    assert "halves of characters (lone surrogates) that were replaced by U+FFFD: 3\n" in done.stderr
    again = imported(store_path, "--accounts", accounts, follows)
    assert {
        "accounts.jsonl": tally(duplicate=1, surrogates_replaced=2),
        "follows.jsonl": tally(duplicate=1, surrogates_replaced=1),
    } == again[1]


def test_events_with_half_an_emoji_in_texts_are_applied_and_in_names_rejected(store_path: Path, tmp_path: Path) -> None:
    """From a file, a pipe and over HTTP alike."""
    events = tmp_path / "events.jsonl"
    values = [
        {"event": "follow", "follower": "a", "followee": "f\ufffd", "at": 1714564800},
        {"event": "account", "account": "f\ufffd", "display_name": f"{LONE}F", "bio_url": LONE, "at": 1714564800},
        {"event": "erase", "account": f"f{LONE}", "at": 1714564801},
        {"event": "unfollow", "follower": f"a{LONE}", "followee": "f\ufffd", "at": 1714564801},
        {"event": "follow", "follower": "a", "followee": f"f{LONE}", "at": 1714564801},
        {"event": "account", "account": "f\ufffd", "username": f"f{LONE}", "at": 1714564801},
    ]
    rejected = [
        {"line": number, "reason": f"{field}: '{name}\ufffd' has half of a character"}
        for number, field, name in (
            (3, "account", "f"),
            (4, "follower", "a"),
            (5, "followee", "f"),
            (6, "username", "f"),
        )
    ]
    events.write_text("".join(json.dumps(value) + "\n" for value in values))

    body = events.read_bytes()

    done = retinue("apply", "--store", store_path, events)
    piped = subprocess.run(
        [sys.executable, "-m", "retinue", "apply", "--store", str(store_path)],
        input=body,
        capture_output=True,
        check=False,
    )
    with running_server(store_path) as server:
        posted_again = posted(server, store_path, body)

    again = {"applied": 0, "duplicate": 2, "rejected": rejected, "replaced": 2}
    assert (1, 1) == (done.returncode, piped.returncode)
    assert again | {"applied": 2, "duplicate": 0, "line": 6, "file": str(events)} == json.loads(done.stdout)
    assert again | {"line": 6} == json.loads(piped.stdout)
    assert (200, again) == posted_again
    assert [("f\ufffd", "\ufffdF")] == list_of(store_path, "a")
