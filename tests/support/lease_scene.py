"""One lease on a node whose processes may die at any side effect, while market, executor and disk stay."""

from __future__ import annotations

import errno
import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from suanli_node.background import Background
from suanli_node.engine import meter
from suanli_node.engine.environment import Check
from suanli_node.engine.runlog import LogEntry, LogWriter, Source, read_log
from suanli_node.engine.runs import RunPhase, RunSpec, RunStatus
from suanli_node.leases.closing import margin_s
from suanli_node.leases.delivery import seal_outputs
from suanli_node.leases.ending import Ending
from suanli_node.leases.intake import RunRefusedError
from suanli_node.leases.record import LeaseFolder, LeaseRecord
from suanli_node.leases.run import LeaseRun
from suanli_node.leases.services import Services
from suanli_node.leases.verification import Assignment, read_assignment
from suanli_node.leases.workshop import Collection, Say, spec_of
from suanli_protocol import wire
from suanli_protocol.archive import Source as ArchiveSource
from suanli_protocol.documents import Evidence, JobDocument
from suanli_protocol.errors import ExecutionError, NotFoundError, UnreachableError
from suanli_protocol.lease import Phase, Progress
from suanli_protocol.lease_history import LeaseHistory
from suanli_protocol.messages import Delivered
from suanli_protocol.sealing import Context, seal_bytes
from support import builders
from support.leases import Opened, an_opened_lease

WAIT_S = 20.0
USAGE = meter.Usage(wall_ms=2_000, cpu_ms=900, peak_memory_mib=10, samples=4, chain_head="0x" + "cd" * 32)


class Killed(BaseException):
    """kill -9, as far as a thread can feel it."""


class Fate:
    """Kills at the n-th side effect, once."""

    def __init__(self, at: int = 0) -> None:
        self.at, self.count = at, 0

    def strike(self) -> None:
        """One more side effect, before or after it is done."""
        self.count += 1
        if self.count == self.at:
            raise Killed


@dataclass
class FakeMarket:
    """Relays and keeps what it is sent, as the market does."""

    opened: Opened
    fate: Fate
    blobs: dict[str, bytes] = field(default_factory=dict)
    logs: dict[int, bytes] = field(default_factory=dict)
    receipts: list[wire.SignedReceipt] = field(default_factory=list)
    reports: list[wire.Report] = field(default_factory=list)
    outages: int = 0

    def info(self) -> Any:
        """As far as it is asked."""
        return type("Info", (), {"address": builders.market().address})

    def get_blob(self, lease: bytes, slot: str) -> Iterator[bytes]:
        """Ciphertext."""
        self.fate.strike()
        if slot not in self.blobs:
            raise NotFoundError("not here")
        yield self.blobs[slot]

    def put_blob(self, lease: bytes, slot: str, data: Any, size: int, *, digest: bytes = b"") -> wire.BlobView:
        """Takes it and signs for it."""
        self.fate.strike()
        data.seek(0)
        held = self.blobs.setdefault(slot, data.read(size))
        found = hashlib.sha256(held).digest()
        delivered = Delivered(builders.market().address, lease, slot, found, len(held), 1)
        signature = wire.to_hex(builders.market().sign(builders.a_domain(), delivered))
        self.fate.strike()
        paper = wire.paper_to_json(delivered)
        return wire.BlobView(slot=slot, size=size, received=size, delivered=paper, signature=signature)

    def post_logs(self, lease: bytes, page: wire.LogPage) -> None:
        """The first chunk of a seq stays."""
        for chunk in page.chunks:
            self.logs.setdefault(chunk.seq, bytes.fromhex(chunk.data[2:]))

    def post_receipt(self, lease: bytes, signed: wire.SignedReceipt) -> None:
        """Keeps all."""
        self.fate.strike()
        if self.outages:
            self.outages -= 1
            raise UnreachableError("gone")
        self.receipts.append(signed)
        self.fate.strike()

    def report(self, lease: bytes, report: wire.Report) -> None:
        """Keeps all."""
        self.reports.append(report)

    def lease(self, lease: bytes) -> wire.LeaseView:
        """The view."""
        return self.opened.view


@dataclass
class FakeRunner:
    """Runs as the executor keeps them: durable, started once."""

    folder: Path
    fate: Fate
    started: list[str] = field(default_factory=list)
    known: dict[str, RunStatus] = field(default_factory=dict)
    stops: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    endless: bool = False
    deaf: int = 0  # so many stops do not reach it

    def start(self, spec: RunSpec) -> None:
        """Once."""
        self.fate.strike()
        if spec.lease_id in self.known:
            return
        self.started.append(spec.lease_id)
        writer = LogWriter(self.folder / "run.log", limit=2**20)
        writer.append(Source.STDOUT, b"42\n", 1)
        writer.close()
        self.known[spec.lease_id] = RunStatus(spec.lease_id, RunPhase.RUNNING, started_at=builders.NOW + 1)
        self.fate.strike()

    def status(self, lease_id: str) -> RunStatus:
        """What is known."""
        if lease_id not in self.known:
            raise NotFoundError("never started")
        return self.known[lease_id]

    def wait_change(self, seen: RunStatus, timeout_s: float) -> RunStatus:
        """Ends at the first look, unless endless."""
        self.fate.strike()
        known = self.known[seen.lease_id]
        if not known.final and not self.endless:
            known = self._end(seen.lease_id, "ok", 0)
        time.sleep(0.01)
        return known

    def _end(self, lease_id: str, reason: str, code: int) -> RunStatus:
        ended = replace(
            self.known[lease_id],
            phase=RunPhase.EXITED,
            reason=reason,
            exit_code=code,
            ended_at=builders.NOW + 3,
            usage=USAGE,
        )
        self.known[lease_id] = ended
        return ended

    def read_log(self, lease_id: str, offset: int) -> tuple[list[LogEntry], int]:
        """The run's log."""
        return read_log(self.folder / "run.log", offset)

    def stop(self, lease_id: str, reason: str) -> None:
        """Ends it."""
        if lease_id not in self.known:
            raise NotFoundError("never started")
        self.stops.append(reason)
        if len(self.stops) <= self.deaf:
            raise ExecutionError("the Ray host cannot be reached", code="ray_host")
        if not self.known[lease_id].final:
            self._end(lease_id, "stopped", 143)

    def forget(self, lease_id: str) -> None:
        """Remembers that it was asked to."""
        self.forgotten.append(lease_id)

    def runs(self) -> list[RunStatus]:
        """All."""
        return list(self.known.values())


@dataclass
class FakeWorkshop:
    """Prepares nothing and collects one file."""

    fate: Fate
    runner: FakeRunner
    refusal: RunRefusedError | None = None
    busy: bool = False  # prepares until it is interrupted
    unfit: Exception | None = None  # comes out of preparing
    spoilt: Exception | None = None  # comes out of collecting

    def prepare(
        self, assignment: Assignment, job: JobDocument, unpacked: Path | None, say: Say, deadline: float, check: Check
    ) -> RunSpec:
        """The spec."""
        self.fate.strike()
        assert assignment.id.hex() not in self.runner.known, "preparing clears the folder of a run that was started"
        say(Source.SETUP, b"ready\n")
        if self.refusal is not None:
            raise self.refusal
        if self.unfit is not None:
            raise self.unfit
        while self.busy:
            check()
            time.sleep(0.001)
        return spec_of(assignment, job, "", now=builders.NOW + 1)

    def collect(
        self, assignment: Assignment, run_id: str, job: JobDocument, folder: LeaseFolder, say: Say
    ) -> Collection:
        """One file."""
        self.fate.strike()
        if self.spoilt is not None:
            raise self.spoilt
        recipient = builders.consumer().encryption_public
        outputs = seal_outputs(folder, [ArchiveSource("out/x", b"42")], recipient, assignment.id)
        self.fate.strike()
        return Collection(outputs)


class World:
    """One lease on a node whose processes may die, while market, executor and disk stay."""

    def __init__(self, folder: Path, job: JobDocument | None = None, *, window: int = 600, least: int = 0) -> None:
        self.opened = an_opened_lease(job=job, opened_at=builders.NOW, window=window)
        self.least_window = least
        self.fate = Fate()
        self.market = FakeMarket(self.opened, self.fate)
        self.runner = FakeRunner(folder, self.fate)
        self.workshop = FakeWorkshop(self.fate, self.runner)
        self.word = self.opened.word()
        self.history = LeaseHistory()
        self.folder = LeaseFolder(folder / "lease")
        (folder / "receipts").mkdir(parents=True)
        self.receipts = folder / "receipts"
        self.folder.save(LeaseRecord(self.opened.view))
        self.troubles = 0  # that the host was away

    @property
    def signed_by(self) -> float:
        """When the receipt must be signed at the latest, so that what it is over can still be claimed."""
        clauses = self.opened.clauses
        return clauses.ends_at + clauses.window - 2 * margin_s(clauses.window)

    def read_seat(self, _: bytes) -> bytes:
        return self.word

    def have_trouble(self) -> None:
        self.troubles += 1

    def stop_on_chain(self, at: int) -> None:
        """The consumer stops the lease, and no event tells the node."""
        self.history = LeaseHistory(Progress(clock=at, phase=Phase.STOPPED, flags=1))
        self.word = self.opened.word(self.history.progress)

    def send_job(self) -> None:
        """The consumer uploads."""
        context = Context(self.opened.id, "job")
        sealed = seal_bytes(self.opened.job.canonical(), builders.provider().encryption_public, context)
        self.market.blobs["job"] = sealed

    def a_run(self, ended: threading.Event) -> LeaseRun:
        """The lease as a daemon that begins finds it."""
        services = Services(
            signer=builders.provider(),
            domain=builders.a_domain(),
            market=self.market,  # type: ignore[arg-type]
            read_seat=self.read_seat,
            read_history=lambda _: self.history,
            runner=self.runner,
            workshop=self.workshop,
            receipts=self.receipts,
            endings=self.receipts,
            ending=lambda record, history: Ending(
                record.view.id, 1, "", history.state, record.reason, "0", "0", "0", "0", 0, ""
            ),
            reports=Background(1, "reports"),
            on_end=lambda _: ended.set(),
            on_trouble=self.have_trouble,
            least_window=self.least_window,
        )
        assignment = read_assignment(self.opened.view, builders.provider().address, builders.a_domain())
        return LeaseRun(self.folder.load(), assignment, self.folder, services)

    def live(self) -> LeaseRun:
        """From start to the end of its thread, however that comes about."""
        ended = threading.Event()
        run = self.a_run(ended)
        run.start()
        assert ended.wait(WAIT_S), f"stuck at {run.record.step}"
        return run

    def reports(self, count: int) -> list[wire.Report]:
        """What was reported, once so many have come: they travel on a thread of their own."""
        deadline = time.monotonic() + WAIT_S
        while len(self.market.reports) < count and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.market.reports

    def evidence(self) -> Evidence:
        """Of the last receipt."""
        return Evidence.parse(self.market.receipts[-1].evidence)


class FullFolder(LeaseFolder):
    """A folder on a full disk."""

    def save(self, record: LeaseRecord) -> None:
        """There is no room."""
        raise OSError(errno.ENOSPC, "No space left on device")


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = float(builders.NOW)

    def time(self) -> float:
        """Seconds of Unix UTC."""
        return self.now
