"""Foundlings: leases of this node that are on the chain while nobody drives them here.

A market may keep silent, a consumer may never bring its papers, a record may be illegible: what is open costs the bond
all the same, if nobody ends it. Its relay is asked for it; after a while it is ended unrun, while a claim can be made.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from suanli_node.leases.census import Census, Found
from suanli_node.leases.record import LeaseFolder, LeaseRecord, Step
from suanli_node.leases.run import JOB_WAIT_S
from suanli_node.leases.services import Services
from suanli_node.leases.standing import Place, Standing
from suanli_node.leases.verification import Assignment
from suanli_protocol import wire
from suanli_protocol.errors import IntegrityError, SuanliError
from suanli_protocol.reasons import Reason

UNANNOUNCED_S = 20.0  # after a lease was seen on the chain; sooner its event is only on the way
log = logging.getLogger(__name__)


class Parent(Protocol):
    """What drives leases: the desk."""

    def is_known(self, lease: str) -> bool:
        """Whether a lease is driven, or closed and written down."""

    def ask_for(self, lease: str) -> None:
        """Have it taken if its relay has its papers."""

    def take_bare(self, record: LeaseRecord, assignment: Assignment, standing: Standing, folder: LeaseFolder) -> None:
        """Drive it to its end, unless it is driven or about to be."""


class Foundlings:
    """Looks after them. Used by one thread, but for `announce`."""

    def __init__(self, census: Census, services: Services, leases: Path, parent: Parent) -> None:
        self._census, self._services, self._leases, self._parent = census, services, leases, parent
        self._announced: set[str] = (
            set()
        )  # their papers hold, but the chain is not as deep yet as it must be to run them
        self.count = 0  # that nobody drives

    def announce(self, lease: str) -> None:
        """Somebody brought papers of it that hold."""
        self._announced.add(lease)

    def look(self) -> None:
        """Do what is due. One that fails keeps none of the others back."""
        found = self._census.read_on(self._parent.is_known)
        self.count = len(found)
        self._announced &= {lease.lease for lease in found}
        for lease in found:
            if time.monotonic() - lease.seen_at < UNANNOUNCED_S:
                continue
            try:
                self._look_after(lease)
            except SuanliError as error:
                log.warning("lease %s, which nobody drives: %s", lease.lease, error.detail)
            except Exception:
                log.exception("lease %s, which nobody drives", lease.lease)

    def _look_after(self, found: Found) -> None:
        try:
            view = self._census.view(found)
        except IntegrityError:
            if not self._census.is_closed(found):
                raise
            self._census.forget(found)
            return
        assignment = self._census.assignment(view)
        standing = self._census.stand(assignment)
        if standing.place is Place.CLOSED and self._services.stand(assignment).place is Place.CLOSED:
            self._census.forget(found)
        if standing.place is not Place.OPEN:
            return
        folder = LeaseFolder(self._leases / found.lease[2:])
        is_announced = folder.is_recorded or found.lease in self._announced
        if time.time() >= patience(assignment, standing, is_announced=is_announced):
            self._end_unrun(view, assignment, standing, folder)
        elif not folder.is_recorded:
            self._parent.ask_for(found.lease)

    def _end_unrun(self, view: wire.LeaseView, assignment: Assignment, standing: Standing, folder: LeaseFolder) -> None:
        """A receipt over nothing: no penalty if nobody brought the job, a release if its record is illegible here."""
        is_ours = folder.is_recorded
        reason = Reason.WORKER_LOST if is_ours else Reason.STOPPED if standing.stopped else Reason.STARTUP_TIMEOUT
        detail = "its record cannot be read" if is_ours else "nobody brought its papers and job"
        log.warning("lease %s, of block %d, is ended without a run: %s", view.id, view.block, detail)
        if is_ours:
            folder.set_aside()
            with suppress(SuanliError):
                self._services.runner.stop(folder.path.name, Reason.RELEASED)
        record = LeaseRecord(view, bare=True, step=Step.ENDED, reason=reason, detail=detail)
        self._parent.take_bare(record, assignment, standing, folder)


def patience(assignment: Assignment, standing: Standing, *, is_announced: bool) -> float:
    """Until when a lease that nobody drives is left open: time for a claim must be left.

    Its papers are waited for as long as a job is; what was announced, and cannot be driven yet, as long as can be.
    """
    end = standing.stopped_at or assignment.clauses.ends_at
    last = end + assignment.clauses.window // 3
    return last if is_announced else min(assignment.clauses.opened_at + JOB_WAIT_S, last)
