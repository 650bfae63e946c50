"""The framed log: whole entries from any offset while it grows, within its limit."""

from __future__ import annotations

from pathlib import Path

from suanli_node.engine.runlog import ENTRY_BYTES_MAX, FRAME, LineBuffer, LogWriter, Source, read_log


def test_entries_can_be_followed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert read_log(path, 0) == ([], 0)
    writer = LogWriter(path, limit=1000)
    writer.append(Source.STDOUT, b"one\n", 5)
    (first,), offset = read_log(path, 0)
    assert (first.sequence, first.at_ms, first.source, first.data) == (0, 5, Source.STDOUT, b"one\n")
    assert read_log(path, offset) == ([], offset)
    writer.append(Source.STDERR, b"\xff\x00\x1b[31m", 6)
    (second,), _ = read_log(path, offset)
    assert (second.sequence, second.source, second.data) == (1, Source.STDERR, b"\xff\x00\x1b[31m")
    writer.close()


def test_half_written_entry_waits(tmp_path: Path) -> None:
    path = tmp_path / "log"
    whole = FRAME.pack(0, 1, Source.STDOUT, 5) + b"hello"
    path.write_bytes(whole[:-1])
    assert read_log(path, 0) == ([], 0)
    path.write_bytes(whole)
    assert read_log(path, 0)[0][0].data == b"hello"


def test_limit_and_the_nodes_own_word(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "log", limit=10)
    writer.append(Source.STDOUT, b"x" * 25, 1)
    assert writer.full
    writer.append(Source.STDOUT, b"more", 2)
    writer.append(Source.NODE, b"log exceeded", 3)
    writer.close()
    assert [entry.data for entry in read_log(tmp_path / "log", 0)[0]] == [b"x" * 10, b"log exceeded"]


def test_large_output_is_cut_into_entries_and_read_in_parts(tmp_path: Path) -> None:
    data = bytes(range(256)) * 1024
    writer = LogWriter(tmp_path / "log", limit=2**30)
    writer.append(Source.STDOUT, data, 1)
    writer.close()
    pieces, offset = [], 0
    while True:
        entries, offset = read_log(tmp_path / "log", offset, limit=1)
        if not entries:
            break
        pieces += entries
    assert b"".join(entry.data for entry in pieces) == data
    assert max(len(entry.data) for entry in pieces) == ENTRY_BYTES_MAX


def test_line_buffer_ends_entries_at_lines() -> None:
    buffer = LineBuffer()
    assert buffer.feed(b"one\ntw") == b"one\n"
    assert buffer.feed(b"o\n") == b"two\n"
    assert buffer.feed(b"rest") == b""
    assert buffer.flush() == b"rest"
    assert buffer.flush() == b""
    assert buffer.feed(b"y" * ENTRY_BYTES_MAX) == b"y" * ENTRY_BYTES_MAX
