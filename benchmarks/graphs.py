"""Stores to measure with, kept in .cache/bench/ until the code that would make them changes."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from running import retinue

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "bench"

_SOURCE = Path(__file__).resolve().parents[1] / "src" / "retinue"
_MADE_BY = "made-by.txt"


@dataclass(frozen=True, slots=True)
class Size:
    """How large a generated graph is to be."""

    accounts: int
    follows: int
    seed: int = 1


def generated(size: Size, kind: str = "csv") -> Path:
    """The folder of a generated graph: its files accounts and follows, and graph.db with both in it."""

    def make(folder: Path) -> None:
        generate(size, folder, kind)
        files = folder / f"accounts.{kind}", folder / f"follows.{kind}"
        retinue("import", "--store", folder / "graph.db", "--accounts", *files)

    return kept(f"graph-{size.accounts}-{size.follows}-{size.seed}{'' if kind == 'csv' else f'-{kind}'}", make)


def generate(size: Size, folder: Path, kind: str = "csv") -> None:
    """Write the files accounts and follows, as CSV or Parquet."""
    sizes = ("--accounts", str(size.accounts), "--follows", str(size.follows), "--seed", str(size.seed))
    retinue("generate", *sizes, "--format", kind, "-o", folder)


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """A folder with what `make` puts into it; made where it is missing or was made by other code."""
    folder = CACHE / name
    made_by = _fingerprint()
    if folder.is_dir() and (folder / _MADE_BY).read_text() == made_by:
        return folder
    print(f"making {name}; this takes a few minutes", flush=True)
    part = folder.with_suffix(".part")
    for stale in (folder, part):
        shutil.rmtree(stale, ignore_errors=True)
    part.mkdir(parents=True)
    make(part)
    (part / _MADE_BY).write_text(made_by)
    return part.rename(folder)


def _fingerprint() -> str:
    """Changes with the code that decides what the sample is and how a store is laid out."""
    files = [_SOURCE / "sample.py", _SOURCE / "sample_files.py", *sorted((_SOURCE / "store" / "sqlite").glob("*.sql"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
