"""Print how large the source is: lines, small files, long functions, docstring words, import cycles.

    python scripts/source_size.py                   of this checkout
    python scripts/source_size.py --since COMMIT    beside those of an earlier commit
    python scripts/source_size.py --packages        with the lines and docstring words of each package

`src/retinue/store/` is left out of the line counts but not of the search for cycles.
"""

import argparse
import ast
import subprocess
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = Path("src/retinue")
LEFT_OUT = "store"
SMALL_FILE_LINES = 50
TOP_LEVEL = "(top level)"

Sources = Mapping[str, str]  # text by path below the package


@dataclass(frozen=True, slots=True)
class Figures:
    """The size figures of one state of the source, in printing order."""

    lines: int
    files: int
    small_files_percent: float
    function_lines_p90: int
    longest_function_lines: int
    docstring_words_per_100_lines: float
    import_cycles: int


def read_sources(folder: Path) -> Sources:
    """Return the text of each file of the package in a checkout."""
    package = folder / SOURCE
    return {path.relative_to(package).as_posix(): path.read_text() for path in sorted(package.rglob("*.py"))}


def read_commit(commit: str) -> Sources:
    """Return the same of a commit. Raises `CalledProcessError` if git does not know it."""
    packed = subprocess.run(["git", "archive", commit, SOURCE], cwd=ROOT, capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory() as name, tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(name, filter="data")
        return read_sources(Path(name))


def measure(sources: Sources) -> Figures:
    """Return the figures of a package."""
    counted = {path: text for path, text in sources.items() if package_of(path) != LEFT_OUT}
    lines = {path: text.count("\n") for path, text in counted.items()}
    lengths = sorted(chain.from_iterable(function_lengths(text) for text in counted.values()))
    small = sum(count <= SMALL_FILE_LINES for count in lines.values() if count)
    words = sum(docstring_words(text) for text in counted.values())
    return Figures(
        lines=sum(lines.values()),
        files=sum(count > 0 for count in lines.values()),
        small_files_percent=100 * small / max(1, sum(count > 0 for count in lines.values())),
        function_lines_p90=lengths[len(lengths) * 9 // 10],
        longest_function_lines=lengths[-1],
        docstring_words_per_100_lines=100 * words / sum(lines.values()),
        import_cycles=len(list(cycles(imports(sources)))),
    )


def package_of(path: str) -> str:
    """Return a file's top-level package below `retinue`."""
    first, _, rest = path.partition("/")
    return first if rest else TOP_LEVEL


def function_lengths(text: str) -> Iterator[int]:
    """Yield the lines of each function, from `def` to its end."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1


def docstring_words(text: str) -> int:
    """Return the number of words in all docstrings of a file."""
    nodes = (
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return sum(len((ast.get_docstring(node) or "").split()) for node in nodes)


# --- import cycles --------------------------------------------------------------------------------------------------


def imports(sources: Sources) -> dict[str, set[str]]:
    """Return the modules of ours that each module imports at once."""
    modules = {path.removesuffix(".py").replace("/", ".") for path in sources}
    return {
        path.removesuffix(".py").replace("/", "."): {
            name for name in _imported(ast.parse(text)) if name in modules or f"{name}.__init__" in modules
        }
        for path, text in sources.items()
    }


def _imported(tree: ast.Module) -> Iterator[str]:
    late = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.If))
    hidden = {id(inner) for node in late for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in hidden and (node.module or "").startswith("retinue"):
            base = (node.module or "").removeprefix("retinue").lstrip(".")
            yield base
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)
        elif isinstance(node, ast.Import) and id(node) not in hidden:
            yield from (alias.name.removeprefix("retinue.") for alias in node.names)


def cycles(graph: Mapping[str, set[str]]) -> Iterator[set[str]]:
    """Yield each group of modules that import one another, directly or not."""
    reached = {name: _reachable(graph, name) for name in graph}
    seen: set[str] = set()
    for name in graph:
        group = {other for other in reached[name] if name in reached.get(other, ())}
        if group and name not in seen:
            seen |= group
            yield group


def _reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = set(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting |= graph.get(name, set())
    return found


# --- printing -------------------------------------------------------------------------------------------------------


def table(columns: Iterable[Figures]) -> Iterator[str]:
    """Yield a line for each figure, with a column for each state."""
    columns = list(columns)
    for name in Figures.__slots__:
        cells = "".join(f"{getattr(each, name):>12,.1f}".replace(".0", "  ") for each in columns)
        yield f"{name.replace('_', ' '):<32}{cells}"


def package_lines(sources: Sources) -> Iterator[str]:
    """Yield a line for each package: its lines, and its docstring words per 100 of them."""
    packages: dict[str, list[str]] = defaultdict(list)
    for path, text in sources.items():
        packages[package_of(path)].append(text)
    for name, texts in sorted(packages.items()):
        count = sum(text.count("\n") for text in texts)
        words = sum(map(docstring_words, texts))
        yield f"{name:<32}{count:>10,}{100 * words / max(1, count):>12.1f} words per 100 lines"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--since", metavar="COMMIT", help="print the figures of this commit in a column before")
    parser.add_argument("--packages", action="store_true", help="print the lines of each package")
    options = parser.parse_args()
    present = read_sources(ROOT)
    states = [*([read_commit(options.since)] if options.since else []), present]
    columns = [measure(state) for state in states]
    print("\n".join(table(columns)))
    if options.since:
        print(f"{'lines, in percent of before':<32}{100 * columns[1].lines / columns[0].lines:>24.1f}")
    if options.packages:
        print("\n".join(package_lines(present)))


if __name__ == "__main__":
    main()
