"""Check names and prose against the ceilings in `prose.toml`.

    python scripts/prose.py            list what is over a ceiling
    python scripts/prose.py --all      list every finding
    python scripts/prose.py --lower    lower each ceiling to the present count

CONTRIBUTING.md explains the rules.
"""

import argparse
import ast
import io
import re
import sys
import tokenize
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
CEILINGS = ROOT / "scripts" / "prose.toml"
FOLDERS = ("src", "tests", "benchmarks", "scripts")
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/*.md")
WITH_COMMENTS = ("Makefile", "pyproject.toml", ".pre-commit-config.yaml", ".editorconfig")

FIRST_LINE_WORDS = 12
# A test's docstring says in one sentence what the test proves.
TEST_SENTENCE_WORDS = 20
LINE_WIDTH = 120
# Docstring words per 100 lines of a package may always be this many.
DENSITY = 90

OPENING = re.compile(r"(?:Who|Whom|Whose|Whoever|What|Whatever|Where|Wherever|That there|That which)\b(?![-/*.])")
WORDS = re.compile(
    r"\b(?:somebody|nobody|anybody|everybody|whoever|anew|that (?:is|are|was|were) there|that there (?:is|are)|"
    r"(?:is|are|was|were) not to\b(?! be sure)|ha(?:s|ve|d) none\b(?! of)|so long as it|it is we|as can be|until now|"
    r"by heart|for ever|must needs)\b",
    re.IGNORECASE,
)
TERMS = re.compile(
    r"\b(?:keepers?|stretch(?:es)?|standings?|postdated|(?:short|hot|ASGI) way|trails?|tally|tallies|ledgers?|"
    r"wordings?|fates|sufferings?|outbox|tidying|chores)\b",
    re.IGNORECASE,
)
TEST_NAME = re.compile(r"_(?:who|whom|whose|whoever|what|whatever|somebody|nobody|anybody|everybody|anew)(?:_|$)")
SENTENCE_END = re.compile(r"(?<=[.!?])[\"')*]*\s+|\n\s*\n|\n\s*(?:[-*]|\d+\.)\s+")
CODE = re.compile(r"`[^`]*`")

KINDS = {
    "openings": "sentences begin with a free relative (Who, Whoever, What, Where, That there is)",
    "words": "words and phrases are banned (somebody, nobody, whoever, anew, that is there, is not to, until now)",
    "terms": "terms have a standard replacement (see docs/glossary.md)",
    "first_lines": f"docstrings have a first sentence of more than {FIRST_LINE_WORDS} words"
    f" ({TEST_SENTENCE_WORDS} in tests)",
    "docstring_words": "docstring words per 100 lines",
    "wide_lines": f"lines are wider than {LINE_WIDTH} columns; wrap pages with scripts/wrap.py",
    "test_names": "tests have a banned word in their name",
    "duplicate_classes": "public class names are defined in two modules of src/",
}
REMEDY = """\
Rewrite what is listed (CONTRIBUTING.md has the rules); do not raise a ceiling.
After removing findings, run `python scripts/prose.py --lower` and commit scripts/prose.toml.
If code moves to another package, move its part of the ceiling to that package's section by hand."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One broken rule and its place."""

    package: str
    kind: str
    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"  {self.path}:{self.line}: {self.text}"


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of prose and the line on which it begins."""

    line: int
    text: str


def package_of(path: str) -> str:
    """Return the package of a file: `src/retinue/web`, `tests`, or the file itself if it is a page."""
    parts = Path(path).parts
    if path.endswith(".py"):
        return "/".join(parts[: min(3, len(parts) - 1)]) if parts[0] == "src" else parts[0]
    return path


def check_text(path: str, texts: list[Text]) -> Iterator[Finding]:
    """Yield the banned openings, words and terms of prose."""
    package = package_of(path)
    for each in texts:
        prose = CODE.sub("`x`", each.text)
        for sentence in SENTENCE_END.split(prose):
            words = (sentence or "").strip(" *_\"'(|#-\n")
            if OPENING.match(words) and not words.rstrip("*_\"')").endswith("?"):
                yield Finding(package, "openings", path, each.line, _short(words))
        for kind, pattern in (("words", WORDS), ("terms", TERMS)):
            for match in pattern.finditer(" ".join(prose.split())):
                yield Finding(package, kind, path, each.line, match[0])


def check_python(path: str, source: str) -> Iterator[Finding]:
    """Yield the findings of a Python file."""
    tree = ast.parse(source)
    docstrings = list(_docstrings(tree))
    package = package_of(path)
    messages = _messages(tree, {each.line for each in docstrings}) if path.startswith("src/") else []
    yield from check_text(path, [*docstrings, *_comments(source), *messages])
    for each in docstrings:
        first = re.split(r"(?<=[.!?:])\s|\n\s*\n", each.text.strip(), maxsplit=1)[0]
        if len(first.split()) > (TEST_SENTENCE_WORDS if package == "tests" else FIRST_LINE_WORDS):
            yield Finding(package, "first_lines", path, each.line, _short(first))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and TEST_NAME.search(node.name):
            yield Finding(package, "test_names", path, node.lineno, node.name)


def check_markdown(path: str, source: str) -> Iterator[Finding]:
    """Yield the findings of a page, without its code and table headers."""
    lines = source.split("\n")
    is_code = False
    texts: list[Text] = []
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("```"):
            is_code = not is_code
        following = lines[number] if number < len(lines) else ""
        if is_code or line.lstrip().startswith("```") or re.match(r"\|\s*:?-", following):
            texts.append(Text(number, ""))
        elif line.startswith("|"):
            texts += [Text(number, cell) for cell in line.strip("|").split("|")] + [Text(number, "")]
        else:
            if len(line) > LINE_WIDTH and " " in line.strip()[:LINE_WIDTH]:
                yield Finding(path, "wide_lines", path, number, f"{len(line)} columns")
            texts.append(Text(number, line))
    yield from check_text(path, _paragraphs(texts))


def check_comments(path: str, source: str) -> Iterator[Finding]:
    """Yield the findings of `#` comments in a non-Python file."""
    lines = enumerate(source.split("\n"), 1)
    yield from check_text(path, [Text(number, line.partition("#")[2].strip("# ")) for number, line in lines])


def check_classes(sources: dict[str, str]) -> Iterator[Finding]:
    """Yield public class names that an earlier module defines too."""
    first: dict[str, str] = {}
    for path, source in sources.items():
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                earlier = first.setdefault(node.name, path)
                if earlier != path:
                    yield Finding("src", "duplicate_classes", path, node.lineno, f"{node.name}, also in {earlier}")


def densities(sources: dict[str, str]) -> dict[str, int]:
    """Return docstring words per 100 lines by package, rounded up to fives."""
    words, lines = defaultdict[str, int](int), defaultdict[str, int](int)
    for path, source in sources.items():
        words[package_of(path)] += sum(len(each.text.split()) for each in _docstrings(ast.parse(source)))
        lines[package_of(path)] += source.count("\n")
    return {package: -(-20 * words[package] // lines[package]) * 5 for package in words if lines[package]}


def _docstrings(tree: ast.Module) -> Iterator[Text]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield Text(node.body[0].lineno, text)


def _comments(source: str) -> list[Text]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return _paragraphs(
        [
            Text(each.start[0], _capitalized(each.string.strip("#: ")))
            for each in tokens
            if each.type == tokenize.COMMENT and not re.match(r"#\s*(noqa|type:|fmt:)", each.string)
        ]
    )


def _capitalized(comment: str) -> str:
    return comment[:1].upper() + comment[1:]


def _messages(tree: ast.Module, docstring_lines: set[int]) -> list[Text]:
    inner = {id(each) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for each in ast.walk(node)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(each.value) if isinstance(each, ast.Constant) else "{}" for each in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            text = node.value
        else:
            continue
        if text.count(" ") > 1 and node.lineno not in docstring_lines:
            found.append(Text(node.lineno, text))
    return found


def _paragraphs(lines: list[Text]) -> list[Text]:
    """Join adjacent lines, except at gaps, headings and list items."""
    joined: list[Text] = []
    last = -1
    for each in lines:
        is_new = not joined or each.line != last + 1 or re.match(r"\s*([-*#>]|\d+\.) ", each.text)
        if is_new or not each.text.strip() or not joined[-1].text.strip():
            joined.append(each)
        else:
            joined[-1] = Text(joined[-1].line, f"{joined[-1].text}\n{each.text}")
        last = each.line
    return [each for each in joined if each.text.strip()]


def _short(text: str) -> str:
    return " ".join(text.split())[:70]


def read_sources(root: Path) -> dict[str, str]:
    """Return the text of each Python file by its relative path."""
    paths = [path for folder in FOLDERS for path in sorted((root / folder).rglob("*.py"))]
    return {path.relative_to(root).as_posix(): path.read_text() for path in paths}


def check(root: Path) -> tuple[list[Finding], dict[str, int]]:
    """Return all findings, and the density of docstrings in `src`."""
    sources = read_sources(root)
    ours = {path: text for path, text in sources.items() if path.startswith("src/")}
    findings = [each for path, text in sources.items() for each in check_python(path, text)]
    for pattern in PAGES:
        for page in sorted(root.glob(pattern)):
            findings += check_markdown(page.relative_to(root).as_posix(), page.read_text())
    for name in WITH_COMMENTS:
        if (root / name).exists():
            findings += check_comments(name, (root / name).read_text())
    return sorted([*findings, *check_classes(ours)]), densities(ours)


Counts = dict[str, dict[str, int]]


def count(findings: list[Finding], density: dict[str, int]) -> Counts:
    """Return the number of findings, and high densities, by package and kind."""
    counts: Counts = defaultdict(lambda: defaultdict(int))
    for each in findings:
        counts[each.package][each.kind] += 1
    for package, value in density.items():
        if value > DENSITY:
            counts[package]["docstring_words"] = value
    return counts


def excesses(counts: Counts, ceilings: Counts, findings: list[Finding], longest: int = 20) -> Iterator[str]:
    """Yield each count over its ceiling, with up to `longest` places."""
    for package, kinds in sorted(counts.items()):
        for kind, value in sorted(kinds.items()):
            least = DENSITY if kind == "docstring_words" else 0
            if value > (ceiling := ceilings.get(package, {}).get(kind, least)):
                yield f"{package}: {value} {KINDS[kind]}; the ceiling is {ceiling}"
                places = [str(each) for each in findings if (each.package, each.kind) == (package, kind)]
                yield from places[:longest]
                if len(places) > longest:
                    yield f"  ... and {len(places) - longest} more: python scripts/prose.py --all"


def lowered(counts: Counts, ceilings: Counts) -> Counts:
    """Return the ceilings, none higher than the present count."""
    return {
        package: {kind: min(ceiling, counts.get(package, {}).get(kind, 0)) for kind, ceiling in kinds.items()}
        for package, kinds in ceilings.items()
    }


def write_ceilings(ceilings: Counts) -> str:
    """Return the text of `prose.toml`."""
    text = "# Ceilings of scripts/prose.py: findings that each package may still have. They only go down.\n"
    for package, kinds in sorted(ceilings.items()):
        if any(kinds.values()):
            lines = "".join(f"{kind} = {value}\n" for kind, value in sorted(kinds.items()) if value)
            text += f'\n["{package}"]\n{lines}'
    return text


def main() -> int:
    """Print excesses or lower the ceilings; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="list every finding, also below a ceiling")
    parser.add_argument("--lower", action="store_true", help="lower each ceiling to the present count")
    arguments = parser.parse_args()
    findings, density = check(ROOT)
    counts = count(findings, density)
    ceilings: Counts = {} if arguments.all else tomllib.loads(CEILINGS.read_text())
    if arguments.lower:
        CEILINGS.write_text(write_ceilings(lowered(counts, ceilings)))
    elif messages := list(excesses(counts, ceilings, findings, len(findings) if arguments.all else 20)):
        print("\n".join([*messages, REMEDY]))
        return int(not arguments.all)
    return 0


if __name__ == "__main__":
    sys.exit(main())
