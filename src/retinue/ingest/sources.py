"""Input files of an import: the kind of each, and a regular file to read it from.

Tables are read more than once, so pipes and standard input are copied to a temporary file without a name.
"""

import gzip
import stat
import tempfile
import zlib
from contextlib import ExitStack, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO, cast

from retinue.errors import InputError

KINDS = (".csv", ".jsonl", ".parquet")
PARQUET_MAGIC = b"PAR1"
BOM = b"\xef\xbb\xbf"

_STANDARD_INPUT = ("-", "/dev/stdin")
_GZIP_MAGIC = b"\x1f\x8b"
_BEGINNING_BYTES = 1 << 12
_COPIED_BYTES = 1 << 20


class InputFile:
    """An input. `name` is the user's, `path` a regular file with its bytes."""

    def __init__(self, name: str, path: Path, suffixes: list[str], copy: FileIO | None = None) -> None:
        self.name = name
        self.path = path
        self.is_packed = suffixes[-1:] == [".gz"]
        self.kind = "".join((suffixes[:-1] if self.is_packed else suffixes)[-1:])
        self._copy = copy

    def close(self) -> None:
        """Close the copy, if any."""
        if self._copy is not None:
            self._copy.close()

    def open(self) -> BinaryIO:
        """Open the unpacked bytes."""
        return cast("BinaryIO", gzip.open(self.path)) if self.is_packed else self.path.open("rb")


def open_source(path: Path, *, is_whole: bool = False) -> InputFile:
    """Open an input. Its suffix tells its kind, or the content of a pipe without one. Raises `InputError`."""
    name = str(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if name in _STANDARD_INPUT or not _is_regular(path):
        return _copied(name, suffixes, is_whole)
    source = InputFile(name, path, suffixes)
    if source.kind not in KINDS:
        raise InputError(f"{name}: unknown kind of file; expected {', '.join(KINDS)}, each also with .gz")
    return source


def _is_regular(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise unreadable(str(path), error) from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path}: cannot be read: Is a directory")
    return stat.S_ISREG(mode)


def _copied(name: str, suffixes: list[str], is_whole: bool) -> InputFile:
    with ExitStack() as opened:
        copy = opened.enter_context(tempfile.TemporaryFile(prefix="retinue-", buffering=0))
        is_pipe = _copy(name, copy)
        path = Path(f"/proc/self/fd/{copy.fileno()}")
        source = InputFile(name, path, suffixes, copy)
        source = source if source.kind in KINDS else InputFile(name, path, _suffixes_of(path), copy)
        if is_whole and is_pipe and not source.is_packed and source.kind != ".parquet":
            raise InputError(
                f"{name}: is a pipe, whose end does not tell whether a full dump is complete; save it to a file"
                " first, or send it as gzip or Parquet"
            )
        opened.pop_all()
        return source


def _copy(name: str, copy: FileIO) -> bool:
    """Copy an input. Return whether it is a pipe."""
    try:
        raw = FileIO(0, closefd=False) if name in _STANDARD_INPUT else FileIO(name)
    except OSError as error:
        raise unreadable(name, error) from error
    with raw:
        while piece := _read(name, raw):
            try:
                while piece:
                    piece = piece[copy.write(piece) :]
            except OSError as error:
                raise InputError(f"{name}: no copy of it can be made: {error.strerror} (TMPDIR says where)") from error
        return not raw.seekable()


def _read(name: str, raw: FileIO) -> bytes:
    try:
        return raw.read(_COPIED_BYTES) or b""
    except OSError as error:
        raise unreadable(name, error) from error


def unreadable(name: str, error: OSError) -> InputError:
    """Return the error for an input that cannot be read."""
    return InputError(f"{name}: cannot be read: {error.strerror}")


def _suffixes_of(path: Path) -> list[str]:
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING_BYTES)
    packing = [".gz"] if beginning.startswith(_GZIP_MAGIC) else []
    if packing:
        beginning = b""
        with suppress(OSError, EOFError, zlib.error), gzip.open(path) as unpacked:
            beginning = unpacked.read(_BEGINNING_BYTES)
    if beginning.startswith(PARQUET_MAGIC):
        return [".parquet", *packing]
    is_json = beginning.removeprefix(BOM).lstrip().startswith(b"{")
    return [".jsonl" if is_json else ".csv", *packing]
