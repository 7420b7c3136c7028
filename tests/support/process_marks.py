"""Mark tests that may start a process (`process`) or take long (`long`); a pytest plugin for `make check`.

A test may start one if its function, or that of a fixture it uses, names `subprocess` or a fork, or anything of this
repository that does.
"""

import inspect
import subprocess
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_ROOT = str(Path(__file__).parent.parent.parent / "")
# Files whose tests make hundreds of stores: they start no process, and take long all the same.
_LONG = {
    "test_access_machine",
    "test_bulk",
    "test_bulk_cells",
    "test_bulk_command",
    "test_export",
    "test_group_machine",
    "test_hostile",
    "test_long_lists",
    "test_machine",
    "test_power_cut",
}
_MODULES = {"subprocess", "multiprocessing", "concurrent.futures"}
_CALLS = {"fork", "posix_spawn", "ProcessPoolExecutor"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that may start a process."""
    known: dict[int, bool] = {}
    for item in items:
        if isinstance(item, pytest.Function) and (
            _is_on_cluster(item) or any(_starts(each, known) for each in _functions_of(item))
        ):
            item.add_marker("process")
        if item.path.stem in _LONG:
            item.add_marker("long")


def _is_on_cluster(item: pytest.Function) -> bool:
    """Return whether a test runs on the node of Cassandra, whose fixture it then asks for by name."""
    return hasattr(item, "callspec") and "cluster" in map(str, item.callspec.params.values())


def _functions_of(item: pytest.Function) -> Iterator[Any]:
    yield item.function
    for definitions in item._fixtureinfo.name2fixturedefs.values():
        yield from (definition.func for definition in definitions)


def _starts(value: Any, known: dict[int, bool]) -> bool:
    """Return whether a function or class reaches a process; those in progress count as not."""
    if isinstance(value, types.ModuleType):
        return value.__name__.partition(".")[0] in _MODULES
    if value is subprocess.run or value is subprocess.Popen:
        return True
    if not isinstance(value, types.FunctionType | type):
        value = type(value)
    if not _is_ours(value):
        return False
    if id(value) not in known:
        known[id(value)] = False
        known[id(value)] = any(_code_starts(code, names, known) for code, names in _codes_of(value))
    return known[id(value)]


def _is_ours(value: types.FunctionType | type) -> bool:
    file = str(getattr(inspect.getmodule(value), "__file__", ""))
    return file.startswith(_ROOT) and "/.venv/" not in file


def _codes_of(value: Any) -> Iterator[tuple[types.CodeType, dict[str, Any]]]:
    """Yield the code of a function or of a class's methods, each with its globals."""
    members = vars(value).values() if isinstance(value, type) else [value]
    for member in members:
        function = inspect.unwrap(getattr(member, "__func__", getattr(member, "fget", member)))
        function = getattr(getattr(function, "hypothesis", None), "inner_test", function)
        if isinstance(function, types.FunctionType):
            yield function.__code__, function.__globals__


def _code_starts(code: types.CodeType, names: dict[str, Any], known: dict[int, bool]) -> bool:
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return (
        not _CALLS.isdisjoint(code.co_names)
        or any(_starts(names[name], known) for name in code.co_names if name in names)
        or any(_code_starts(each, names, known) for each in inner)
    )
