"""The row file: rows of all accounts, ready for the wire, mapped by all workers.

It is derived from the store and has one writer.
"""

import mmap
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from zlib import crc32

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

# An account's slot of 64 bytes, at its id, has 60 bytes of text and a checksum over text and id. A slot that fails the
# checksum is empty, half written, damaged or too small for its text: its row is read from the store. A hidden account
# has no text.
SLOT_BYTES = 64
TEXT_BYTES = 60
HEADER_SLOTS = 64  # one page
GROWTH = 65_536  # slots that are added at once

SLOTS_AT_ONCE = 20_000  # of a check

_ZEROED_AT_ONCE = 1 << 24
_MAGIC = b"RTNROWS1"
_SLOT = np.dtype([("text", f"S{TEXT_BYTES}"), ("check", "<u4")])
_WORDS = SLOT_BYTES // 4
_SEED = np.uint32(0x9E3779B1)
_HEADER = np.dtype([("magic", "S8"), ("store", "S32"), ("boot", "S36"), ("revision", "<u8"), ("last_id", "<u8")])
_HEADER_BYTES = _HEADER.itemsize  # then a checksum of four bytes

Ids = NDArray[np.uint32]
Slots = tuple[list[bytes], NDArray[np.bool_], NDArray[np.bool_]]  # texts, which are whole, which are empty


def _factors() -> NDArray[np.uint32]:
    """Return odd factors: any changed word changes the sum of products."""
    factors = np.random.default_rng(20201).integers(0, 1 << 32, _WORDS, dtype=np.uint32) | np.uint32(1)
    factors[-1] = 0xFFFFFFFF
    return factors


_FACTORS = _factors()


class State(Struct, frozen=True):
    """The origin of a row file: store, boot of the machine, last change and account."""

    store: str = ""
    boot: str = ""
    revision: int = 0
    last_id: int = 0


class RowFile:
    """The row file, for reading."""

    def __init__(self, path: Path) -> None:
        """Map the file. Raises `OSError` or `ValueError` if it is unusable."""
        self._path = path
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(self._map) < HEADER_SLOTS * SLOT_BYTES or len(self._map) % SLOT_BYTES or self._map[:8] != _MAGIC:
            raise ValueError(f"{path}: is no row file")
        self._words = np.frombuffer(self._map, "<u4", offset=HEADER_SLOTS * SLOT_BYTES).reshape(-1, _WORDS)

    @property
    def state(self) -> State:
        """The origin of the file, empty if its header is damaged."""
        header_bytes = self._map[: _HEADER_BYTES + 4]
        if crc32(header_bytes[:_HEADER_BYTES]) != int.from_bytes(header_bytes[_HEADER_BYTES:], "little"):
            return State()
        header = np.frombuffer(header_bytes, _HEADER, 1)[0]
        return State(header["store"].decode(), header["boot"].decode(), int(header["revision"]), int(header["last_id"]))

    def has_grown(self) -> bool:
        return self._path.stat().st_size != len(self._map)

    def texts(self, ids: Ids) -> list[bytes | None]:
        """Return texts, empty for hidden accounts, None for missing ones."""
        if not len(self._words):
            return [None] * len(ids)
        words = self._words.take(ids, axis=0, mode="clip")  # the checksum refuses the slot of another id
        is_whole = words @ _FACTORS == ids * _SEED
        texts: list[bytes | None] = words.view(_SLOT)["text"].ravel().tolist()
        if not is_whole.all():
            for index in np.flatnonzero(~is_whole).tolist():
                texts[index] = None
        return texts

    def slots(self, first: int) -> Slots:
        """Return texts, wholeness and emptiness of slots from an id on."""
        words = self._words[first : first + SLOTS_AT_ONCE].copy()
        ids = np.arange(first, first + len(words), dtype=np.uint32)
        is_whole = np.asarray(words @ _FACTORS == ids * _SEED)
        is_empty = np.asarray(~words.any(axis=1))
        return words.view(_SLOT)["text"].ravel().tolist(), is_whole, is_empty


class RowFileWriter:
    """The row file, for its one writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(self._descriptor).st_size < HEADER_SLOTS * SLOT_BYTES:
            os.ftruncate(self._descriptor, HEADER_SLOTS * SLOT_BYTES)

    def state(self) -> State:
        with suppress(ValueError):
            return RowFile(self._path).state
        return State()

    def save_state(self, state: State) -> None:
        """Save the origin of the file. Call after its rows were written."""
        header = np.zeros(1, _HEADER)
        header[0] = (_MAGIC, state.store.encode(), state.boot.encode(), state.revision, state.last_id)
        content = header.tobytes()
        os.pwrite(self._descriptor, content + crc32(content).to_bytes(4, "little"), 0)

    def write(self, ids: Sequence[int], texts: Sequence[bytes | None]) -> None:
        """Write the texts of ascending accounts; None leaves a slot empty."""
        if not ids:
            return
        self._grow(ids[-1])
        for first, last in _ranges(ids):
            self._write_range(ids[first], texts[first:last])

    def clear(self) -> None:
        """Zero everything. The size stays, since readers have mapped the file."""
        size = os.fstat(self._descriptor).st_size
        for begin in range(0, size, _ZEROED_AT_ONCE):
            os.pwrite(self._descriptor, bytes(min(_ZEROED_AT_ONCE, size - begin)), begin)

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

    def _grow(self, last_id: int) -> None:
        needed = (HEADER_SLOTS + last_id + 1) * SLOT_BYTES
        if os.fstat(self._descriptor).st_size < needed:
            os.ftruncate(self._descriptor, needed + GROWTH * SLOT_BYTES)

    def _write_range(self, first: int, texts: Sequence[bytes | None]) -> None:
        slots = np.zeros(len(texts), _SLOT)
        slots["text"] = [b"" if text is None or len(text) > TEXT_BYTES else text for text in texts]
        ids = np.arange(first, first + len(texts), dtype=np.uint32)
        words = slots.view("<u4").reshape(-1, _WORDS)
        words[:, -1] = words[:, :-1] @ _FACTORS[:-1] - ids * _SEED
        is_left_out = np.fromiter((text is None or len(text) > TEXT_BYTES for text in texts), np.bool_, len(texts))
        words[is_left_out] = 0
        os.pwrite(self._descriptor, slots.tobytes(), (HEADER_SLOTS + first) * SLOT_BYTES)


def _ranges(ids: Sequence[int]) -> Iterable[tuple[int, int]]:
    """Yield the bounds of adjacent ids."""
    begin = 0
    for index in range(1, len(ids) + 1):
        if index == len(ids) or ids[index] != ids[index - 1] + 1:
            yield begin, index
            begin = index
