"""The sample graph: reproducible, valid, and shaped like a real one."""

import csv
from collections import Counter
from hashlib import sha256
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retinue.errors import InputError
from retinue.sample import PAGE_OWNER, PAGE_ROWS, SampleSize, _shuffled, write_sample
from retinue.sample_files import CsvFiles, ParquetFiles
from support.commands import imported, list_of, retinue, tally
from support.thorough import examples


def rows_of(path: Path) -> list[dict[str, str]]:
    """A CSV file's rows."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    """And another seed gives another graph."""

    def made(seed: int, name: str) -> list[bytes]:
        return [path.read_bytes() for path in write_sample(SampleSize(500, 5_000, seed), tmp_path / name)]

    assert made(7, "a") == made(7, "b")
    assert made(7, "a") != made(8, "c")


def test_the_bytes_of_a_seed_stay_the_same_over_versions(tmp_path: Path) -> None:
    """Figures that were measured on a sample can be compared with later ones."""
    made = b"".join(path.read_bytes() for path in write_sample(SampleSize(5_000, 100_000, 1), tmp_path))

    assert "3c5184c9a05b1d491e2580b7cc556e0d5927f9678b5a3a4f9dd6d4a56c8baad4" == sha256(made).hexdigest()


def test_parquet_holds_the_same_rows_in_the_same_order(tmp_path: Path) -> None:
    """Only how they are written differs."""
    size = SampleSize(500, 5_000, 7)
    tables = [
        [duckdb.execute(f"FROM read_{kind}('{path}')").fetchall() for path in write_sample(size, tmp_path, files)]
        for kind, files in (("parquet", ParquetFiles), ("csv", CsvFiles))
    ]

    text = [[[str(value or "").lower() for value in row] for table in kind for row in table] for kind in tables]
    assert text[0] == text[1]
    assert 5_500 == len(text[0])


@pytest.mark.parametrize("luck", [[0.5, 0.25, 0.25, 0.125], [0.5, 0.2500000000000001, 0.25, 0.125]])
def test_pairs_are_shuffled_by_all_digits_of_their_luck(luck: list[float]) -> None:
    """Also where two are so close that the sort key cannot tell them apart."""
    followers = np.array([3, 4, 4, 1 << 20])

    assert np.lexsort((np.array(luck), followers)).tolist() == _shuffled(followers, np.array(luck)).tolist()


@settings(max_examples=examples(50))
@given(accounts=st.integers(5, 60), share=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_every_size_is_made_exactly(
    tmp_path_factory: pytest.TempPathFactory, accounts: int, share: float, seed: int
) -> None:
    """The sample has exactly so many accounts and follows, no pair twice, and no account follows itself."""
    most = (accounts - 1) * max(1, accounts // 3) + len(PAGE_ROWS)
    follows = len(PAGE_ROWS) + int(share * (most - len(PAGE_ROWS)))

    paths = write_sample(SampleSize(accounts, follows, seed), tmp_path_factory.mktemp("sample"))

    names = [row["username"] for row in rows_of(paths[0])]
    pairs = {(row["follower"], row["followee"]) for row in rows_of(paths[1])}
    assert (accounts, follows) == (len(set(names)), len(pairs))
    assert follows == len(rows_of(paths[1]))
    assert not any(follower == followee for follower, followee in pairs)
    assert {name for pair in pairs for name in pair} <= set(names)


def test_the_sample_behaves_like_a_real_graph(tmp_path: Path) -> None:
    """Few have most of the follows in both directions; bursts, scripts and every visibility occur."""
    accounts, follows = (rows_of(path) for path in write_sample(SampleSize(5_000, 100_000, 1), tmp_path))

    following = Counter(row["follower"] for row in follows)
    followers = Counter(row["followee"] for row in follows)
    for counts in (following, followers):
        ordered = sorted(counts.values(), reverse=True)
        assert sum(ordered[: len(accounts) // 10]) > sum(ordered) * 0.3
    seconds = Counter((row["follower"], row["followed_at"]) for row in follows)
    assert sum(count > 1 for count in seconds.values()) > 1_000
    assert {"public", "following_hidden", "private", "withheld"} == {row["visibility"] for row in accounts}
    assert any(not row["display_name"].isascii() for row in accounts)
    assert any(not row["username"].isascii() for row in accounts)


def test_a_sample_is_imported_without_a_reject_and_holds_the_page_of_the_documentation(
    store_path: Path, tmp_path: Path
) -> None:
    """`import` reads the output of `generate`, and `test_user` has the list of the documentation."""
    done = retinue("generate", "--accounts", "300", "--follows", "3000", "--seed", "3", "-o", tmp_path / "sample")
    accounts, follows = map(Path, done.stdout.split())

    code, report = imported(store_path, "--accounts", accounts, follows)

    assert (0, {"accounts.csv": tally(accepted=300), "follows.csv": tally(accepted=3000)}) == (code, report)
    assert [(name, display_name) for name, display_name, _ in PAGE_ROWS] == list_of(store_path, PAGE_OWNER)


@pytest.mark.parametrize(("accounts", "follows"), [(4, 4), (100, 3), (100, 100_000)])
def test_impossible_sizes(tmp_path: Path, accounts: int, follows: int) -> None:
    """The error says what is possible."""
    with pytest.raises(InputError, match=r"at least 5|can have 4 to 3271"):
        write_sample(SampleSize(accounts, follows, 1), tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """The error names it."""
    (tmp_path / "file").write_text("")

    with pytest.raises(InputError, match="file/sample: cannot be written"):
        write_sample(SampleSize(10, 10, 1), tmp_path / "file" / "sample")
