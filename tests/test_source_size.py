"""The size figures of the source are counted right."""

import source_size

SOURCES = {
    "one.py": '"""Two words."""\n\nfrom retinue.two import b\n\n\ndef a() -> None:\n    pass\n',
    "two.py": "from retinue import one\n\nb = one\n",
    "three.py": "def late() -> None:\n    from retinue import one\n",
    "store/large.py": "x = 1\n" * 1_000,
    "empty/__init__.py": "",
}


def test_size_figures_leave_out_the_store_and_empty_files() -> None:
    """Lines, files, functions and docstrings are counted outside `store/`."""
    figures = source_size.measure(SOURCES)

    assert (12, 3, 100) == (figures.lines, figures.files, figures.small_files_percent)
    assert (2, 2) == (figures.function_lines_p90, figures.longest_function_lines)
    assert 100 * 2 / 12 == figures.docstring_words_per_100_lines


def test_import_cycles_are_found() -> None:
    """Modules that import each other at once are a cycle; an import inside a function makes none."""
    assert [{"one", "two"}] == list(source_size.cycles(source_size.imports(SOURCES)))


def test_the_figures_of_this_checkout_are_printed() -> None:
    """Each figure has a line."""
    lines = list(source_size.table([source_size.measure(source_size.read_sources(source_size.ROOT))]))

    assert len(source_size.Figures.__slots__) == len(lines)
