"""Text of others on a terminal: no control character of it is obeyed, no markup in it is interpreted."""

import json
import logging
import os
import pty
import re
import select
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from retinue.cli.main import app
from retinue.client import Client, ClientError, Refused
from support.collecting import SHORT, arguments_of
from support.commands import retinue
from support.scripted_service import TOKEN, Said, page, scripted

# Orders to a terminal, in all the ways that one may obey; and markup whose closing tag fits no opening one.
ORDERS = "\x1b]0;title\x07\x9b31m\x7f\u202e\u2066\u2028\u2029\x85\r\x08"
FILE_NAME = f"[bold red]{ORDERS}[blink]"
HOSTILE = f"{FILE_NAME}[/nope]\nretinue: forged"
BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
MARKS = "\u061c\u200e\u200f"
WIDE = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "300"}
_SECONDS = 120


class Done(NamedTuple):
    """The exit code of a command, and all that it wrote."""

    code: int
    text: str


def is_order(each: str) -> bool:
    """Whether a character controls a terminal or a line, or breaks one."""
    return (
        unicodedata.category(each) in ("Cc", "Zl", "Zp", "Cs")
        or unicodedata.bidirectional(each) in BIDI
        or each in MARKS
    )


# --- the rule itself --------------------------------------------------------------------------------------------------


@given(st.text(st.characters(codec=None)))
def test_printable_text_has_no_control_sequences(text: str) -> None:
    """For every text: one line, without orders, and other characters stay."""
    from retinue.escaping import printable  # noqa: PLC0415 - the rest of this file tests the command

    shown = printable(text)

    assert not any(map(is_order, shown))
    assert shown == "".join(printable(each) if is_order(each) else each for each in text)


@given(st.text())
def test_escapes_do_not_change_json(text: str) -> None:
    """For every value: its JSON means the same with escapes in it."""
    from retinue.escaping import printable_lines  # noqa: PLC0415

    shown = printable_lines(json.dumps([text, "\n"], ensure_ascii=False, indent=1))

    assert [text, "\n"] == json.loads(shown)
    assert not any(map(is_order, shown.replace("\n", "")))


def test_a_message_cannot_forge_a_line_of_the_log() -> None:
    """A record is one line of text, and a traceback is indented, whatever values are in them."""
    from retinue.serving.logs import TextLines  # noqa: PLC0415

    forged = f"{ORDERS}\n2026-01-01 00:00:00,000 INFO retinue all is well"
    error = ValueError(forged)
    record = logging.LogRecord("retinue", logging.ERROR, "", 0, "%s", (forged,), (ValueError, error, None))
    lines = TextLines().format(record).split("\n")

    assert not any(is_order(each) for line in lines for each in line)
    assert [True, *[False] * (len(lines) - 1)] == [line[:1] == "2" for line in lines]


# --- every command, whatever its arguments are ------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    """Return all commands by name, also groups that are commands themselves."""
    found: dict[str, Any] = {}

    def add(command: Any, words: Sequence[str]) -> None:
        if not hasattr(command, "commands") or command.invoke_without_command:
            found[" ".join(words)] = command
        for name, child in getattr(command, "commands", {}).items():
            add(child, (*words, name))

    add(typer.main.get_command(app), ())
    return found


def argument_lists(command: Any) -> Iterator[list[str]]:
    """Return calls of a command, in each of which one option or all arguments are hostile."""
    takes_value = [each for each in command.params if not getattr(each, "is_flag", False)]
    places = [HOSTILE for each in takes_value if each.param_type_name == "argument"]
    yield [f"--{HOSTILE}"]
    yield [*places, HOSTILE]
    for option in takes_value:
        if option.param_type_name == "option":
            yield [option.opts[0], HOSTILE, *places]


@pytest.mark.parametrize("name", commands())
def test_hostile_arguments(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every command, each argument and option: nothing of it is obeyed."""
    monkeypatch.chdir(tmp_path)
    for arguments in argument_lists(commands()[name]):
        done = retinue(*name.split(), *arguments)
        assert_harmless(Done(done.returncode, done.stdout + done.stderr))
        assert done.stdout + done.stderr, arguments


def assert_harmless(done: Done, *, has_own_sequences: bool = False) -> None:
    """Nothing written is an order, except for Rich's own to a terminal; nothing has gone wrong unexpectedly."""
    text = done.text
    if has_own_sequences:
        text = re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "")
    orders = {each for each in text if is_order(each)} - set("\n\t")

    assert set() == orders, text
    assert not any(word in text for word in ("Traceback", "unexpected error", "MarkupError")), text


# --- what commands read -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a hostile name."""
    made = tmp_path / FILE_NAME
    made.mkdir()
    return made


def run(*arguments: str | Path, folder: Path) -> Done:
    """Run a command in a process of its own."""
    command = [sys.executable, "-m", "retinue", *map(str, arguments)]
    done = subprocess.run(command, stdout=-1, stderr=-2, cwd=folder, check=False, stdin=subprocess.DEVNULL, env=WIDE)
    return Done(done.returncode, done.stdout.decode("utf-8", "surrogateescape"))


def on_terminal(
    *arguments: str | Path, folder: Path, until: str = "", then: Callable[[int], None] = lambda _: None
) -> Done:
    """Run a command on a terminal; `then` gets its process id when it has written `until`."""
    terminal, side = pty.openpty()
    command = [sys.executable, "-m", "retinue", *map(str, arguments)]
    process = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, cwd=folder, env=WIDE)
    os.close(side)
    written = b""
    is_told = not until
    while True:
        assert select.select([terminal], [], [], _SECONDS)[0], written
        try:
            piece = os.read(terminal, 1 << 16)
        except OSError:  # as Linux says that the other side is closed
            break
        if not piece:
            break
        written += piece
        if not is_told and until.encode() in written:
            is_told = True
            then(process.pid)
    os.close(terminal)
    assert is_told, written
    return Done(process.wait(), written.decode("utf-8", "surrogateescape").replace("\r\n", "\n"))


def tables(folder: Path) -> dict[str, Path]:
    """Return files to import that are hostile in their columns, keys and values."""
    name = json.dumps(HOSTILE)
    content = {
        "columns.csv": f'follower,followee,"{FILE_NAME}"\na,b,c\n',
        "rows.csv": f'follower,followee,followed_at\na,"{FILE_NAME}",1\na,b,"{FILE_NAME}"\na,c,1\n',
        "keys.jsonl": f'{{"follower":"a","followee":"b",{name}:1}}\n{{"follower":"a","followee":{name}}}\n',
        "unknown.txt": FILE_NAME,
    }
    found = {}
    for ending, text in content.items():
        found[ending] = folder / f"{FILE_NAME}.{ending}"
        found[ending].write_text(text, newline="")
    found["columns.parquet"] = folder / f"{FILE_NAME}.parquet"
    column = f'"{FILE_NAME}"'
    duckdb.sql(f"COPY (SELECT 'a' AS follower, 1 AS {column}) TO '{folder.parent / 'columns.parquet'}'")
    (folder.parent / "columns.parquet").rename(found["columns.parquet"])
    return found


@pytest.mark.parametrize("kind", ["columns.csv", "rows.csv", "keys.jsonl", "unknown.txt", "columns.parquet"])
def test_hostile_files_of_an_import(folder: Path, kind: str) -> None:
    """File names, columns, keys and values are escaped in reports and errors, in a pipe and on a terminal."""
    file = tables(folder)[kind]

    for form in ((), ("--json",)):
        assert_harmless(run("import", "--store", "graph.db", file, *form, folder=folder))
    done = on_terminal("import", "--store", "other.db", file, folder=folder)
    assert_harmless(done, has_own_sequences=True)
    assert "[bold red]" in done.text


@pytest.fixture
def store(folder: Path) -> Path:
    """A store with a hostile name, hostile texts, and a client called in markup."""
    path, accounts = folder / f"{FILE_NAME}.db", folder / "accounts.jsonl"
    rows = [{"username": "anna", "display_name": HOSTILE}, {"username": "[/nope]", "display_name": HOSTILE}]
    accounts.write_text("\n".join(map(json.dumps, rows)))
    (folder / "follows.csv").write_text("follower,followee\nben,anna\nben,[/nope]\n")
    assert 0 == run("import", "--store", path, "--accounts", accounts, folder / "follows.csv", folder=folder).code
    return path


# Commands on that store, and whether what they print has to hold the markup.
ON_STORE = {
    "following": (("following", "ben"), True),
    "following as JSON": (("following", "ben", "--format", "jsonl"), True),
    "check": (("check",), True),
    "export": (("export", f"{FILE_NAME}.exported", "--format", "csv"), True),
    "backup": (("backup", f"{FILE_NAME}.copy"), True),
    "erase": (("erase", "anna", "[/nope]", "--compact"), True),
    "create": (("client", "create", "--name", "[bold red]x[/nope]", "--notes", "[/nope]\nretinue: forged\t"), False),
    "list": (("client", "list"), True),
    "list as JSON": (("client", "list", "--json"), True),
    "audit verify": (("audit", "verify"), False),
    "audit usage": (("audit", "usage"), False),
    "audit show": (("audit", "show", FILE_NAME), True),
    "apply": (("apply", "events.jsonl"), False),
}


@pytest.mark.parametrize("call", [run, on_terminal], ids=["pipe", "terminal"])
def test_hostile_content_of_a_store(store: Path, call: Callable[..., Done]) -> None:
    """Names, texts and paths are printed as they are or as escapes, and never obeyed."""
    (store.parent / "events.jsonl").write_text(f'{{"event":"follow","follower":{json.dumps(HOSTILE)},"at":1}}\n')
    for name, (arguments, shows_markup) in ON_STORE.items():
        if name == "list":
            run("client", "create", "--store", store, "--name", "[bold red]x[/nope]", folder=store.parent)
        done = call(*arguments, "--store", store, folder=store.parent)
        assert_harmless(done, has_own_sequences=call is on_terminal)
        assert not shows_markup or "[bold red]" in done.text, (name, done)


def test_csv_is_exact_in_a_pipe_and_printable_on_a_terminal(store: Path) -> None:
    """A program gets each character as it is stored; a terminal gets escapes."""
    words = ("following", "ben", "--store", store, "--format", "csv")

    assert HOSTILE in run(*words, folder=store.parent).text
    assert_harmless(on_terminal(*words, folder=store.parent), has_own_sequences=True)


# --- what a server says -----------------------------------------------------------------------------------------------


def hostile_error(code: str, status: int, message: str = HOSTILE, **headers: str) -> Said:
    """An error of a server with hostile words in all its parts."""
    said = {"code": code, "message": message, "log_id": HOSTILE}
    return Said(json.dumps({"data": {}, "error": said}).encode(), status, tuple(headers.items()))


PAGE = page([{"username": "[bold red]x", "display_name": HOSTILE}, {"username": HOSTILE}])
REFUSED_TOKEN = {"error": "invalid_client", "error_description": HOSTILE, "log_id": HOSTILE}
# Answers to questions and for tokens that are final, so that none is asked for again.
ANSWERS = {
    "a refusal": (hostile_error(HOSTILE, 413), TOKEN),
    "an account": (hostile_error("invalid_params", 400, f"{HOSTILE} cannot find the user"), TOKEN),
    "a page": (PAGE, TOKEN),
    "no token": (PAGE, Said(json.dumps(REFUSED_TOKEN).encode(), 401)),
    "a redirect": (PAGE, Said(b"", 302, (("Location", "/[/nope]\x1b[31m\x9b"),))),
    "another server": (PAGE, Said(HOSTILE.encode(), 404)),
}


@pytest.mark.parametrize(
    "error", [hostile_error(HOSTILE, 500), hostile_error(HOSTILE, 413), Said(HOSTILE.encode(), 200)]
)
def test_errors_of_the_client_are_printable(error: Said) -> None:
    """A program that prints one prints no orders; its attributes are exact."""
    with scripted(lambda _path, _body: error) as url, Client("k", "s", url, policy=SHORT) as client:
        with pytest.raises(ClientError) as raised:
            client.user_info("anna")

    assert not any(map(is_order, str(raised.value)))
    assert not isinstance(raised.value, Refused) or HOSTILE == raised.value.log_id


@pytest.mark.parametrize(("answer", "token"), ANSWERS.values(), ids=ANSWERS)
def test_hostile_answers_of_a_server(folder: Path, answer: Said, token: Said) -> None:
    """Nothing of a code, message, log_id, header, body or name is obeyed, by `collect` and what reads collections."""
    collection = folder / "collection"
    with scripted(lambda _path, _body: answer, lambda: token) as url:
        words = arguments_of(url, collection, ["anna", "ben"])
        assert_harmless(run(*words, folder=folder))
        assert_harmless(on_terminal(*words, folder=folder), has_own_sequences=True)
    with scripted(lambda _path, _body: page([])) as url:
        run(*arguments_of(url, folder / "later", ["anna", "ben"]), folder=folder)
    for name in ("verify", "diff"):
        for call in (run, on_terminal):
            places = (collection,) if name == "verify" else (folder / "later", collection)
            done = call("collect", name, *places, folder=folder)
            if call is on_terminal or name != "diff":
                assert_harmless(done, has_own_sequences=call is on_terminal)


def test_a_hostile_wait_reason_does_not_break_the_progress_bar(folder: Path) -> None:
    """It is shown in the bar as it is, and Ctrl-C ends the command as always."""
    names = ["anna"]

    def answer(_path: str, _body: Any) -> Said:
        return hostile_error("rate_limit_exceeded", 429, **{"Retry-After": "600"})

    with scripted(answer) as url:
        done = on_terminal(
            *arguments_of(url, folder / "collection", names),
            folder=folder,
            until="waiting for",
            then=lambda pid: os.kill(pid, signal.SIGINT),
        )
    assert 130 == done.code, done
    assert_harmless(done, has_own_sequences=True)


# --- spreadsheets -----------------------------------------------------------------------------------------------------

FORMULAS = ("=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "'=1", "'")


@given(st.text() | st.sampled_from(FORMULAS) | st.builds(str.__add__, st.sampled_from("=+-@'\t\r\n"), st.text()))
def test_formula_guards_are_reversible(text: str) -> None:
    """For every text: guarded it is no formula, and without one leading apostrophe it is as it was."""
    from retinue.escaping import spreadsheet_cell  # noqa: PLC0415

    cell = spreadsheet_cell(text)

    assert cell[:1] not in set("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
    assert text == cell.removeprefix("'")
    assert -1 == spreadsheet_cell(-1)


def test_every_csv_output_can_be_guarded(tmp_path: Path) -> None:
    """All commands that write CSV can write texts that are no formulas; other formats are refused."""
    rows = [{"username": f"{'=+-'[n % 3]}{n}", "display_name": text} for n, text in enumerate(FORMULAS)]
    accounts, follows, store = tmp_path / "accounts.jsonl", tmp_path / "follows.csv", tmp_path / "graph.db"
    accounts.write_text("\n".join(map(json.dumps, rows)))
    follows.write_text("follower,followee\n" + "".join(f"ben,{row['username']}\n" for row in rows))
    assert 0 == run("import", "--store", store, "--accounts", accounts, follows, folder=tmp_path).code
    with scripted(lambda _path, _body: page(rows)) as url:
        run(*arguments_of(url, tmp_path / "new", ["ben"], "--format", "csv", "--spreadsheet-safe"), folder=tmp_path)
    with scripted(lambda _path, _body: page([])) as url:
        run(*arguments_of(url, tmp_path / "old", ["ben"]), folder=tmp_path)
    run("export", "exported", "--store", store, "--format", "csv", "--spreadsheet-safe", folder=tmp_path)
    following = run("following", "ben", "--store", store, "--format", "csv", "--spreadsheet-safe", folder=tmp_path)
    changes = run("collect", "diff", tmp_path / "old", tmp_path / "new", "--spreadsheet-safe", folder=tmp_path)
    (tmp_path / "following.csv").write_bytes(following.text.encode())
    (tmp_path / "diff.csv").write_bytes(changes.text.encode())

    usernames, texts = ({f"'{row[field]}" for row in rows} for field in ("username", "display_name"))
    for name in ("exported/accounts.csv", "new/rows.csv", "new/accounts.csv", "following.csv", "diff.csv"):
        shown = cells(tmp_path / name)
        assert (usernames if name == "diff.csv" else usernames | texts) <= shown, name
        assert set() == {cell for cell in shown if cell.startswith(("=", "+", "@", "\t", "\r", "\n", "\uff1d"))}, name
    for words in (("export", "x", "--store", store), ("following", "ben", "--store", store)):
        refused = run(*words, "--spreadsheet-safe", folder=tmp_path)
        assert (2, True) == (refused.code, "--spreadsheet-safe: is for CSV" in refused.text)


def cells(path: Path) -> set[str]:
    """Return all cells of a CSV file."""
    import csv  # noqa: PLC0415

    with closing(path.open(encoding="utf-8", newline="")) as file:
        return {cell for row in csv.reader(file) for cell in row}
