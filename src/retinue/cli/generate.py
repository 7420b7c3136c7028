"""`retinue generate`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from retinue.cli.commands import flag
from retinue.cli.output import print_line


class FileFormat(StrEnum):
    """The formats of tables."""

    CSV = "csv"
    PARQUET = "parquet"


def generate(
    accounts: Annotated[int, flag("accounts", "Number of accounts.")] = 10_000,
    follows: Annotated[int, flag("follows", "Number of follows.")] = 200_000,
    seed: Annotated[int, flag("seed", "The same seed gives the same bytes.", min=0)] = 1,
    kind: Annotated[FileFormat, flag("format", "Format of the files.")] = FileFormat.CSV,
    output: Annotated[Path, flag("output", "Folder for the files accounts and follows.", "-o")] = Path("sample"),
) -> None:
    """Write a realistic sample graph as import files; it includes `test_user`."""
    from retinue.sample import SampleSize, write_sample
    from retinue.sample_files import CsvFiles, ParquetFiles

    files_of = ParquetFiles if kind is FileFormat.PARQUET else CsvFiles
    for path in write_sample(SampleSize(accounts, follows, seed), output, files_of):
        print_line(str(path))
