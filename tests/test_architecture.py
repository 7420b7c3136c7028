"""The rules of architecture as data; when one stops a good change, change the rule here on purpose."""

import ast
import re
import sys
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src" / "retinue"
FILES = sorted(SOURCE.rglob("*.py"))

# The parts that each part may import. A part is a top-level file, or a package; parts not named here are unknown.
WORDS = {"errors", "clock", "names", "model", "settings", "durable", "escaping", "safe_files", "temporary"}
MAY_IMPORT = {
    "errors": set[str](),
    "clock": {"errors"},
    "names": {"errors"},
    "model": {"errors"},
    "settings": {"errors"},
    "durable": set[str](),
    "safe_files": set[str](),
    "locks": {"errors"},
    "confinement": set[str](),
    "key_pair": {"errors"},
    "escaping": set[str](),
    "streams": {"errors", "escaping"},
    "temporary": {"locks"},
    "duck": {"errors", "escaping"},
    "history": set[str](),
    "faults": {"errors"},
    "wire": {"errors", "model"},
    "sample_files": {"duck", "escaping", "temporary"},
    "sample": {"errors", "sample_files", "temporary"},
    "quota": WORDS | {"locks"},
    "quota.cassandra": WORDS | {"quota", "store.cassandra", "store.cassandra.session"},
    "store.contract": {"model"},
    "store.bulk": {"model"},
    "store.paths": set[str](),
    "store.layout": WORDS | {"history"},
    "store.reading": WORDS | {"store.bulk", "store.layout"},
    "store.check": WORDS | {"history", "store.layout", "store.reading"},
    "store.rules": WORDS | {"history", "store.contract", "store.layout"},
    "store.load": WORDS | {"history", "store.contract", "store.bulk", "store.layout", "store.rules"},
    "store.writer": WORDS | {"store.contract", "store.bulk", "store.layout", "store.rules", "store.load"},
    "store.sqlite": WORDS
    | {
        "store.contract",
        "store.bulk",
        "store.layout",
        "store.reading",
        "store.check",
        "store.sqlite.files",
        "access.sqlite",
    },
    "store.sqlite.files": WORDS | {"store.layout", "store.sqlite"},
    "store.sqlite.backend": WORDS
    | {"store.sqlite", "store.sqlite.files", "store.reading", "store.check", "store.writer", "store.paths"}
    | {"access.sqlite", "quota"},
    "store.cassandra": WORDS
    | {
        "store.contract",
        "store.bulk",
        "store.layout",
        "store.reading",
        "store.check",
        "store.cassandra.session",
        "key_pair",
    },
    "store.cassandra.session": WORDS | {"store.cassandra", "key_pair"},
    "store.cassandra.backend": WORDS
    | {"store.cassandra", "store.cassandra.session", "store.contract", "store.reading", "store.writer", "store.paths"}
    | {"access.cassandra", "quota", "quota.cassandra"},
    "store.open": {"errors", "clock", "model", "access.contract", "quota"}
    | {"store.contract", "store.bulk", "store.paths", "store.reading"}
    | {"store.sqlite.backend", "store.cassandra.backend", "store.cassandra"},
    "access": WORDS | {"access.contract", "quota"},
    "access.contract": {"model"},
    "access.client_rows": WORDS | {"access.contract"},
    "access.sqlite": WORDS | {"access.contract", "access.client_rows", "store.sqlite.files"},
    "access.cassandra": WORDS
    | {"access.contract", "access.client_rows", "quota", "store.cassandra", "store.cassandra.session"},
    "audit": WORDS | {"access.contract", "quota", "locks"},
    "following": WORDS | {"store.contract"},
    "ingest": WORDS | {"duck", "store.contract", "store.bulk", "store.open"},
    "export": WORDS | {"duck", "store.reading"},
    "client": {"errors", "clock", "names", "escaping"},
    "collect": {"errors", "names", "clock", "durable", "locks", "client", "duck", "export"},
    "web": WORDS
    | {"wire", "faults", "store.contract", "quota", "following", "access", "audit"}
    | {"ingest", "key_pair"},
    "wiring": WORDS | {"store.contract", "quota", "access", "access.contract", "audit", "faults", "following", "web"},
    "local": WORDS | {"faults", "wire", "store.contract", "store.open", "access", "audit", "wiring", "ingest", "web"},
    "pytest_plugin": {"local", "sample"},
    "serving": WORDS
    | {"faults", "wire", "store.contract", "store.open", "store.paths", "access", "audit", "ingest", "wiring", "web"}
    | {"access.contract", "locks", "key_pair", "confinement", "streams"},
    "cli": WORDS
    | {"wire", "store.contract", "store.open", "access", "audit", "ingest", "following", "web", "wiring", "serving"}
    | {"access.contract", "export", "faults", "sample", "sample_files", "client", "collect", "intercept", "streams"},
    "intercept": WORDS | {"faults", "wire", "confinement", "locks", "intercept.verdicts", "intercept.sandbox"},
    "intercept.verdicts": WORDS | {"store.open", "following", "intercept"},
    "intercept.sandbox": {"faults", "local", "sample"},
    "__main__": {"errors", "cli", "streams"},
}

# Each library has its own place; msgspec is the language in which values are written.
LIBRARY_PLACES: dict[str, str | tuple[str, ...]] = {
    "aiohttp": ("client/transport.py", "client/connection_errors.py"),
    "apsw": "store/sqlite/",
    "cassandra": "store/cassandra/session.py",
    "duckdb": (
        "duck.py",
        "ingest/parquet.py",
        "ingest/snapshot.py",
        "ingest/staging.py",
        "ingest/staging_sql.py",
    ),
    "certifi": "intercept/hooks/sitecustomize.py",
    "cryptography": "intercept/authority.py",
    "httptools": ("web/protocol.py", "web/surplus.py", "intercept/exchanges.py"),
    "numpy": (
        "collect/tables.py",
        "sample.py",
        "sample_files.py",
        "ingest/staging.py",
        "export/files.py",
        "store/bulk.py",
        "store/check/",
        "store/layout/columns.py",
        "store/layout/slot_arrays.py",
        "store/load/",
        "store/reading/",
        "store/sqlite/served_graph.py",
    ),
    "rich": "cli/terminal.py",
    "prometheus_client": "web/metrics.py",
    "pytest": "pytest_plugin.py",
    "starlette": ("web/management.py", "web/management_clients.py"),
    "trustme": "intercept/authority.py",
    "typer": "cli/",
    "uvicorn": ("web/listener.py", "web/protocol.py", "serving/child.py"),
    "uvloop": "serving/child.py",
    "msgspec": "",
}

# Two files print, into the streams that `streams.py` makes of descriptors 1 and 2.
# Nothing else may reach them: text of others would control the terminal.
PRINTING = re.compile(r"(?<![.\w])print\(|sys\.std(out|err)\b(?! is not)|typer\.(s?echo|confirm|prompt)|\bConsole\(")
PRINTERS = {"cli/output.py", "cli/terminal.py", "streams.py"}
AROUND_THE_STREAM = re.compile(
    r"__stdout__|__stderr__|sys\.std(out|err) =|STDOUT_FILENO|/dev/(stdout|fd/1|tty)|os\.(dup2|write)\((1|sys)\b"
    r"|\.fileno\(\), 1\)|std(out|err)\.(detach|reconfigure|fileno)|(open|FileIO)\(1\b"
)

# `locks.py` says what a file system without locks means; quota counters are locked for each answer.
LOCKING = {"locks.py", "quota/counter_file.py"}

# A command that runs another one hands its environment on; a refused certificate is explained by what the TLS library
# was given there.
ENVIRONMENT_READERS = {"cli/run.py", "client/connection_errors.py"}

MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 50
DRAWERS = {"utils", "util", "helpers", "common", "manager", "misc", "shared", "base_classes"}


def name_of(path: Path) -> str:
    """Return `store.sqlite.graph` for `store/sqlite/graph.py`."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def place_of(path: Path) -> str:
    """Return `store/sqlite/graph.py`, on any system."""
    return path.relative_to(SOURCE).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    """Return a file's syntax tree."""
    return ast.parse(path.read_text())


def part_of(module: str) -> str:
    """The part that a module belongs to."""
    return max(
        (part for part in MAY_IMPORT if module == part or module.startswith(f"{part}.")), key=len, default=module
    )


@cache
def imports_of(path: Path) -> list[tuple[str, bool]]:
    """Modules that a file imports, each with whether it does so while being imported itself."""
    tree = tree_of(path)
    late = {
        id(inner) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.If) for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in late) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [(name if is_module(name) else node.module, id(node) not in late) for name in names]
    return found


def is_module(name: str) -> bool:
    """Whether a dotted name is a file or folder of ours."""
    path = SOURCE.joinpath(*name.split(".")[1:]) if name.startswith("retinue.") else None
    return path is not None and (path.with_suffix(".py").exists() or path.is_dir())


def ours(path: Path, *, early_only: bool = False) -> set[str]:
    """Return the modules of ours that a file imports, without the package name."""
    wanted = [name for name, early in imports_of(path) if early or not early_only]
    return {name.removeprefix("retinue.") for name in wanted if name.startswith("retinue.")}


def module_files() -> list[Path]:
    """Return each file that is not the face of a package."""
    return [path for path in FILES if path.name != "__init__.py"]


def test_imports_point_downwards() -> None:
    """No file imports a part that its own part may not know."""
    strangers = {}
    for path in module_files():
        part = part_of(name_of(path))
        strangers[name_of(path)] = {part_of(name) for name in ours(path)} - MAY_IMPORT[part] - {part}

    assert {} == {name: found for name, found in strangers.items() if found}


# The one package that is imported by name from outside; it exports the public names of the client.
FACES = {"client.__init__"}


def test_packages_import_nothing_themselves() -> None:
    """An `__init__` that imports nothing cannot make a cycle with its children."""
    packages = [path for path in FILES if path.name == "__init__.py" and name_of(path) not in FACES]

    assert [] == [name_of(path) for path in packages if imports_of(path)]


def test_there_are_no_import_cycles() -> None:
    """Modules can be put in an order in which each imports only earlier ones."""
    waiting = {name_of(path): ours(path, early_only=True) for path in FILES}
    while ready := {name for name, needs in waiting.items() if not needs & waiting.keys()}:
        waiting = {name: needs for name, needs in waiting.items() if name not in ready}

    assert waiting == {}


def test_libraries_are_imported_only_where_the_table_says() -> None:
    """Each third-party library has its own files."""
    misplaced = []
    for path in FILES:
        foreign = {name.partition(".")[0] for name, _ in imports_of(path)} - sys.stdlib_module_names - {"retinue"}
        places = {library: LIBRARY_PLACES.get(library, "nowhere") for library in foreign}
        misplaced += [(place_of(path), each) for each, place in places.items() if not place_of(path).startswith(place)]

    assert [] == misplaced


def test_only_the_clock_reads_the_time() -> None:
    """The time is passed in, so that tests need no waiting."""
    readers = re.compile(r"import time\n|datetime\.now|utcnow")

    assert {"clock.py"} >= {path.name for path in FILES if readers.search(path.read_text())}


def test_only_settings_read_the_environment() -> None:
    """Variables of Retinue are named in the table of settings alone."""
    readers = {place_of(path) for path in FILES if "environ" in path.read_text().replace("environment", "")}

    assert readers == ENVIRONMENT_READERS
    assert {"settings.py"} >= {path.name for path in FILES if "RETINUE_" in path.read_text()}


def test_output_goes_through_one_stream() -> None:
    """Only two files print, into streams whose text is printable and that write everything or fail."""
    code = {place_of(path): code_of(path) for path in FILES}

    assert set() == {place for place, text in code.items() if PRINTING.search(text)} - PRINTERS
    assert {"streams.py"} >= {place for place, text in code.items() if AROUND_THE_STREAM.search(text)}


def test_files_are_locked_in_one_place() -> None:
    """No other file locks files, because some file systems have no locks."""
    assert {place_of(path) for path in FILES if re.search(r"\b(flock|lockf)\(", code_of(path))} == LOCKING


@cache
def code_of(path: Path) -> str:
    """Return source without its docstrings and comments."""
    return ast.unparse(NoDocstrings().visit(ast.parse(path.read_text())))


class NoDocstrings(ast.NodeTransformer):
    """Leaves out expressions that are only a string."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """Replace a docstring by nothing."""
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return ast.Pass() if is_text else node


def test_files_are_small_and_have_a_docstring() -> None:
    """A file has fewer than 350 lines, and is not named after a collection of odds and ends."""
    assert [] == [name_of(path) for path in FILES if not ast.get_docstring(tree_of(path))]
    assert [] == [name_of(path) for path in FILES if path.read_text().count("\n") >= MAX_FILE_LINES]
    assert [] == [name_of(path) for path in FILES if path.stem in DRAWERS]


def test_functions_are_small() -> None:
    """A function has at most 50 lines."""
    functions = [
        (name_of(path), node.name, (node.end_lineno or 0) - node.lineno + 1)
        for path in FILES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]

    assert functions
    assert [] == [function for function in functions if function[2] > MAX_FUNCTION_LINES]


def test_no_test_file_imports_another() -> None:
    """Code that several test files need is in `tests/support/`."""
    importing = re.compile(r"^\s*(?:from|import) (?:tests\.)?test_\w+", re.MULTILINE)
    folders = [TESTS, TESTS.parent / "benchmarks", TESTS.parent / "scripts"]
    files = [path for folder in folders for path in folder.rglob("*.py")]

    assert files
    assert [] == [path.name for path in files if importing.search(path.read_text())]


def test_every_error_has_a_message() -> None:
    """Every refusal has its row in the one table of codes, statuses and messages."""
    from retinue import errors  # noqa: PLC0415 - the rest of this file reads source, not modules
    from retinue.wire import rendering  # noqa: PLC0415 - the rest of this file reads source, not modules

    assert set(errors.Refusal.__subclasses__()) == set(rendering.ERRORS)
