"""The tutorials work as written: each command runs in order, with each file saved and each value filled in."""

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from support.cassandra_node import free_port

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# Values that a reader copies from a response in place of these words.
SEEN = {
    "KEY": r'client_key[\s":]+([\w-]+)',
    "SECRET": r'client_secret[\s":]+([\w-]+)',
    "TOKEN": r'access_token":"([^"]+)',
}
COMMANDS = ("retinue ", "curl ", "echo ", "export ", "python ", "tail ", "ls ")
VENV = 'export PATH="$PWD/.venv/bin:$PATH"'


class Reader:
    """A reader who follows a tutorial in a folder, with servers in other terminals."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        self._folder = folder
        self._opened = opened
        self._port, management = str(free_port()), str(free_port())
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = os.environ | {
            "PATH": path, "RETINUE_PORT": self._port, "RETINUE_MANAGEMENT_PORT": management,
        }  # fmt: skip
        self._seen: dict[str, str] = {}

    def read(self, page: str) -> list[str]:
        """Run a whole page and return the output of each command."""
        printed = []
        for language, block in BLOCK.findall((DOCS / page).read_text()):
            _, _, name = language.partition(" ")
            text = self._with_what_was_seen(block)
            if name:
                (self._folder / name).write_text(text)
            elif text.startswith(COMMANDS) and text.strip() != VENV:
                printed.append(self._do(text))
                self._see(printed[-1])
        return printed

    def _with_what_was_seen(self, text: str) -> str:
        for word, value in self._seen.items():
            text = re.sub(rf"\b{word}\b", value, text)
        return text.replace("8642", self._port)

    def _see(self, printed: str) -> None:
        for word, pattern in SEEN.items():
            if found := re.search(pattern, printed):
                self._seen[word] = found[1]

    def _do(self, text: str) -> str:
        if text.startswith("export "):
            self._environment |= dict(word.split("=", 1) for word in text.split()[1:])
            return ""
        if text.startswith("retinue serve "):
            self._opened.enter_context(served(text, self._folder, self._environment))
            return ""
        done = subprocess.run(
            ["bash", "-e", "-c", text],
            cwd=self._folder, env=self._environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (text, done.stdout, done.stderr)
        return done.stdout


@contextmanager
def served(text: str, folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run a server in another terminal."""
    process = subprocess.Popen(
        ["bash", "-c", f"exec {text}"], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert select.select([process.stdout], [], [], 30)[0]
        assert "Serving" in process.stdout.readline()
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def done(page: str, folder: Path) -> list[str]:
    """Return the output of each command of a tutorial."""
    with ExitStack() as opened:
        return Reader(folder, opened).read(page)


def test_your_first_following_list(tmp_path: Path) -> None:
    """A list is read over HTTP and from a program; an unfollowed account is only in the earlier list."""
    printed = done("tutorial.md", tmp_path)

    _, imported, _, _, token, page, applied, lists, program = printed
    assert "every invariant holds" in imported
    assert "access_token" in token
    assert '"username":"test_username"' in page
    assert '"applied":1' in applied
    now, before = lists.split("username        display name\n")[1:]
    assert "test_username " not in now
    assert "test_username " in before
    assert "test_username2 - test user 2\n" in program
    assert "test_username -" not in program


def test_test_your_script_without_tiktok(tmp_path: Path) -> None:
    """The script reads its list from a sandbox and loses it to `hostile`; the repaired one does not."""
    printed = done("tutorial-script.md", tmp_path)

    whole, _, _, _, broken, mended = printed
    count = re.fullmatch(r"(\d+) names, \1 different\n", whole)
    assert count is not None
    assert int(count[1]) > 100
    assert "the script has failed" in broken or "stopped:" in broken
    assert re.fullmatch(r"(\d+) names, \1 different, to the end: True\n", mended)


def test_collect_a_network_and_keep_it(tmp_path: Path) -> None:
    """A network is collected, verified, compared with a later one, and mirrored."""
    printed = done("tutorial-collect.md", tmp_path)

    collected, again, looked_at, hubs, later, mirror = printed[-6:]
    assert re.search(r"following: \d+ complete(, \d+ private)?, 1 unknown", collected)
    assert again == collected.partition("\n")[2]
    assert "are as they came; complete." in looked_at
    assert "manifest.json" in looked_at
    assert "followers_here" in hubs
    assert "unfollowed,test_user,test_username,following" in later
    assert "test_username2" in mirror
    assert "every invariant holds" in mirror
