"""Change one operator, constant or statement of the store at a time; the tests must notice each change.

Mutants of the rules, the layout and the arithmetic of groups are drawn from a seed. Each runs in a fork that imports
its changed module and those tests that need neither disk nor server. A mutant that no test notices survives. It is
printed with its line: it wants a better test, or the code is not needed, or the change makes no difference.
"""

import argparse
import contextlib
import importlib.abc
import importlib.util
import io
import os
import random
import signal
import sys
import time
from collections import Counter
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from mutations import Mutant, mutants_of

ROOT = Path(__file__).parent.parent.parent
STORE = ROOT / "src/retinue/store"
FILES = (
    *("rules/accounts", "rules/changes", "rules/pairs", "rules/relocation", "rules/resolver", "rules/tombstones"),
    *("layout/slot_arrays", "layout/columns", "load/loader", "load/groups"),
    *("layout/entries", "layout/slots", "layout/blocks", "layout/lists", "layout/histories", "layout/relocations"),
)
_TESTED = (
    *(f"store_{each}" for each in ("account_keys", "erasure", "lists", "profiles", "unfollows", "usernames")),
    *("store_visibility", "layout", "long_lists", "group_writer", "group_machine", "machine"),
)
TESTS = tuple(f"tests/test_{each}.py" for each in _TESTED)
_OURS = ("retinue", "support", "test_")  # modules that each fork imports again, with the mutant among them
# Without other plugins and their settings, which take longer than most mutants live.
_OPTIONS = ("-c", os.devnull, "--rootdir", str(ROOT), "--noconftest", "-p", "no:cacheprovider", "--assert=plain", "-xq")


class MutantFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from changed source."""

    def __init__(self, mutant: Mutant) -> None:
        self._name = f"retinue.store.{mutant.path.parent.name}.{mutant.path.stem}"
        self._source = mutant.source()

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return the spec of the changed module alone."""
        return importlib.util.spec_from_loader(name, self) if name == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed source."""
        exec(compile(self._source, f"<mutant of {self._name}>", "exec"), module.__dict__)  # noqa: S102 - our own


class StoresInMemory:
    """A pytest plugin: tests of any store run on dicts, and few of their examples."""

    @pytest.fixture
    def new_backend(self) -> Any:
        """A factory of stores of dicts."""
        from support.backends import BackendFactory  # noqa: PLC0415 - after the mutant
        from support.dict_engine import DictBackend  # noqa: PLC0415 - the same

        return BackendFactory(DictBackend, 0.5)  # type: ignore[arg-type]  # without clients and quotas

    @pytest.fixture
    def store(self, new_backend: Any, request: pytest.FixtureRequest) -> object:
        """An empty store of dicts."""
        from support.frozen_clock import FrozenClock  # noqa: PLC0415 - the same
        from support.store_contract import backend_of  # noqa: PLC0415 - the same

        return backend_of(new_backend, request, FrozenClock())


def _begin() -> None:
    """Import everything that mutants have in common, and settle how tests run on them."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.chdir(ROOT)
    few = {"max_examples": 100, "phases": (Phase.explicit, Phase.generate), "suppress_health_check": list(HealthCheck)}
    settings.register_profile("mutants", deadline=None, database=None, derandomize=True, **few)  # type: ignore[arg-type]
    settings.load_profile("mutants")
    _test("--collect-only")
    for name in [name for name in sys.modules if name.startswith(_OURS)]:
        del sys.modules[name]


def _test(*options: str) -> tuple[int, str]:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        chosen = ("-k", "not Folder and not folder and not cluster")
        code = pytest.main([*_OPTIONS, *chosen, *options, *TESTS], plugins=[StoresInMemory()])
    return int(code), output.getvalue()


def _outcome(mutant: Mutant | None, seconds: int) -> str:
    """Run the tests on a mutant, or on the unchanged code, in a fork; return how that ended."""
    child = os.fork()
    if not child:
        signal.alarm(seconds)
        if mutant is not None:
            sys.meta_path.insert(0, MutantFinder(mutant))
        code, output = _test()
        if mutant is None and code:
            print(output, flush=True)
        os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "endless" if os.WTERMSIG(status) == signal.SIGALRM else "crashed"
    return "killed" if os.WEXITSTATUS(status) else "survived"


def _run(sample: list[Mutant]) -> None:
    _begin()
    begin = time.monotonic()
    if _outcome(None, 600) != "survived":
        raise SystemExit("tests fail on the unchanged code")
    limit = int(4 * (time.monotonic() - begin)) + 10
    outcomes: Counter[str] = Counter()
    for mutant in sample:
        started = time.monotonic()
        outcome = _outcome(mutant, limit)
        outcomes[outcome] += 1
        print(f"{outcome:8} {time.monotonic() - started:4.0f} s  {mutant}", flush=True)
    print(f"{dict(outcomes)} in {time.monotonic() - begin:.0f} s")


def main() -> None:
    """Run a sample of the mutants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sample", type=int, default=400, help="number of mutants")
    parser.add_argument("--modules", nargs="+", default=FILES, help="such as rules/pairs")
    parser.add_argument("--list", action="store_true", help="print the sample, and run nothing")
    arguments = parser.parse_args()
    mutants = [mutant for module in arguments.modules for mutant in mutants_of(STORE / f"{module}.py")]
    sample = random.Random(arguments.seed).sample(mutants, min(arguments.sample, len(mutants)))
    print(f"{len(mutants)} mutants, {len(sample)} of them drawn", flush=True)
    if arguments.list:
        print(*sorted(sample, key=lambda mutant: (str(mutant.path), mutant.line)), sep="\n")
    else:
        _run(sample)


if __name__ == "__main__":
    main()
