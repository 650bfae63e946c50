"""The desk knows every lease of this node: it takes new ones after checking them, routes news, and reconciles.

News from the market only says where to look. What is true of a lease is read from papers and from the chain.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

from suanli_node.background import Background
from suanli_node.bounds import Bounded
from suanli_node.leases.ending import VOID
from suanli_node.leases.foundlings import Foundlings
from suanli_node.leases.intake import RunRefusedError
from suanli_node.leases.record import (
    LeaseFolder,
    LeaseRecord,
    Step,
    UnreadableError,
    read_record,
    remove_remains,
    stored_leases,
)
from suanli_node.leases.run import LeaseRun
from suanli_node.leases.services import Services
from suanli_node.leases.standing import Place, Standing, check_open
from suanli_node.leases.verification import Assignment, NotYetOnChainError
from suanli_node.retry import pauses
from suanli_node.settings import StateFolder
from suanli_protocol import faults, wire
from suanli_protocol.capacity import Lanes
from suanli_protocol.errors import NotFoundError, SuanliError
from suanli_protocol.lease import Phase
from suanli_protocol.reasons import Reason

TAKERS = 8
CHANGES = frozenset(
    f"lease.{change}"
    for change in ("stopped", "claimed", "disputed", "settled", "released", "resolved", "finalized", "reclaimed")
)
HALT_S = 30.0
LIST_S, VIEW_S = 60.0, 30.0  # a market may take for all leases, a relay for one
CALLS_HANGING_MAX = 16
CHAIN_TRIES = 8  # about six seconds for an endpoint that is a little behind the market's
log = logging.getLogger(__name__)


class LeaseDesk:
    """All leases of one node. Thread-safe."""

    def __init__(self, state: StateFolder, capacity: Lanes, services: Callable[[LeaseDesk], Services]) -> None:
        self._state, self._capacity = state, capacity
        self._lock = threading.Lock()
        self._runs: dict[str, LeaseRun] = {}  # by lease id
        self._taking: set[str] = set()
        self._rung: set[str] = set()  # leases about to be taken for which the relay holds something already
        self._halted = threading.Event()
        self._takers = Background(TAKERS, "taker")
        self._bounded = Bounded(CALLS_HANGING_MAX, self._halted)
        self.hurry = threading.Event()  # set when a lease may be due to be paid
        self.wanted = threading.Event()  # set when a look at all leases would be worth it
        self.services = self._services = services(self)
        census = self._services.census
        self._foundlings = Foundlings(census, self._services, state.leases, self) if census is not None else None

    # From outside

    def restore(self) -> None:
        """Go on with every lease that a former process of this node left."""
        remove_remains(self._state.leases)
        for folder in stored_leases(self._state.leases):
            try:
                record = self._load(folder)
                self._begin(record, self._read(record), folder, is_again=True)
            except Exception as error:
                log.error("%s: the record cannot be used and is left alone: %s", folder.path, error)

    def _read(self, record: LeaseRecord) -> Assignment:
        return record.assignment(self._services.signer.address, self._services.domain)

    def _load(self, folder: LeaseFolder) -> LeaseRecord:
        """The record, or the copy that was kept when the receipt was signed."""
        try:
            return folder.load()
        except UnreadableError as error:
            log.error("%s", error.detail)
            copy = read_record(self._services.receipts / f"{folder.path.name}.json")
            log.warning("lease %s goes on with the copy of its record that was kept with the receipt", folder.path.name)
            return copy

    def handle(self, event: wire.Event) -> None:
        """React to an event of the market; never waits for the network."""
        if event.lease is None:
            return
        run = self._runs.get(event.lease)
        match event.kind:
            case "lease.opened" if run is None:
                self._submit(event.lease, view_in(event), is_news=True)
            case "lease.delivered":
                self._ring(event.lease)
            case "lease.countersigned" if run is not None:
                self._takers.submit(partial(self._countersigned, run, event))
            case kind if kind in CHANGES and run is not None:
                self.look_at(run)

    def look_at(self, run: LeaseRun) -> None:
        """Compare one lease with the chain soon."""
        self._takers.submit(partial(self._quietly, partial(self._compare, run)))

    def reconcile(self) -> None:
        """Compare everything: what is known here with the chain, the market's list, and what the executor runs.

        Each part stands alone: a market or a chain that cannot be reached keeps none of the others back, and what is
        not known is not acted on.
        """
        for run in self.runs():
            self._quietly(partial(self._compare, run))
            if run.record.step not in (Step.POSTED, Step.CLOSED) and not run.alive:
                self._resume(run)
        self._quietly(self._stop_strangers)
        if self._foundlings is not None:
            self._quietly(self._foundlings.look)
        listed = partial(self._services.market.leases, state="open")
        for view in self._bounded.within(LIST_S, listed, "listing the leases"):
            if view.id not in self._runs:
                self._submit(view.id, view)

    def runs(self) -> list[LeaseRun]:
        """The leases that are not closed."""
        with self._lock:
            return list(self._runs.values())

    @property
    def idle(self) -> bool:
        """Whether no lease is open here, or about to be taken or to be found."""
        with self._lock:
            found = self._foundlings.count if self._foundlings is not None else 0
            return not self._runs and not self._taking and not found

    def halt(self) -> None:
        """Take nothing new and let go of all leases; their runs go on in the executor."""
        self._halted.set()
        self._takers.close()
        for run in self.runs():
            run.halt()

    # News

    def _ring(self, lease: str) -> None:
        """The relay holds something new for a lease, which may just be about to be taken."""
        with self._lock:
            run = self._runs.get(lease)
            if run is None and lease in self._taking:
                self._rung.add(lease)
        if run is not None:
            run.ring()

    def _countersigned(self, run: LeaseRun, event: wire.Event) -> None:
        """The event brings the consumer's signature; if what it brings is none, the relay is asked."""
        try:
            run.countersigned(str(event.data.get("signature", "")))
        except SuanliError:
            self.hurry.set()

    # Taking

    def _submit(self, lease: str, view: wire.LeaseView | None = None, *, is_news: bool = False) -> None:
        """`is_news`: its consumer has only just learnt of it too."""
        with self._lock:
            if lease in self._taking or lease in self._runs or self._halted.is_set():
                return
            self._taking.add(lease)
        self._takers.submit(partial(self._take, lease, view, is_news))

    def _take(self, lease: str, view: wire.LeaseView | None, is_news: bool) -> None:
        try:
            if view is None:
                view = self._ask_relay(lease)
            self._accept(lease, view, is_news=is_news)
        except SuanliError as error:
            log.warning("lease %s is not taken: %s", lease, error.detail)
        except Exception:
            log.exception("lease %s is not taken", lease)
        finally:
            with self._lock:
                self._taking.discard(lease)
                self._rung.discard(lease)

    def _ask_relay(self, lease: str) -> wire.LeaseView:
        relay, id_ = self._services.relay_of(lease), wire.from_hex(lease, size=32, name="lease")
        if relay is not self._services.market:
            return relay.lease(id_)  # our own shelf, which waits for no market
        return self._bounded.within(VIEW_S, partial(relay.lease, id_), "reading a lease")

    def _accept(self, lease: str, view: wire.LeaseView, *, is_news: bool) -> None:
        record = LeaseRecord(view)
        assignment = self._read(record)
        if view.id != lease:
            raise NotFoundError(f"the market answered with lease {view.id}")
        if self._foundlings is not None:
            self._foundlings.announce(lease)
        standing = self._await_chain(assignment)
        folder = LeaseFolder(self._state.leases / view.id[2:])
        if folder.is_recorded:
            raise UnreadableError(f"lease {lease} has a record already, which was left alone")
        former = self._taken_back(assignment)
        if former is None:
            self._take_new(record, assignment, standing, folder, is_news=is_news)
        else:
            self._follow(former, record, assignment, folder)
        log.info("lease %s taken: number %d", lease, view.number)

    def _take_new(
        self, record: LeaseRecord, assignment: Assignment, standing: Standing, folder: LeaseFolder, *, is_news: bool
    ) -> None:
        """In whichever phase it is found: one that was stopped does not run, one that was claimed waits for its end."""
        if standing.progress.phase in (Phase.CLAIMED, Phase.DISPUTED):
            record.step = Step.POSTED
        self._begin(record, assignment, folder, is_new=True, is_news=is_news, is_stopped=standing.stopped)

    # Leases that nobody announces

    def is_known(self, lease: str) -> bool:
        """Whether a lease is driven here, or closed and written down."""
        return lease in self._runs or (self._state.endings / f"{lease[2:]}.json").exists()

    def ask_for(self, lease: str) -> None:
        """Take a lease soon, if its relay has its papers."""
        self._submit(lease, None)

    def take_bare(self, record: LeaseRecord, assignment: Assignment, standing: Standing, folder: LeaseFolder) -> None:
        """Drive a lease of which only the chain's papers are known to its end, unless it is about to be driven."""
        lease = record.view.id
        with self._lock:
            if lease in self._taking or lease in self._runs or self._halted.is_set():
                return
            self._taking.add(lease)
        try:
            self._take_new(record, assignment, standing, folder, is_news=False)
        finally:
            with self._lock:
                self._taking.discard(lease)

    # Reorganisations: the same papers opened again, at another time, make another lease

    def _taken_back(self, assignment: Assignment) -> LeaseRun | None:
        """The lease in whose place this one is: the same attempt at the same seat, and so gone from the chain."""
        for run in self.runs():
            if run.assignment.id != assignment.id and _attempt(run.assignment) == _attempt(assignment):
                return run
        return None

    def _follow(self, former: LeaseRun, record: LeaseRecord, assignment: Assignment, folder: LeaseFolder) -> None:
        """Go on under the new lease; what runs, or has run, is not started again. Receipts are signed anew."""
        former.halt()
        former.join(HALT_S)
        log.warning("lease %s was opened anew as %s", former.record.view.id, record.view.id)
        if former.record.step is not Step.ACCEPTED:
            record.step = Step.STARTED
            record.ran_as, record.job, record.spec = former.record.run_id, former.record.job, former.record.spec
            record.consumer_key, record.ready_at = former.record.consumer_key, former.record.ready_at
            if former.record.spec is None:  # it ended before it began
                record.step, record.reason, record.detail = Step.ENDED, former.record.reason, former.record.detail
            folder.path.mkdir(mode=0o700, exist_ok=True)
            with suppress(FileNotFoundError):
                shutil.copyfile(former.folder.setup_log, folder.setup_log)
        folder.save(record)
        self._drop(former)
        former.folder.remove()
        self._begin(record, assignment, folder)

    def _await_chain(self, assignment: Assignment) -> Standing:
        """The market may be a moment ahead of this node's own endpoint."""
        for _, pause in zip(range(CHAIN_TRIES), pauses(), strict=False):
            try:
                return self._look_at_chain(assignment)
            except NotYetOnChainError:
                self._halted.wait(pause)
        return self._look_at_chain(assignment)

    def _look_at_chain(self, assignment: Assignment) -> Standing:
        standing = self._services.stand(assignment)
        check_open(assignment, standing)
        return standing

    def _begin(
        self,
        record: LeaseRecord,
        assignment: Assignment,
        folder: LeaseFolder,
        *,
        is_new: bool = False,
        is_news: bool = False,
        is_again: bool = False,
        is_stopped: bool = False,
    ) -> None:
        """Drive a lease; `is_again`: a former process did so, and did not come to its end."""
        run = LeaseRun(record, assignment, folder, self._services, awaits_bell=is_news, admit=self._admit)
        with self._lock:
            if self._halted.is_set():
                return
            if is_new:
                folder.save(record)
                faults.reach("node.lease.recorded")
            if is_again:
                run.count_try()
            if is_stopped:
                run.stop()
            self._runs[record.view.id] = run
            if record.view.id in self._rung:
                run.ring()
            run.start()  # before anybody can find it standing still

    def _resume(self, stalled: LeaseRun) -> None:
        log.info("lease %s goes on at %s", stalled.record.view.id, stalled.record.step)
        self._begin(stalled.record, stalled.assignment, stalled.folder)

    def _admit(self, run: LeaseRun) -> bool:
        """Whether there is room for a lease, which it then has; RunRefusedError if there never will be."""
        need = run.assignment.need
        if not self._capacity.covers(need):
            raise RunRefusedError(Reason.RELEASED, f"the node has {self._capacity}, of which {need} cannot be had")
        with self._lock:
            others = (other.assignment.need for other in self._runs.values() if other is not run and other.takes_room)
            run.admitted = self._capacity.covers(sum(others, start=Lanes()) + need)
        return run.admitted

    # Comparing

    def ended(self, run: LeaseRun) -> None:
        """A lease's thread has come to its end."""
        if run.record.step is Step.CLOSED:
            self._drop(run)

    def _compare(self, run: LeaseRun) -> None:
        """Hold one lease against the chain."""
        standing = self._services.stand(run.assignment)
        if standing.place is Place.CLOSED:
            if standing.history.closed_by is None and not run.record.closing_seen:
                run.record.closing_seen = True  # the endpoint may know its events a little later
                return
            run.close(self._services.ending(run.record, standing.history))
            self._drop(run)
        elif standing.stopped:
            run.stop(standing.stopped_at)
        elif standing.place is Place.OPEN:
            self._notice_stop(run)
        elif self._services.is_void(run.record.view, run.assignment):
            log.warning("lease %s was taken back by the chain, and its papers have run out", run.record.view.id)
            run.close(replace(self._services.ending(run.record, standing.history), how=VOID))
            self._drop(run)
        else:
            log.warning("lease %s is %s on the chain; it is looked for again", run.record.view.id, standing.place)
            self._notice_stop(run)

    def _notice_stop(self, run: LeaseRun) -> None:
        """A stop that is not final is believed all the same before the window for a claim has passed over it."""
        newest, window = self._services.stand_newest, run.assignment.clauses.window
        at = newest(run.assignment).stopped_at if newest is not None else None
        if at is not None and time.time() >= at + window // 3:
            run.stop(at)

    def _drop(self, run: LeaseRun) -> None:
        with self._lock:
            self._runs.pop(run.record.view.id, None)

    def _stop_strangers(self) -> None:
        """Runs without a lease's folder are ended. A folder is there before its run, and outlives it."""
        known = {path.name for path in self._state.leases.iterdir()} | {run.record.run_id for run in self.runs()}
        for status in self._services.runner.runs():
            if status.lease_id in known:
                continue
            if status.final:
                self._services.runner.forget(status.lease_id)
            else:
                log.warning("run %s belongs to no lease and is stopped", status.lease_id)
                self._services.runner.stop(status.lease_id, Reason.RELEASED)

    def _quietly(self, look: Callable[[], None]) -> None:
        """One look that fails keeps none of the others back."""
        try:
            look()
        except SuanliError as error:
            log.warning("a look at leases: %s", error.detail)
        except Exception:
            log.exception("a look at leases")


def _attempt(assignment: Assignment) -> tuple[bytes, int, object]:
    """What stays the same if a block with an opening is replaced by another."""
    return assignment.lease.seat_key, assignment.clauses.attempt, assignment.bid


def view_in(event: wire.Event) -> wire.LeaseView | None:
    """The lease's view that an event brings; None if it brings none, or something else."""
    try:
        return wire.LeaseView.model_validate(event.data.get("view"))
    except ValueError:
        return None
