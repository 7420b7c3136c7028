"""Writes the generated pages of `docs/`: the command line reference and the OpenAPI document.

`make docs` runs it; a test fails while a page differs from what this would write.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from msgspec import json

from retinue.cli.main import app
from retinue.web.openapi import document

DOCS = Path(__file__).parent.parent / "docs"

_INTRODUCTION = """# Reference: the command line

Made by `make docs` from the code; do not edit. Every flag has an environment twin, which the flag overrides; of a flag
that may be repeated the twin holds one value or several with spaces between. Errors are one line on stderr that begins
with `retinue:`; of a flag that does not exist the command line library says so in its own words. Exit codes: 0 done;
1 done, but rows were rejected, `check` found a problem, an account is unknown or hidden, or a collection is not
complete; 2 not done, or its output could not be written; 3 a list of a collection may be capped, or audit records are
known to be lost; 130 stopped with
Ctrl-C; 141 the reader of its output has closed the pipe; 143 ended in order by SIGTERM. `retinue run` passes on the
exit code of its command (127: not found, 126: cannot be run). `PYTHONDEVMODE=1` shows the traceback of an unexpected
error. `retinue --version` prints the version.
"""


def pages() -> dict[Path, str]:
    """Every generated page with its text."""
    openapi = json.format(json.encode(document()), indent=2).decode() + "\n"
    return {DOCS / "reference.md": "\n".join(_reference()), DOCS / "openapi.json": openapi}


def _reference() -> Iterator[str]:
    yield _INTRODUCTION
    for words, command in _commands("retinue", typer.main.get_command(app)):
        arguments = " ".join(_argument(each) for each in command.params if each.param_type_name == "argument")
        yield (
            f"## `{words}`\n\n{inspect.cleandoc(command.help)}\n\n```\n{words} [flags] {arguments}".rstrip() + "\n```\n"
        )
        yield "| flag | environment | default | what it does |\n| --- | --- | --- | --- |"
        yield from (_row(each) for each in command.params if each.param_type_name == "option")
        yield ""


def _commands(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Every command below a group, with all the words that call it. The types are Typer's own affair."""
    if not hasattr(command, "commands"):
        yield words, command
        return
    if command.invoke_without_command and command.callback is not None and words != "retinue":
        yield words, command
    for name, child in command.commands.items():
        yield from _commands(f"{words} {name}", child)


def _argument(argument: Any) -> str:
    name = argument.name.upper()
    name = f"{name}..." if argument.nargs == -1 else name
    return name if argument.required else f"[{name}]"


def _row(option: Any) -> str:
    flags = ", ".join(f"`{each}`" for each in option.opts)
    return f"| {flags} | `{option.envvar}` | {_default(option)} | {option.help} |"


def _default(option: Any) -> str:
    default = getattr(option.default, "value", option.default)
    is_shown = default not in {None, "", ()} and default is not False and not option.required
    return f"`{default}`" if is_shown else ""


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
        print(path.name)
