"""Bytes as they arrive to lines: whatever the pieces, nothing waits that could go on, nothing is lost."""

import gzip
import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retinue.errors import InputError
from retinue.ingest.lines import MAX_LINE_BYTES
from retinue.ingest.stream import GROUP, STANDARD_INPUT, LineSplitter, LineStream, RawLine, open_stream


def split(*pieces: bytes) -> list[RawLine]:
    """The lines of some pieces."""
    splitter = LineSplitter()
    return [*(line for piece in pieces for line in splitter.feed(piece)), *splitter.finish()]


@contextmanager
def opened(path: Path) -> Iterator[tuple[LineStream, int]]:
    """A stream and the end of a pipe that stops it."""
    stop, alarm = os.pipe()
    with closing(open_stream(str(path), stop)) as lines:
        yield lines, alarm
    os.close(stop)
    os.close(alarm)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A named pipe."""
    os.mkfifo(tmp_path / "events")
    return tmp_path / "events"


@given(st.binary(max_size=60).map(lambda content: content.replace(b"\xef", b"\n")), st.lists(st.integers(0, 60)))
def test_lines_do_not_depend_on_how_the_bytes_were_cut(content: bytes, cuts: list[int]) -> None:
    """Cut anywhere, the lines and their numbers are the same."""
    places = [0, *sorted(cuts), len(content)]
    pieces = [content[start:end] for start, end in itertools.pairwise(places)]

    expected = content.removesuffix(b"\n").split(b"\n") if content else []
    assert list(enumerate(expected, 1)) == [(line.number, line.content) for line in split(*pieces)]


def test_a_byte_order_mark_belongs_to_no_line() -> None:
    """Also where it comes in two pieces; elsewhere it is content."""
    assert [b"a", b"\xef\xbb\xbfb"] == [line.content for line in split(b"\xef\xbb", b"\xbfa\n\xef\xbb\xbfb")]


@pytest.mark.parametrize("piece", [MAX_LINE_BYTES * 3, 1 << 16])
@pytest.mark.parametrize(("length", "fault"), [(0, ""), (1, f"longer than {MAX_LINE_BYTES} bytes")])
def test_only_the_overlong_line_is_rejected(piece: int, length: int, fault: str) -> None:
    """It is a fault with its number, its bytes are not kept, and the lines around it are read."""
    content = b"a\n" + b"x" * (MAX_LINE_BYTES + length) + b"\nb\n" + b"y" * (2 * MAX_LINE_BYTES)

    lines = split(*(content[place : place + piece] for place in range(0, len(content), piece)))

    assert [(1, ""), (2, fault), (3, ""), (4, f"longer than {MAX_LINE_BYTES} bytes")] == [
        (line.number, line.fault) for line in lines
    ]
    assert [len(line.content) for line in lines] == [1, 0 if fault else MAX_LINE_BYTES, 1, 0]


@pytest.mark.parametrize("name", ["events.jsonl", "events.jsonl.gz", "events.GZ"])
def test_a_file_comes_in_full_groups(tmp_path: Path, name: str) -> None:
    """A file has everything ready; a packed one may have several parts, as `cat a.gz b.gz` makes them."""
    path = tmp_path / name
    count = 2 * GROUP + 1001
    parts = [b"".join(b"%d\n" % n for n in numbers) for numbers in (range(4000), range(4000, count))]
    path.write_bytes(b"".join(gzip.compress(part) if path.suffix.lower() == ".gz" else part for part in parts))

    with opened(path) as (lines, _):
        groups = list(lines.groups())

    assert [GROUP, GROUP, 1001] == [len(group) for group in groups]
    assert [(n + 1, b"%d" % n) for n in range(count)] == [line[:2] for group in groups for line in group]


def test_content_before_damage_is_delivered(tmp_path: Path) -> None:
    """The error names the file and the last line that was whole."""
    path = tmp_path / "events.gz"
    packed = gzip.compress(b"".join(b"%d\n" % (n * 7919) for n in range(100_000)))
    path.write_bytes(packed[: len(packed) // 2])
    seen: list[RawLine] = []

    with opened(path) as (lines, _), pytest.raises(InputError) as caught:
        seen.extend(line for group in lines.groups() for line in group)

    assert len(seen) > 10_000
    assert str(caught.value).startswith(f"{path}: damaged after line {len(seen)}: ")
    assert seen[-1].content == b"%d" % ((len(seen) - 1) * 7919)


@pytest.mark.parametrize(("name", "reason"), [("none", "No such file or directory"), (".", "Is a directory")])
def test_unreadable_input_is_reported(tmp_path: Path, name: str, reason: str) -> None:
    """Before anything is read."""
    with pytest.raises(InputError, match=f"cannot be read: {reason}"), opened(tmp_path / name):
        pass


def test_content_of_an_open_pipe_is_delivered_at_once(pipe: Path) -> None:
    """A finished line is delivered at once; an unfinished one waits for its end."""
    with opened(pipe) as (lines, _):
        writer = os.open(pipe, os.O_WRONLY)
        groups = lines.groups()
        os.write(writer, b"a\nb\nc")
        assert [RawLine(1, b"a"), RawLine(2, b"b")] == next(groups)
        os.write(writer, b"c\n")
        assert [RawLine(3, b"cc")] == next(groups)
        os.write(writer, b"d")
        os.close(writer)
        assert [RawLine(4, b"d")] == next(groups)
        assert [] == list(groups)


def test_a_feed_of_single_bytes_cannot_keep_a_finished_line_waiting(pipe: Path) -> None:
    """However busily the next line grows."""
    with opened(pipe) as (lines, _):
        writer = os.open(pipe, os.O_WRONLY)
        os.write(writer, b"a\n")
        is_over = threading.Event()

        def dribble() -> None:
            while not is_over.is_set():
                os.write(writer, b"x")

        dribbling = threading.Thread(target=dribble)
        dribbling.start()
        try:
            assert [RawLine(1, b"a")] == next(lines.groups())
        finally:
            is_over.set()
            while dribbling.is_alive():  # it may be waiting for room in the pipe
                lines._raw.read(1 << 16)
            os.close(writer)


def test_a_stop_ends_a_wait_for_input(pipe: Path) -> None:
    """Lines that were not delivered stay unread and unreported."""
    with opened(pipe) as (lines, alarm):
        writer = os.open(pipe, os.O_WRONLY)
        os.write(writer, b"a\n")
        groups = lines.groups()
        assert 1 == len(next(groups))
        threading.Timer(0.1, os.write, (alarm, b"\n")).start()
        assert [] == list(groups)
        os.close(writer)


def test_a_pipe_without_a_writer_is_waited_for(pipe: Path) -> None:
    """Opening does not wait, reading does."""
    with opened(pipe) as (lines, _):

        def write() -> None:
            with pipe.open("wb") as file:
                file.write(b"late\n")

        threading.Timer(0.1, write).start()
        assert [[RawLine(1, b"late")]] == list(lines.groups())


def test_standard_input_has_a_name() -> None:
    """For messages."""
    with opened(Path(STANDARD_INPUT)) as (lines, _):
        assert "standard input" == lines.name
