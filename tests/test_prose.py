"""The lint of names and prose, on small examples."""

import prose
from wrap import wrapped


def kinds_of(findings: list[prose.Finding]) -> list[str]:
    """Return the kinds of some findings, in order of their lines."""
    return [each.kind for each in sorted(findings, key=lambda each: each.line)]


def test_openings_are_found_in_docstrings_comments_and_messages() -> None:
    """A sentence that begins with a free relative is found wherever a reader meets it."""
    source = '''"""What this file holds."""

# Where it is empty, nothing is printed.
print("Who asks first is served.")
'''

    assert ["openings"] * 3 == kinds_of(list(prose.check_python("src/retinue/x.py", source)))


def test_questions_and_inner_words_are_allowed() -> None:
    """`What is it?` is a question, and a word in the middle of a sentence no opening."""
    page = "What does it cost?\n\nOne page shows who asked, and\nwhat was answered."

    assert [] == list(prose.check_markdown("docs/x.md", page))


def test_banned_words_and_terms_are_found_across_lines() -> None:
    """A phrase is found if a line ends in its middle; code in backquotes is left out."""
    page = "It is sent to any server that is\nthere by the keeper, not `keeper`."

    assert ["words", "terms"] == [each.kind for each in prose.check_markdown("docs/x.md", page)]


def test_long_first_sentences_are_found() -> None:
    """The limit is 12 words in source, and 20 in tests."""
    source = f'"""Return {"word " * 15}."""\n'

    assert ["first_lines"] == kinds_of(list(prose.check_python("src/retinue/x.py", source)))
    assert [] == list(prose.check_python("tests/test_x.py", source))


def test_test_names_are_checked() -> None:
    """A banned word in the name of a test is found."""
    source = "def test_whoever_asks() -> None: ...\ndef test_clients_that_ask() -> None: ..."

    assert ["test_whoever_asks"] == [each.text for each in prose.check_python("tests/test_x.py", source)]


def test_wide_lines_of_pages_are_found() -> None:
    """Lines of text have at most 120 columns; tables and code are exempt."""
    wide = "word " * 30
    page = f"{wide}\n\n```\n{wide}\n```\n\n| a | b |\n| --- | --- |\n| {wide} | x |\n"

    assert [(1, "wide_lines")] == [(each.line, each.kind) for each in prose.check_markdown("docs/x.md", page)]


def test_a_public_class_name_is_defined_once() -> None:
    """Two modules of the source do not share the name of a class, private ones aside."""
    sources = {"src/a.py": "class A: ...\nclass _B: ...", "src/b.py": "class A: ...\nclass _B: ..."}

    assert ["A, also in src/a.py"] == [each.text for each in prose.check_classes(sources)]


def test_density_is_words_of_docstrings_for_100_lines() -> None:
    """Four words of docstring in four lines are 100 for 100 lines."""
    assert {"src/retinue/web": 100} == prose.densities({"src/retinue/web/x.py": '"""One two three four."""\n\n\n\n'})


def test_an_excess_names_its_places_and_the_ceiling() -> None:
    """A count over its ceiling is reported with each place; a missing ceiling is zero."""
    findings = list(prose.check_markdown("docs/x.md", "Ask anew, anew."))
    counts = prose.count(findings, {"src/retinue/web": 90})

    assert [] == list(prose.excesses(counts, {"docs/x.md": {"words": 2}}, findings))
    first, *places = prose.excesses(counts, {}, findings)
    assert "the ceiling is 0" in first
    assert ["  docs/x.md:1: anew"] * 2 == places


def test_ceilings_only_go_down() -> None:
    """`--lower` takes the smaller of ceiling and count, and leaves out what is at zero."""
    lowered = prose.lowered({"a": {"words": 5, "terms": 1}}, {"a": {"words": 3, "terms": 2}, "b": {"words": 1}})

    assert {"a": {"words": 3, "terms": 1}, "b": {"words": 0}} == lowered
    assert "words = 3" in prose.write_ceilings(lowered)
    assert '["b"]' not in prose.write_ceilings(lowered)


def test_wrapping_keeps_tables_code_and_lists() -> None:
    """Paragraphs and list items are filled to 120 columns, all else stays; wrapping twice changes nothing."""
    words = "word " * 40
    page = f"# Title\n\n{words}\n{words}\n\n- {words}\n  more\n- b\n\n```\n{words}\n```\n\n| {words} |\n| --- |\n"

    text = wrapped(page)

    assert [] == [each for each in prose.check_markdown("docs/x.md", text) if each.kind == "wide_lines"]
    assert text.count("word") == page.count("word")
    assert f"```\n{words}\n```" in text
    assert "\n  word" in text
    assert wrapped(text) == text


def test_comments_need_no_capital_letter_to_be_found() -> None:
    """A comment behind a line of code may begin with a small letter."""
    assert ["openings"] == kinds_of(list(prose.check_python("src/retinue/x.py", "x = 1  # what is left\n")))
