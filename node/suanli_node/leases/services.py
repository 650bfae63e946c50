"""Services: what all leases of a node share, and what they ask of the executor and the workshop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from suanli_node.background import Background
from suanli_node.engine.environment import Check
from suanli_node.engine.runlog import LogEntry
from suanli_node.engine.runs import RunSpec, RunStatus
from suanli_node.leases.census import Census
from suanli_node.leases.ending import Ending
from suanli_node.leases.record import LeaseFolder, LeaseRecord
from suanli_node.leases.relay import Direct, Market, Relay
from suanli_node.leases.standing import ReadHistory, Standing, stand
from suanli_node.leases.verification import Assignment, ReadSeat
from suanli_node.leases.workshop import Collection, Say
from suanli_protocol import wire
from suanli_protocol.documents import JobDocument
from suanli_protocol.lease_history import LeaseHistory
from suanli_protocol.signing import Domain, Signer

if TYPE_CHECKING:
    from suanli_node.leases.run import LeaseRun


class Runner(Protocol):
    """What is asked of the executor."""

    def start(self, spec: RunSpec) -> object:
        """Start a run; the second time does nothing."""

    def status(self, lease_id: str) -> RunStatus:
        """What is known; NotFoundError if it was never started."""

    def wait_change(self, seen: RunStatus, timeout_s: float) -> RunStatus:
        """The status once phase or log differ from what was seen, or after the timeout."""

    def read_log(self, lease_id: str, offset: int) -> tuple[list[LogEntry], int]:
        """Whole entries from an offset."""

    def stop(self, lease_id: str, reason: str) -> object:
        """SIGTERM, then SIGKILL."""

    def forget(self, lease_id: str) -> object:
        """Delete what is left of a run; ExecutionError while it lives."""

    def runs(self) -> list[RunStatus]:
        """All runs that were started and not forgotten."""


class Preparer(Protocol):
    """What prepares a run and collects what it left: the workshop."""

    def prepare(
        self, assignment: Assignment, job: JobDocument, unpacked: Path | None, say: Say, deadline: float, check: Check
    ) -> RunSpec:
        """Files and environment in place; the spec to start. RunRefusedError if that cannot be, or `check` raises."""

    def collect(
        self, assignment: Assignment, run_id: str, job: JobDocument, folder: LeaseFolder, say: Say
    ) -> Collection:
        """The sealed outputs on disk. RunRefusedError if they cannot be taken."""


@dataclass(frozen=True)
class Services:
    """What all leases of a node share."""

    signer: Signer
    domain: Domain
    market: Market
    read_seat: ReadSeat
    read_history: ReadHistory
    runner: Runner
    workshop: Preparer
    receipts: Path
    endings: Path
    ending: Callable[[LeaseRecord, LeaseHistory], Ending]
    reports: Background  # one thread: reports keep their order and never hold up a run
    on_end: Callable[[LeaseRun], None]
    on_trouble: Callable[[], None]  # the executor's host does not answer: somebody should look at it
    least_window: int = 0  # seconds; a lease under a shorter window is not run
    census: Census | None = None  # leases that nobody announces
    stand_newest: Callable[[Assignment], Standing] | None = None  # at the newest block, where that is not the same
    is_void: Callable[[wire.LeaseView, Assignment], bool] = lambda *_: False  # the chain took it back, for good
    direct: Direct | None = None  # leases that came without a market

    def stand(self, assignment: Assignment) -> Standing:
        """How a lease stands on the chain, as deep as the node trusts it; ChainError if the chain does not say."""
        return stand(assignment, self.read_seat, self.read_history)

    def relay_of(self, lease: str) -> Relay:
        """What keeps the papers of a lease (0x and hex) between its parties."""
        return self.direct if self.direct is not None and self.direct.holds(lease) else self.market
