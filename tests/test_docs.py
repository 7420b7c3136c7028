"""The documentation matches the code: generated pages, links, commands, messages."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import prose
import reference
from retinue.settings import Settings
from retinue.wire import rendering
from running import retinue

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")),
    *sorted((ROOT / "docs").glob("*.md")),
]


def name_of(path: Path) -> str:
    """Return the name of a page."""
    return path.name


@pytest.mark.parametrize("path", reference.pages(), ids=name_of)
def test_generated_pages_are_current(path: Path) -> None:
    """`make docs` changes nothing."""
    assert reference.pages()[path] == path.read_text()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link names an existing file."""
    targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text())

    assert [] == [target for target in targets if not (page.parent / target).exists()]


def test_every_page_can_be_found_from_the_readme() -> None:
    """The README's table leads to every page of docs/."""
    linked = set(re.findall(r"\]\(docs/([^)]+)\)", (ROOT / "README.md").read_text()))

    assert {path.name for path in (ROOT / "docs").iterdir()} == linked


def test_names_and_prose_stay_below_their_ceilings() -> None:
    """`scripts/prose.py` finds no more in any package than its ceiling in `scripts/prose.toml` allows."""
    findings, density = prose.check(ROOT)
    counts = prose.count(findings, density)

    excesses = list(prose.excesses(counts, tomllib.loads(prose.CEILINGS.read_text()), findings))

    assert not excesses, "\n".join([*excesses, prose.REMEDY])


def test_every_setting_is_in_the_reference() -> None:
    """Each row of the table of settings is a flag of `serve`."""
    text = (ROOT / "docs" / "reference.md").read_text()

    assert [] == [name for name in Settings.__dataclass_fields__ if f"`--{name.replace('_', '-')}`" not in text]


def test_tests_that_security_rests_on_exist() -> None:
    """Each test or test file that the page on security names exists."""
    named = set(re.findall(r"`(test_\w+(?:\.py)?)`", (ROOT / "docs" / "security.md").read_text()))
    files = sorted((ROOT / "tests").glob("test_*.py"))
    there = {path.name for path in files}
    there |= {name for path in files for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)}

    assert named
    assert set() == named - there


def test_make_targets_that_the_docs_name_exist() -> None:
    """Every `make x` in the docs is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE)}

    assert {"demo", "test"} <= named <= targets


def test_messages_in_the_docs_are_the_ones_on_the_wire() -> None:
    """Messages that the compatibility page quotes are in the table of errors."""
    text = (ROOT / "docs" / "compatibility.md").read_text()
    messages = {spec.message.replace("{detail}", "<x>") for spec in rendering.ERRORS.values()}

    quoted = re.findall(r"`((?:username <x>|API cannot|Invalid count)[^`]*)`", text)

    assert 4 == len(set(quoted))
    assert set(quoted) <= messages


def test_the_python_of_the_page_on_events_works(tmp_path: Path) -> None:
    """As written, on a store that has the list it asks for."""
    page = (ROOT / "docs" / "events.md").read_text()
    (tmp_path / "follows.csv").write_text("follower,followee,followed_at\nanna,ben,1700000000\nanna,carla,1740000000\n")
    retinue("import", "--store", tmp_path / "graph.db", tmp_path / "follows.csv")
    code = page.split("```python\n")[1].split("```")[0]
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout == "[Row(display_name='', username='ben')] 1699999999 False\n"


def test_modules_in_the_glossary_exist() -> None:
    """Each term of the glossary is listed once, with a module or package that exists."""
    lines = (ROOT / "docs" / "glossary.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    terms = {term: place.strip("`") for term, _, place in rows if term not in {"term", "---"}}

    assert len(terms) == len(rows) - 2 * sum(row[0] == "---" for row in rows)
    assert [] == [place for place in terms.values() if not (ROOT / "src" / "retinue" / place).exists()]


def test_anchors_in_links_name_a_heading() -> None:
    """A link to a part of a page leads to one of its headings."""
    broken = []
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([\w./-]*\.md)?#([^)]+)\)", page.read_text()):
            text = ((page.parent / target) if target else page).read_text()
            headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            broken += [f"{page.name}: {target}#{anchor}"] if anchor not in anchors else []

    assert [] == broken


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md", "docs/why.md"])
def test_files_that_pages_name_exist(name: str) -> None:
    """Each path in backquotes is one of a file of the source, the tests or the scripts."""
    named = set(re.findall(r"`((?:\w+/)+\w+\.(?:py|sql|cql|toml))`", (ROOT / name).read_text()))

    assert [] == [path for path in named if not ((ROOT / "src" / "retinue" / path).exists() or (ROOT / path).exists())]
