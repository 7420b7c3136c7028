"""The internals of uvicorn in use are listed in one place, and have not changed."""

import ast
import hashlib
import inspect
from pathlib import Path
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import Server, ServerState

from retinue.web import uvicorn_internals
from retinue.web.uvicorn_internals import ATTRIBUTES, METHODS, Cycle

WEB = Path(uvicorn_internals.__file__).parent
PARTS: dict[str, Any] = {"flow": FlowControl, "server_state": ServerState}

# The first digits of SHA-256 of each source without white space. If one changes with a new version of uvicorn, read the
# changes, mend `protocol.py` where it depends on them, and write the new digits here.
SOURCES = {
    HttpToolsProtocol: "21c8605d9020c0fe",
    RequestResponseCycle: "721511c6cce7223e",
    FlowControl: "0d483a9718e85b33",
    ServerState: "f938d5827b9255f1",
    Server.startup: "b912bccc00bbffae",
    Server.shutdown: "839636395b3d1135",
}


def digest_of(source: str) -> str:
    """Return the first digits of the hash of a source, white space aside."""
    return hashlib.sha256("".join(source.split()).encode()).hexdigest()[:16]


def assigned_in(owner: type) -> set[str]:
    """Return the names that a class defines, or that its methods assign to `self`."""
    tree = ast.parse(inspect.getsource(owner))
    assigned = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_self(node.value)}
    return assigned | set(vars(owner))


def is_self(node: ast.AST) -> bool:
    """Return whether an expression is `self`."""
    return isinstance(node, ast.Name) and node.id == "self"


def used_by(path: Path) -> set[str]:
    """Return the attributes of `self` and of uvicorn's parts of it that a file uses, dotted."""
    used = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            if is_self(node.value):
                used.add(node.attr)
            elif isinstance(node.value, ast.Attribute) and is_self(node.value.value) and node.value.attr in PARTS:
                used.add(f"{node.value.attr}.{node.attr}")
        elif isinstance(node, ast.FunctionDef):
            used.add(node.name)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and is_super(node.func.value):
            used.add(node.func.attr)
    return used - PARTS.keys()


def is_super(node: ast.AST) -> bool:
    """Return whether an expression is `super()`."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def test_the_list_names_all_that_is_used() -> None:
    """Our protocol uses neither more of uvicorn's connection than the list has, nor less."""
    ours = used_by(WEB / "protocol.py")
    theirs = assigned_in(HttpToolsProtocol) | {
        f"{name}.{attribute}" for name, part in PARTS.items() for attribute in assigned_in(part)
    }

    assert {name for name in ours & theirs if not name.startswith("__")} == {*ATTRIBUTES, *METHODS}


def test_cycles_have_the_listed_attributes() -> None:
    """Each attribute of our description of a cycle is one of uvicorn's."""
    assert {*Cycle.__annotations__} <= assigned_in(RequestResponseCycle)


@pytest.mark.parametrize("part", SOURCES, ids=lambda part: part.__qualname__)
def test_the_sources_are_those_that_we_know(part: Any) -> None:
    """A changed step inside of uvicorn may break ours without any error."""
    assert SOURCES[part] == digest_of(inspect.getsource(part))
