"""Checksums of values, over table, key and content.

A damaged value, or one that is at another key than its own, is never taken for a right one.
"""

from collections.abc import Iterable
from zlib import crc32

from retinue.errors import StoreUnavailable
from retinue.store.layout.tables import META, Key, KeyKind, Source, Table

SEAL_BYTES = 4


def seal(table: Table, key: Key, content: bytes) -> bytes:
    """Return content with its checksum."""
    return content + crc32(content, _seed(table, key)).to_bytes(SEAL_BYTES, "little")


def seal_all(table: Table, rows: Iterable[tuple[Key, bytes]]) -> list[tuple[Key, bytes]]:
    """Return rows with their checksums, as `seal` makes them."""
    number = table.number
    if table.keys is KeyKind.TEXT:
        return [
            (key, content + crc32(content, crc32(key.encode("utf-8", "surrogatepass"), number)).to_bytes(4, "little"))  # type: ignore[union-attr]
            for key, content in rows
        ]
    return [
        (key, content + crc32(content, crc32(key.to_bytes(8, "little"), number)).to_bytes(4, "little"))  # type: ignore[union-attr]
        for key, content in rows
    ]


def unseal(table: Table, key: Key, value: object) -> bytes:
    """Return the content of a stored value. Raises `StoreUnavailable` if it is damaged."""
    if type(value) is not bytes or len(value) < SEAL_BYTES:
        raise damaged(table, key, "its value is not whole")
    content = value[:-SEAL_BYTES]
    if crc32(content, _seed(table, key)).to_bytes(SEAL_BYTES, "little") != value[-SEAL_BYTES:]:
        raise damaged(table, key, "its checksum is wrong")
    return content


def content_of(source: Source, table: Table, key: Key) -> bytes | None:
    """Return the content of a stored row, or None."""
    (value,) = source.get(table, (key,))
    return None if value is None else unseal(table, key, value)


def number_of(source: Source, name: str) -> int:
    """Return one of the store's own numbers, by default 0."""
    return int.from_bytes(content_of(source, META, name) or b"", "little")


def damaged(table: Table, key: Key, how: str) -> StoreUnavailable:
    """Return the error for a damaged row. Text keys are names, which no log may contain."""
    if isinstance(key, str):
        where = "a row"
    elif table.keys.value == "pair":
        where = f"row {key >> 32}/{key & 0xFFFFFFFF}"
    else:
        where = f"row {key}"
    return StoreUnavailable(f"table {table.name}, {where}: {how}; it is damaged")


def _seed(table: Table, key: Key) -> int:
    if isinstance(key, str):
        return crc32(key.encode("utf-8", "surrogatepass"), table.number)
    return crc32(key.to_bytes(8, "little"), table.number)
