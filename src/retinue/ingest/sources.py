"""The files that an import is given: which kind each is, and a regular file to read it from.

Tables are read more than once, and some from their end. So an input that can be read only once (a named pipe, a
process substitution, standard input) is copied to a temporary file first.
"""

import gzip
import stat
import tempfile
import zlib
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO, cast

from retinue.errors import InputError

KINDS = (".csv", ".jsonl", ".parquet")
PARQUET_MAGIC = b"PAR1"

_STANDARD_INPUT = ("-", "/dev/stdin")
_GZIP_MAGIC = b"\x1f\x8b"
_BEGINNING_BYTES = 1 << 12
_COPIED_BYTES = 1 << 20


Folder = tempfile.TemporaryDirectory[str]


class Source:
    """An input. `name` is what the user called it, `path` a regular file with its bytes."""

    def __init__(self, name: str, path: Path, suffixes: list[str], folder: Folder | None = None) -> None:
        self.name = name
        self.path = path
        self.is_packed = suffixes[-1:] == [".gz"]
        self.kind = "".join((suffixes[:-1] if self.is_packed else suffixes)[-1:])
        self._folder = folder

    def close(self) -> None:
        """Remove the copy, if there is one."""
        if self._folder is not None:
            self._folder.cleanup()

    def open(self) -> BinaryIO:
        """Open the bytes of the input, unpacked."""
        return cast("BinaryIO", gzip.open(self.path)) if self.is_packed else self.path.open("rb")


def open_source(path: Path) -> Source:
    """Find an input and its kind: by its suffix; by its content if it is a pipe without one."""
    name = str(path)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if name in _STANDARD_INPUT or not _is_regular(path):
        return _copied(name, suffixes)
    return _of_known_kind(Source(name, path, suffixes))


def _is_regular(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _unreadable(str(path), error) from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path}: cannot be read: Is a directory")
    return stat.S_ISREG(mode)


def _of_known_kind(source: Source) -> Source:
    if source.kind not in KINDS:
        raise InputError(f"{source.name}: unknown kind of file; expected {', '.join(KINDS)}, each also with .gz")
    return source


def _copied(name: str, suffixes: list[str]) -> Source:
    folder = tempfile.TemporaryDirectory(prefix="retinue-")
    try:
        path = Path(folder.name) / "input"
        _copy(name, path)
        source = Source(name, path, suffixes, folder)
        return source if source.kind in KINDS else Source(name, path, _suffixes_of(path), folder)
    except BaseException:
        folder.cleanup()
        raise


def _copy(name: str, path: Path) -> None:
    """Copy what can be read only once. Errors of either side name it."""
    try:
        raw = FileIO(0, closefd=False) if name in _STANDARD_INPUT else FileIO(name)
    except OSError as error:
        raise _unreadable(name, error) from error
    with raw, path.open("wb") as copy:
        while piece := _read(name, raw):
            try:
                copy.write(piece)
                copy.flush()
            except OSError as error:
                raise InputError(f"{name}: no copy of it can be made: {error.strerror} (TMPDIR says where)") from error


def _read(name: str, raw: FileIO) -> bytes:
    try:
        return raw.read(_COPIED_BYTES) or b""
    except OSError as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: OSError) -> InputError:
    return InputError(f"{name}: cannot be read: {error.strerror}")


def _suffixes_of(path: Path) -> list[str]:
    """The suffixes that would fit the content of a file."""
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING_BYTES)
    packing = [".gz"] if beginning.startswith(_GZIP_MAGIC) else []
    if packing:
        beginning = b""
        with suppress(OSError, EOFError, zlib.error), gzip.open(path) as unpacked:
            beginning = unpacked.read(_BEGINNING_BYTES)
    if beginning.startswith(PARQUET_MAGIC):
        return [".parquet", *packing]
    is_json = beginning.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    return [".jsonl" if is_json else ".csv", *packing]
