"""Kinds of damage to a file, each drawn from a seeded generator, and what of a store can be damaged."""

import random
import re
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw

PAGE = 4096
SLOT_BYTES = 64  # of a row file
READ_TABLES = ("account", "username", "following", "followers", "following_hidden", "followers_hidden")
_LONGEST_RANGE = 600
_HOSTILE: tuple[Any, ...] = (
    *(None, -1, 0, 1, 4, 60, 2**31, 2**32 - 1, 2**32, 2**40, 2**62, -(2**63), 1.5, "", "x", "\0", "name\x1b[2J"),
    *(b"", b"\0", b"\xff" * 7, b"\xff" * 8, b"\0" * 32, b"\xff" * 2000, "9" * 400, "x" * 100_000),
)


def flip_bit(data: bytearray, draw: random.Random) -> None:
    """Flip one bit."""
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def flip_some(data: bytearray, draw: random.Random) -> None:
    """Change some bytes close to each other."""
    start = draw.randrange(len(data))
    for _ in range(draw.randint(2, 12)):
        data[min(len(data) - 1, start + draw.randrange(40))] = draw.randrange(256)


def zero_range(data: bytearray, draw: random.Random) -> None:
    """Overwrite a range with zeros."""
    start = draw.randrange(len(data))
    end = min(len(data), start + draw.randint(1, _LONGEST_RANGE))
    data[start:end] = bytes(end - start)


def fill_range(data: bytearray, draw: random.Random) -> None:
    """Overwrite a range with random bytes or ones."""
    start = draw.randrange(len(data))
    end = min(len(data), start + draw.randint(1, _LONGEST_RANGE))
    data[start:end] = draw.randbytes(end - start) if draw.random() < 0.5 else b"\xff" * (end - start)


def zero_page(data: bytearray, draw: random.Random) -> None:
    """Lose a whole page, as a bad sector does."""
    start = draw.randrange(len(data)) // PAGE * PAGE
    end = min(len(data), start + PAGE)
    data[start:end] = bytes(end - start)


def swap_pages(data: bytearray, draw: random.Random) -> None:
    """Swap two pages; in a short file two ranges."""
    size = PAGE if len(data) > 2 * PAGE else max(1, len(data) // 8)
    count = len(data) // size
    one, other = (draw.randrange(count) * size for _ in range(2))
    data[one : one + size], data[other : other + size] = data[other : other + size], data[one : one + size]


def copy_page(data: bytearray, draw: random.Random) -> None:
    """Write a page over another one, as a misdirected write does."""
    count = max(1, len(data) // PAGE)
    one, other = (draw.randrange(count) * PAGE for _ in range(2))
    data[other : other + PAGE] = data[one : one + PAGE]


def swap_lines(data: bytearray, draw: random.Random) -> None:
    """Swap two lines, or repeat one."""
    lines = data.splitlines(keepends=True)
    one, other = (draw.randrange(len(lines)) for _ in range(2))
    lines[one], lines[other] = lines[other], lines[one] if draw.random() < 0.7 else lines[other]
    data[:] = b"".join(lines)


def truncate(data: bytearray, draw: random.Random) -> None:
    """Lose the end."""
    keep = draw.randrange(len(data))
    del data[keep // PAGE * PAGE if draw.random() < 0.4 else keep :]


def lengthen(data: bytearray, draw: random.Random) -> None:
    """Append what does not belong there."""
    data += draw.choice((draw.randbytes(draw.randint(1, PAGE)), bytes(PAGE), data[:PAGE], b"{}\n", b"[" * 20_000))


def spoil_header(data: bytearray, draw: random.Random) -> None:
    """Change a byte of the file's first hundred."""
    data[draw.randrange(min(100, len(data)))] = draw.randrange(256)


def hostile_number(data: bytearray, draw: random.Random) -> None:
    """Put another number in the place of one that is written in digits."""
    found = list(re.finditer(rb"-?\d+", bytes(data)))
    if not found:
        return flip_bit(data, draw)
    place = draw.choice(found)
    other = draw.choice((b"-1", b"0", b"1e999", b"9" * 19, b"9" * 400, b"null", b'"x"', b"1.5", b"[]", b"true"))
    data[place.start() : place.end()] = other
    return None


Kind = Callable[[bytearray, random.Random], None]
ON_ANY: tuple[Kind, ...] = (flip_bit, flip_some, zero_range, fill_range, swap_pages, truncate, lengthen, spoil_header)
ON_DATABASE: tuple[Kind, ...] = (*ON_ANY, zero_page, copy_page, swap_pages)
ON_TEXT: tuple[Kind, ...] = (*ON_ANY, swap_lines, hostile_number, hostile_number)


def swap_slots(data: bytearray, draw: random.Random) -> None:
    """Swap two rows of a row file, or repeat one."""
    count = len(data) // SLOT_BYTES
    one, other = (draw.randrange(count) * SLOT_BYTES for _ in range(2))
    first, second = bytes(data[one : one + SLOT_BYTES]), bytes(data[other : other + SLOT_BYTES])
    data[other : other + SLOT_BYTES] = first
    if draw.random() < 0.5:
        data[one : one + SLOT_BYTES] = second


ON_ROWS: tuple[Kind, ...] = (*ON_ANY, swap_slots, swap_slots)


def spoil_row(path: Path, draw: random.Random) -> str:
    """Flip a bit of a stored row, shorten it, or give it the value of another row."""
    with closing(apsw.Connection(str(path))) as connection:
        table, other = draw.choices(*_tables(connection), k=2)
        key, value = _row(connection, table, draw)
        how = draw.choice(("flipped", "shortened", "another's", "another table's", "swapped"))
        if how == "flipped":
            at = draw.randrange(len(value))
            values = {key: value[:at] + bytes((value[at] ^ 1 << draw.randrange(8),)) + value[at + 1 :]}
        elif how == "shortened":
            values = {key: value[: draw.randrange(len(value))]}
        else:
            other_key, other_value = _row(connection, other if how == "another table's" else table, draw)
            values = {key: other_value} | ({other_key: value} if how == "swapped" else {})
        for each, content in values.items():
            connection.execute(f"UPDATE {table} SET value = ? WHERE key = ?", (content, each))
    return f"{table}: {how}"


def lose_row(path: Path, draw: random.Random) -> str:
    """Lose a row whole, or its last change: no checksum tells."""
    old = path.with_name("older.db")
    shutil.copy(path, old)  # without its log
    with closing(apsw.Connection(str(path))) as connection, closing(apsw.Connection(str(old))) as before:
        tables, weights = _tables(connection)
        if draw.random() < 0.5:
            (table,) = draw.choices(tables, weights)
            key, _ = _row(connection, table, draw)
            connection.execute(f"DELETE FROM {table} WHERE key = ?", (key,))
            told = "lost"
        else:
            rows: dict[str, dict[Any, Any]] = {
                table: dict(connection.execute(f"SELECT key, value FROM {table}").fetchall())  # type: ignore[arg-type]
                for table in tables
            }
            older = [
                (table, key, value)
                for table in tables
                for key, value in before.execute(f"SELECT key, value FROM {table}").fetchall()
                if rows[table].get(key) != value
            ]
            table, key, value = draw.choice(older)
            connection.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", (key, value))
            told = "older"
    for each in path.parent.glob("older.db*"):
        each.unlink()
    return f"{table}: {told}"


def _tables(connection: apsw.Connection) -> tuple[list[str], list[int]]:
    """Return the tables that have rows, with weights."""
    schema = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    counts = {str(name): int(connection.execute(f"SELECT count(*) FROM {name}").get) for (name,) in schema}
    tables = [name for name, count in counts.items() if count]
    return tables, [3 if name in READ_TABLES else 1 for name in tables]


def _row(connection: apsw.Connection, table: str, draw: random.Random) -> tuple[Any, bytes]:
    count = int(connection.execute(f"SELECT count(*) FROM {table}").get)
    query = f"SELECT key, value FROM {table} LIMIT 1 OFFSET {draw.randrange(count)}"
    ((key, value),) = connection.execute(query).fetchall()
    return key, bytes(value)  # type: ignore[arg-type]


def spoil_value(path: Path, draw: random.Random) -> str:
    """Put a value of another type or range into a row."""
    with closing(apsw.Connection(str(path))) as connection:
        schema = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        counts = {str(name): int(connection.execute(f"SELECT count(*) FROM {name}").get) for (name,) in schema}
        table = draw.choice([name for name, count in counts.items() if count])
        column = str(draw.choice(connection.execute(f"PRAGMA table_info({table})").fetchall())[1])
    place, value = draw.randrange(counts[table]), draw.choice(_HOSTILE)
    try:
        put(path, table, column, value, place)
    except (apsw.ConstraintError, apsw.MismatchError):  # such as two rows with one key, or a row id of text
        return f"{table}.{column} stays"
    return f"{table}.{column} = {str(value)[:20]!r}"


def put(path: Path, table: str, column: str, value: Any, place: int = 0) -> None:
    """Put any value into a row, counted by its place. A STRICT table takes it only without its schema's rules."""
    with closing(apsw.Connection(str(path))) as connection:
        found = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'").fetchall()
        schema = {str(name): str(text) for name, text in found}
        _rewrite(connection, {name: _without_rules(text) for name, text in schema.items()})
    with closing(apsw.Connection(str(path))) as connection:
        try:
            columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
            keys = [str(name) for _, name, _, _, _, key in columns if key] or ["rowid"]
            chosen = f"SELECT {', '.join(keys)} FROM {table} LIMIT 1 OFFSET {place}"
            row = connection.execute(chosen).fetchall()[0]
            where = " AND ".join(f"{key} IS ?" for key in keys)
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value, *row))
        finally:
            _rewrite(connection, schema)


def _without_rules(text: str) -> str:
    text = re.sub(r"CHECK \([^()]*(\([^()]*\))?[^()]*\)|REFERENCES \w+ \(\w+\)", "", text)
    text = re.sub(r"\)\s*STRICT\s*,\s*WITHOUT ROWID$", ") WITHOUT ROWID", text)
    text = re.sub(r"\)\s*STRICT$", ")", text)
    # Without a type a column keeps what it is given; a number as primary key of a table with row ids has to stay one.
    text = re.sub(r"\b(TEXT|BLOB|ANY)\b", "", text)
    text = re.sub(r"\bINTEGER\b(?! PRIMARY KEY)(?!\s+PRIMARY KEY)", "", text)
    return text.replace("NOT NULL", "")


def _rewrite(connection: apsw.Connection, schema: dict[str, str]) -> None:
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    connection.execute("PRAGMA writable_schema = ON")
    for name, text in schema.items():
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE type = 'table' AND name = ?", (text, name))
    connection.execute("PRAGMA writable_schema = OFF")
    version = int(connection.execute("PRAGMA schema_version").get)
    connection.execute(f"PRAGMA schema_version = {version + 1}")
