"""Logs leave sealed, in order, whole; a restart cuts the same chunks again."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import pytest

from suanli_node.engine.runlog import LogEntry, LogWriter, Source, read_log
from suanli_node.leases.log_shipping import CHUNK_BYTES, Cut, LogShipper, append_to_ledger, read_ledger
from suanli_node.retry import Halted
from suanli_protocol import wire
from suanli_protocol.documents import LogSummary, read_log_chunk
from suanli_protocol.errors import MarketError, UnreachableError


class Relay:
    """Keeps the first chunk of each seq, like the market; can be told to fail."""

    def __init__(self, failures: int = 0, error: type[MarketError] = UnreachableError) -> None:
        self.chunks: dict[int, bytes] = {}
        self.complete = False
        self.failures, self.error = failures, error

    def post(self, page: wire.LogPage) -> None:
        if self.failures:
            self.failures -= 1
            raise self.error("no")
        for chunk in page.chunks:
            self.chunks.setdefault(chunk.seq, bytes.fromhex(chunk.data[2:]))
        self.complete = self.complete or page.complete

    @property
    def plain(self) -> list[bytes]:
        """The chunks in order, opened again (the test's seal is a prefix with the seq)."""
        assert sorted(self.chunks) == list(range(len(self.chunks)))
        return [self.chunks[seq].removeprefix(b"%d:" % seq) for seq in sorted(self.chunks)]

    def text(self) -> dict[str, bytes]:
        """All output by source."""
        found: dict[str, bytes] = {}
        for line in (line for chunk in self.plain for line in read_log_chunk(chunk)):
            found[line.source] = found.get(line.source, b"") + line.content
        return found


def a_shipper(folder: Path, relay: Relay) -> LogShipper:
    logs = {"setup": partial(read_log, folder / "setup"), "run": partial(read_log, folder / "run")}
    return LogShipper(folder / "ledger", logs, lambda data, seq: b"%d:" % seq + data, relay.post)  # type: ignore[arg-type]


def write(path: Path, *entries: tuple[Source, bytes]) -> None:
    writer = LogWriter(path, limit=2**30)
    for source, data in entries:
        writer.append(source, data, 1_000)
    writer.close()


def digest_of(relay: Relay) -> tuple[str, int, int]:
    whole = b"".join(relay.plain)
    return "0x" + hashlib.sha256(whole).hexdigest(), len(whole), len(relay.plain)


def as_tuple(summary: LogSummary) -> tuple[str, int, int]:
    return summary.sha256, summary.size, summary.chunks


def test_all_output_arrives_as_bytes_setup_first(tmp_path: Path) -> None:
    relay = Relay()
    write(tmp_path / "setup", (Source.SETUP, b"resolving\n"))
    shipper = a_shipper(tmp_path, relay)
    shipper.start()
    write(tmp_path / "run", (Source.STDOUT, b"\xff\x00\n"), (Source.STDERR, b"oh\n"), (Source.NODE, b"timeout\n"))
    shipper.open_run()
    summary = shipper.finish()
    assert relay.text() == {"setup": b"resolving\n", "stdout": b"\xff\x00\n", "stderr": b"oh\n", "system": b"timeout\n"}
    assert relay.complete
    assert as_tuple(summary) == digest_of(relay)


def test_a_large_log_is_cut_into_chunks_that_fit(tmp_path: Path) -> None:
    relay, data = Relay(), bytes(range(256)) * 4096
    write(tmp_path / "run", (Source.STDOUT, data))
    shipper = a_shipper(tmp_path, relay)
    shipper.open_run()
    shipper.start()
    summary = shipper.finish()
    assert relay.text()["stdout"] == data
    assert summary.chunks > 8
    assert max(map(len, relay.plain)) <= CHUNK_BYTES


def test_an_empty_log_is_complete(tmp_path: Path) -> None:
    relay = Relay()
    shipper = a_shipper(tmp_path, relay)
    shipper.start()
    assert as_tuple(shipper.finish()) == ("0x" + hashlib.sha256(b"").hexdigest(), 0, 0)
    assert relay.complete


def test_an_unreachable_market_delays_and_loses_nothing(tmp_path: Path) -> None:
    relay = Relay(failures=2)
    write(tmp_path / "setup", (Source.SETUP, b"hello\n"))
    shipper = a_shipper(tmp_path, relay)
    shipper.start()
    assert as_tuple(shipper.finish()) == digest_of(relay)


def test_a_restart_sends_the_same_chunks_and_sums_up_the_same(tmp_path: Path) -> None:
    write(tmp_path / "setup", (Source.SETUP, b"one\n"))
    first = Relay()
    killed = a_shipper(tmp_path, first)
    killed._cut_all("setup")  # the ledger has the chunk; the process is killed before it is sent
    write(tmp_path / "setup", (Source.SETUP, b"two\n"))
    write(tmp_path / "run", (Source.STDOUT, b"three\n"))
    second = Relay()
    shipper = a_shipper(tmp_path, second)
    shipper.start()
    shipper.open_run()
    summary = shipper.finish()
    assert second.text() == {"setup": b"one\ntwo\n", "stdout": b"three\n"}
    assert [len(read_log_chunk(chunk)) for chunk in second.plain] == [1, 1, 1]
    assert as_tuple(summary) == digest_of(second)
    third = Relay()
    again = a_shipper(tmp_path, third)
    again.start()
    assert again.finish() == summary
    assert third.chunks == second.chunks


def test_abandoning_ends_the_wait(tmp_path: Path) -> None:
    relay = Relay(failures=10**6)
    write(tmp_path / "setup", (Source.SETUP, b"one\n"))
    shipper = a_shipper(tmp_path, relay)
    shipper.start()
    shipper.abandon()
    with pytest.raises(Halted):
        shipper.finish()


def test_the_markets_refusal_is_told(tmp_path: Path) -> None:
    relay = Relay(failures=1, error=MarketError)
    write(tmp_path / "setup", (Source.SETUP, b"one\n"))
    shipper = a_shipper(tmp_path, relay)
    shipper.start()
    with pytest.raises(MarketError):
        shipper.finish()


def test_a_torn_line_of_the_ledger_is_no_cut(tmp_path: Path) -> None:
    append_to_ledger(tmp_path / "ledger", Cut("run", 120))
    with (tmp_path / "ledger").open("a") as file:
        file.write('["run", 24')
    assert read_ledger(tmp_path / "ledger") == [Cut("run", 120)]


def test_entries_are_the_runs_own(tmp_path: Path) -> None:
    write(tmp_path / "run", (Source.STDOUT, b"a"))
    assert read_log(tmp_path / "run", 0)[0] == [LogEntry(0, 1_000, Source.STDOUT, b"a")]
