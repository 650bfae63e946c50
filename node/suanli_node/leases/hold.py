"""The hold that this process has of one lease: its record on disk, and whether to go on, to stop or to let go."""

from __future__ import annotations

import logging
import threading
import time

from suanli_node.leases.closing import margin_s
from suanli_node.leases.intake import RunRefusedError
from suanli_node.leases.record import LeaseFolder, LeaseRecord, Step
from suanli_node.leases.verification import Assignment
from suanli_node.retry import Halted
from suanli_protocol import faults
from suanli_protocol.reasons import Reason

log = logging.getLogger(__name__)


class Hold:
    """What all parts of a lease's run share."""

    def __init__(self, record: LeaseRecord, assignment: Assignment, folder: LeaseFolder) -> None:
        self.record, self.assignment, self.folder = record, assignment, folder
        self.halted = threading.Event()  # nothing more is done for it here; its record says where to go on
        self.stopped = threading.Event()  # on the chain
        self.stopped_at: int | None = None  # as far as the chain was asked
        self.bell = threading.Event()  # rung when there is something new for a step that waits
        self.saving = threading.Lock()  # a closed lease's folder is gone and stays gone

    def let_go(self) -> None:
        """Do nothing more for the lease."""
        self.halted.set()
        self.bell.set()

    def check_halt(self) -> None:
        """Halted if the lease was let go."""
        if self.halted.is_set():
            raise Halted(self.record.view.id)

    def check(self) -> None:
        """Halted, or RunRefusedError if there is nothing to prepare for any more."""
        self.check_halt()
        if self.stopped.is_set():
            raise RunRefusedError(Reason.STOPPED, "the lease was stopped before the job began")

    def spare_s(self) -> float:
        """Seconds until the receipt must be signed, so that what it is over can still be claimed; may be negative."""
        clauses = self.assignment.clauses
        end = self.stopped_at or self.record.stopped_at or clauses.ends_at
        return end + clauses.window - 2 * margin_s(clauses.window) - time.time()

    def save(self, step: Step) -> None:
        """Make the next step durable. OSError if the disk does not take it, unless there is no time to wait for it."""
        record = self.record
        with self.saving:
            self.check_halt()
            former = record.step, record.tries
            record.step, record.tries = step, 0
            try:
                self.folder.save(record)
            except OSError as error:
                if self.spare_s() > 0:
                    record.step, record.tries = former
                    raise
                log.error("lease %s: the disk does not take that it is %s: %s", record.view.id, step, error)
            faults.reach(f"node.lease.{step}")
        log.debug("lease %d: %s", record.view.number, step)
