"""The desk knows every lease of this node: it takes new ones after checking them, routes news, and reconciles.

News from the market only says where to look. What is true of a lease is read from papers and from the chain.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from suanli_node.background import Background
from suanli_node.leases.record import LeaseFolder, LeaseRecord, Step, remove_remains, stored_leases
from suanli_node.leases.run import LeaseRun
from suanli_node.leases.services import Services
from suanli_node.leases.standing import Place
from suanli_node.leases.verification import Assignment, NotYetOnChainError, check_on_chain, read_assignment
from suanli_node.retry import pauses
from suanli_node.settings import StateFolder
from suanli_protocol import faults, wire
from suanli_protocol.capacity import Lanes
from suanli_protocol.errors import ChainError, ExecutionError, NotFoundError, SuanliError
from suanli_protocol.reasons import Reason

TAKERS = 8
CHANGES = frozenset(
    f"lease.{change}"
    for change in ("stopped", "claimed", "disputed", "settled", "released", "resolved", "finalized", "reclaimed")
)
HALT_S = 30.0
CHAIN_TRIES = 8  # about six seconds for an endpoint that is a little behind the market's
log = logging.getLogger(__name__)


class NoRoomError(SuanliError):
    """The lease would take more than is left of this node; it is tried again when another has ended."""

    code, title, retryable = "no_room", "The node is full", True


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
        self._crowded = False  # a lease was put off for want of room
        self.hurry = threading.Event()  # set when a lease may be due to be paid
        self.wanted = threading.Event()  # set when a look at all leases would be worth it
        self.services = self._services = services(self)

    # From outside

    def restore(self) -> None:
        """Go on with every lease that a former process of this node left."""
        remove_remains(self._state.leases)
        for folder in stored_leases(self._state.leases):
            try:
                record = folder.load()
                self._begin(record, self._read(record.view), folder)
            except (SuanliError, ValueError, KeyError) as error:
                log.error("the record in %s cannot be read and is left alone: %s", folder.path, error)

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
        self._takers.submit(partial(self._quietly, self._compare, run))

    def reconcile(self) -> None:
        """Compare everything: what is known here with the chain, the market's list, and what the executor runs.

        Each part stands alone: a market or a chain that cannot be reached keeps none of the others back, and what is
        not known is not acted on.
        """
        for run in self.runs():
            self._quietly(self._compare, run)
            if run.record.step not in (Step.POSTED, Step.CLOSED) and not run.alive:
                self._resume(run)
        self._stop_strangers()
        for view in self._services.market.leases(state="open"):
            if view.id not in self._runs:
                self._submit(view.id, view)

    def runs(self) -> list[LeaseRun]:
        """The leases that are not closed."""
        with self._lock:
            return list(self._runs.values())

    @property
    def idle(self) -> bool:
        """Whether no lease is open here or about to be taken."""
        with self._lock:
            return not self._runs and not self._taking

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
                view = self._services.relay_of(lease).lease(wire.from_hex(lease, size=32, name="lease"))
            self._accept(lease, view, is_news=is_news)
        except SuanliError as error:
            log.warning("lease %s is not taken: %s", lease, error.detail)
        except Exception:
            log.exception("lease %s is not taken", lease)
        finally:
            with self._lock:
                self._taking.discard(lease)
                self._rung.discard(lease)

    def _accept(self, lease: str, view: wire.LeaseView, *, is_news: bool) -> None:
        assignment = self._read(view)
        if view.id != lease:
            raise NotFoundError(f"the market answered with lease {view.id}")
        self._await_chain(assignment)
        record, folder = LeaseRecord(view), LeaseFolder(self._state.leases / view.id[2:])
        former = self._taken_back(assignment)
        if former is None:
            self._begin(record, assignment, folder, is_new=True, is_news=is_news)
        else:
            self._follow(former, record, assignment, folder)
        log.info("lease %s taken: number %d", lease, view.number)

    # Reorganisations: the same papers opened again, at another time, make another lease

    def _taken_back(self, assignment: Assignment) -> LeaseRun | None:
        """The lease in whose place this one is: of the same papers at the same seat, and gone from the chain."""
        for run in self.runs():
            same = run.assignment.bid == assignment.bid and run.assignment.lease.seat_key == assignment.lease.seat_key
            if same and run.assignment.id != assignment.id:
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

    def _read(self, view: wire.LeaseView) -> Assignment:
        return read_assignment(view, self._services.signer.address, self._services.domain)

    def _await_chain(self, assignment: Assignment) -> None:
        """The market may be a moment ahead of this node's own endpoint."""
        for _, pause in zip(range(CHAIN_TRIES), pauses(), strict=False):
            try:
                return check_on_chain(assignment, self._services.read_seat)
            except NotYetOnChainError:
                self._halted.wait(pause)
        return check_on_chain(assignment, self._services.read_seat)

    def _begin(
        self,
        record: LeaseRecord,
        assignment: Assignment,
        folder: LeaseFolder,
        *,
        is_new: bool = False,
        is_news: bool = False,
    ) -> None:
        run = LeaseRun(record, assignment, folder, self._services, awaits_bell=is_news)
        with self._lock:
            if self._halted.is_set():
                return
            if is_new:
                self._check_room(assignment)
                folder.save(record)
                faults.reach("node.lease.recorded")
            self._runs[record.view.id] = run
            if record.view.id in self._rung:
                run.ring()
            run.start()  # before anybody can find it standing still

    def _resume(self, stalled: LeaseRun) -> None:
        log.info("lease %s goes on at %s", stalled.record.view.id, stalled.record.step)
        self._begin(stalled.folder.load(), stalled.assignment, stalled.folder)

    def _check_room(self, assignment: Assignment) -> None:
        running = (run.assignment.need for run in self._runs.values() if run.record.running)
        used = sum(running, start=Lanes())
        if not self._capacity.covers(used + assignment.need):
            self._crowded = True
            raise NoRoomError(f"{assignment.need} do not fit beside the {used} in use of {self._capacity}")

    # Comparing

    def ended(self, run: LeaseRun) -> None:
        """A lease's thread has come to its end: there may be room for another."""
        if run.record.step is Step.CLOSED:
            self._drop(run)
        if self._crowded:
            self._crowded = False
            self.wanted.set()

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
            run.stop()
        elif standing.place is not Place.OPEN:
            log.warning("lease %s is %s on the chain; it is looked for again", run.record.view.id, standing.place)

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

    def _quietly(self, compare: Callable[[LeaseRun], None], run: LeaseRun) -> None:
        try:
            compare(run)
        except (ChainError, ExecutionError) as error:
            log.warning("lease %s: %s", run.record.view.id, error.detail)


def view_in(event: wire.Event) -> wire.LeaseView | None:
    """The lease's view that an event brings; None if it brings none, or something else."""
    try:
        return wire.LeaseView.model_validate(event.data.get("view"))
    except ValueError:
        return None
