"""A scenario: its options on the command line, its requirements and its report."""

import argparse
import json
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from debian import Program

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CACHE = Path(os.environ.get("BENCH_CACHE") or Path(__file__).resolve().parents[1] / ".cache" / "bench")
SERVER_CORE, CLIENT_CORE = 0, 1

_Options = TypeVar("_Options", bound="DataclassInstance")


@dataclass(frozen=True, slots=True)
class Report:
    """The figures for JSON, and whether every bound is met."""

    figures: Mapping[str, Any]
    is_met: bool = True


@dataclass(frozen=True, slots=True)
class Scenario(Generic[_Options]):
    """A measurement, its options and its requirements."""

    measure: Callable[[_Options], Report]
    full: _Options
    quick: _Options
    programs: tuple[Program, ...] = ()
    cores: int = 2

    def read_options(self, name: str, summary: str, arguments: Sequence[str]) -> _Options:
        """Return the options that flags ask for, a flag for each field."""
        parser = argparse.ArgumentParser(prog=f"run.py {name}", description=summary)
        parser.add_argument("--quick", action="store_true", help="small and short, to see that all works")
        for each in fields(self.full):
            full, quick = (getattr(options, each.name) for options in (self.full, self.quick))
            flag = f"--{each.name.replace('_', '-')}"
            parser.add_argument(flag, type=type(full), metavar="VALUE", help=f"{full!r}; with --quick {quick!r}")
        given = vars(parser.parse_args(arguments))
        basis = self.quick if given.pop("quick") else self.full
        return replace(basis, **{name: value for name, value in given.items() if value is not None})


def save(name: str, options: "DataclassInstance", report: Report) -> Path:
    """Write options, machine and figures to the cache folder; return the file."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / f"{name}.json"
    content = {"options": asdict(options), "machine": machine(), **report.figures}
    path.write_text(json.dumps(content, indent=2, default=str) + "\n")
    return path


def machine() -> dict[str, str | int | None]:
    """Return processor, cores, kernel and Python version."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
