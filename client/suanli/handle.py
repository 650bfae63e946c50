"""One job in the hands of a program: its log, its end, its outputs, its receipt."""

from __future__ import annotations

import base64
import os
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from suanli.jobs.record import Record
from suanli.session import tombstone, transfer
from suanli.session.direct import is_direct
from suanli.session.joblog import read_log_file
from suanli.session.moving import Moving
from suanli.session.outcome import is_ended, status_of
from suanli.session.progress import Silent, Watcher
from suanli.session.session import Goal, Session, is_sent, is_settled
from suanli.terminal.plain import for_terminal
from suanli_protocol import wire
from suanli_protocol.documents import Evidence, LogLine, OutputFile, hex32, sha256
from suanli_protocol.errors import NotFoundError, UnreachableError, UsageError
from suanli_protocol.messages import Receipt
from suanli_protocol.units import parse_duration

if TYPE_CHECKING:
    from suanli.client import Client


@dataclass(frozen=True)
class Line:
    """A piece of what a job printed: `text` is safe to show, `data` is as it was written."""

    source: str
    text: str
    data: bytes
    at_ms: int


def line_of(line: LogLine) -> Line:
    """A line of the log for a program."""
    data = base64.b64decode(line.data)
    return Line(line.source, for_terminal(data).removesuffix("\n"), data, line.at_ms)


class Outputs:
    """The files that a job left."""

    def __init__(self, handle: JobHandle) -> None:
        self._handle = handle

    def files(self) -> list[OutputFile]:
        """Paths, sizes and digests, as the provider signed for them."""
        outputs = self._handle.evidence().outputs
        return list(outputs.files) if outputs else []

    def download(self, only: str = "", *, to: str | Path) -> list[OutputFile]:
        """Brings the files (or the one file or folder `only`) into the folder `to`, each checked by its digest."""
        evidence = self._handle.evidence()
        if evidence.outputs is None:
            return []
        client, record = self._handle.client, self._handle.record
        lease = wire.from_hex(record.lease)
        folder = client.store.folder(record.id)
        signer = client.signer
        market = client.network_of(self._handle.record).market
        moving = Moving(client.on_progress, "downloading outputs", evidence.outputs.sealed_size)
        archive = transfer.fetch_outputs(
            lambda slot: moving.through(market.get_blob(lease, slot)), evidence.outputs, signer, lease, folder
        )
        files = transfer.unpack_outputs(archive, evidence.outputs, Path(to), only=only)
        if only and not files:
            raise NotFoundError(f"the job left no {only}", hint="`suanli show ID` lists its outputs")
        return files


class _Collect(Silent):
    """Puts lines into a queue."""

    def __init__(self) -> None:
        self.queue: queue.Queue[LogLine | Exception | None] = queue.Queue()

    def lines(self, record: Record, lines: list[LogLine]) -> None:  # noqa: ARG002
        """Each line, as it comes."""
        for line in lines:
            self.queue.put(line)


class JobHandle:
    """A job of this consumer's. `record` is what this machine knows of it."""

    def __init__(self, client: Client, record: Record) -> None:
        self.client, self.record = client, record

    @property
    def id(self) -> str:
        """0x and 64 hex digits."""
        return self.record.id

    @property
    def outputs(self) -> Outputs:
        """The files that it left."""
        return Outputs(self)

    @property
    def status(self) -> int:
        """The exit status that the job earns (0, 8, 100, 101, 103, 104)."""
        return status_of(self.record)

    def drive(
        self,
        goal: Goal = is_settled,
        *,
        timeout: int | str | None = None,
        watcher: Watcher | None = None,
        output_dir: Path | None = None,
    ) -> Record:
        """Does the consumer's part until the goal; shared by `run`, `wait`, `logs -f` and `get`."""
        if goal(self.record):
            return self.record
        seconds = None if timeout is None else parse_duration(timeout, name="timeout")
        ends = None if seconds is None else time.monotonic() + seconds
        session = self._session(watcher, output_dir, within_s=seconds)
        self.record = session.drive(goal, timeout_s=None if ends is None else max(0.0, ends - time.monotonic()))
        return self.record

    def _session(
        self,
        watcher: Watcher | None,
        output_dir: Path | None,
        *,
        is_patient: bool = True,
        within_s: float | None = None,
    ) -> Session:
        client = self.client
        signer, network = client.signer, client.network_of(self.record)
        if is_patient:
            network.pin_patiently(client.on_notice, within_s=within_s)
        else:
            network.pin()
        network.check_genesis(self.record.genesis)
        return Session(network, client.store, self.record, signer, watcher=watcher, output_dir=output_dir)

    def wait(self, timeout: int | str | None = None) -> Record:
        """Waits until the job is settled; TimedOutError if that takes longer."""
        return self.drive(is_settled, timeout=timeout)

    def hand_over(self, timeout: int | str | None = None) -> Record:
        """Waits until the provider has all that it needs; from then on nobody has to stay."""
        return self.drive(is_sent, timeout=timeout)

    def logs(self, *, follow: bool = False) -> Iterator[Line]:
        """What the job printed; with `follow` as it is printed, until the job has ended."""
        if not follow or is_ended(self.record):
            yield from map(line_of, self._lines_now())
            return
        collect = _Collect()
        session = self._session(collect, None)
        thread = threading.Thread(target=_drive, args=(session, is_settled, collect), daemon=True)
        thread.start()
        while (item := collect.queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield line_of(item)

    def _lines_now(self) -> list[LogLine]:
        """What there is: the file if it is the log that the receipt names, else from the market."""
        folder = self.client.store.folder(self.record.id)
        wanted = (self.record.evidence or {}).get("log", {}).get("sha256")
        kept = folder / "log.jsonl"
        if not self.record.lease or (kept.is_file() and wanted == hex32(sha256(kept.read_bytes()))):
            return read_log_file(kept)
        fetched = folder / f"log.{os.getpid()}"
        try:
            self._session(None, None).fetch_log(fetched)
            return read_log_file(fetched)
        finally:
            fetched.unlink(missing_ok=True)

    def evidence(self) -> Evidence:
        """What the receipt stands on; NotFoundError before there is one."""
        if self.record.evidence is None:
            raise NotFoundError(f"{self.record.short} has no receipt yet", hint=f"suanli wait {self.record.short}")
        return Evidence.parse(self.record.evidence)

    def receipt(self) -> Receipt:
        """The receipt that both sides signed; NotFoundError before there is one."""
        self.evidence()
        return wire.paper_from_json(Receipt, self.record.receipt)

    def refresh(self, *, watcher: Watcher | None = None, is_patient: bool = True) -> Record:
        """Looks once at how far the job is, and does what is due; waits for a market that is away if `is_patient`."""
        session = self._session(watcher, None, is_patient=is_patient)
        try:
            self.record = session.look()
        finally:
            session.stop_log()
        return self.record

    def deliver(self, to: Path | None, *, otherwise: Path) -> None:
        """Sees that the outputs of an ended job lie in a folder of the user's: in `to` if that is named."""
        record = self.record
        if not record.output_files or (record.output_dir and to is None):
            return
        into = to or otherwise
        if record.output_dir != str(into.resolve()):
            self.outputs.download(to=into)
            record.output_dir = str(into.resolve())
            self.client.store.save(record)

    def cancel(self, *, watcher: Watcher | None = None, on_chain: bool = False) -> Record:
        """Takes a queued bid back, or stops the lease on the chain: what was used is paid, the rest comes back.

        A bid's seat is closed on the escrow with `on_chain`, and if the market cannot be reached. So is that of a deal
        without a market if its opening may be on its way.
        """
        if self.record.is_over or is_ended(self.record):
            raise UsageError(f"{self.record.short} has ended already ({self.record.phase})", code="ended")
        if is_direct(self.record) and not self.record.lease:
            self.record = tombstone.drop_opening(self.client, self.record, watcher or Silent())
            return self.record
        try:
            self.record = self._session(watcher, None, is_patient=bool(self.record.lease)).cancel()
        except UnreachableError:
            if self.record.lease:
                raise
            on_chain = True
        if on_chain:
            self.record = tombstone.close_seat(self.client, self.record, watcher or Silent())
        return self.record


def _drive(session: Session, goal: Goal, collect: _Collect) -> None:
    try:
        session.drive(goal)
        collect.queue.put(None)
    except Exception as error:  # whoever reads the queue waits for it
        collect.queue.put(error)
