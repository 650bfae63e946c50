"""One lease on its way through this node.

    accepted     `_prepare`   there is room, its job and inputs come, the workshop makes all ready
    started      `_watch`     the executor runs it to its end
    ended        `_collect`   its outputs are sealed
    collected    `_sign`      outputs and log are delivered; evidence and receipt are signed
    signed       `_post`      the relay takes the receipt
    posted

Each step is a method that does its work and then saves the next step; whatever it did before saving can be done again.
So a killed daemon takes every lease up where its record stands: a run is started once, a receipt is signed once.
What becomes of a step that fails is said in `setbacks`, what the lease's two parties hear meanwhile in `voice`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import assert_never

from suanli_node.bounds import Bounded
from suanli_node.engine.runlog import Source
from suanli_node.engine.runs import write_json
from suanli_node.leases.delivery import deliver
from suanli_node.leases.ending import Ending
from suanli_node.leases.execution import Execution
from suanli_node.leases.hold import Hold
from suanli_node.leases.intake import LOOK_S, Intake, RunRefusedError, check_window
from suanli_node.leases.receipts import Outcome, evidence_of, final_phase, sign_receipt
from suanli_node.leases.record import LeaseFolder, LeaseRecord, Step, present
from suanli_node.leases.services import Services
from suanli_node.leases.setbacks import Setbacks
from suanli_node.leases.standing import Place
from suanli_node.leases.verification import Assignment
from suanli_node.leases.voice import POST_S, LeaseLog, Reports, words
from suanli_node.retry import Halted, Until, persist
from suanli_protocol import faults, wire
from suanli_protocol.documents import JobDocument, LogSummary
from suanli_protocol.errors import ChainError, ExecutionError, NotFoundError, SuanliError, TimedOutError
from suanli_protocol.reasons import Phase, Reason
from suanli_protocol.signing import verify

JOB_WAIT_S = 300  # for the job document, which states all later time limits
STARTUP_SECONDS_MAX = 3600
ROOM_LOOK_S = 0.5
CALLS_HANGING_MAX = 4  # of one lease
log = logging.getLogger(__name__)

Admit = Callable[["LeaseRun"], bool]  # whether there is room now; RunRefusedError if there never will be


class LeaseRun:
    """One lease, worked on by its own thread from `start` until its receipt is posted or it is closed."""

    def __init__(
        self,
        record: LeaseRecord,
        assignment: Assignment,
        folder: LeaseFolder,
        services: Services,
        *,
        awaits_bell: bool = False,
        admit: Admit = lambda _: True,
    ) -> None:
        """`awaits_bell`: the relay will ring when it holds the job, which it can hardly do yet."""
        self._awaits_bell, self._admit = awaits_bell, admit
        self.admitted = False  # there is room for it on this node
        self.record, self.assignment, self.folder = record, assignment, folder
        self._services, self._relay = services, services.relay_of(record.view.id)
        self._hold = Hold(record, assignment, folder)
        self._bounded = Bounded(CALLS_HANGING_MAX, self._hold.halted)
        self._lease_log = LeaseLog(record, folder, services.runner, self._relay, receipt_ends=self._is_markets)
        self._reports = Reports(record, self._relay, self._bounded, services.reports)
        self._execution = Execution(self._hold, services.runner, services.on_trouble)
        self._setbacks = Setbacks(self._hold, self._lease_log, self._execution, self._sign_over)
        self._thread = threading.Thread(target=self._live, name=f"lease-{record.run_id[:8]}", daemon=True)

    @property
    def _is_markets(self) -> bool:
        """Whether a market keeps the lease, which sees from the receipt how the run ended and its log."""
        return self._relay is self._services.market

    # What the daemon calls

    def start(self) -> None:
        """Begin, or go on where the record stands."""
        self._thread.start()

    @property
    def takes_room(self) -> bool:
        """Whether it takes capacity of this node."""
        return self.record.step is Step.STARTED or (self.record.step is Step.ACCEPTED and self.admitted)

    def count_try(self) -> None:
        """A former process did not come to the end of this step: perhaps because of it."""
        self._setbacks.count_try()

    @property
    def alive(self) -> bool:
        """Whether its thread works on it."""
        return self._thread.is_alive()

    def ring(self) -> None:
        """The relay holds something new for this lease."""
        self._hold.bell.set()

    def stop(self, at: int | None = None) -> None:
        """The chain says that the lease was stopped, `at` if that is known: end the run, bill what it used."""
        hold = self._hold
        hold.stopped_at = at or hold.stopped_at
        if hold.stopped.is_set():
            return
        hold.stopped.set()
        hold.bell.set()
        threading.Thread(target=self._execution.stop, name="stop-run", daemon=True).start()

    def countersigned(self, signature: str) -> None:
        """The consumer's signature over the receipt has come: kept if it is one, whatever the relay does with it."""
        record = self.record
        if record.countersignature or record.signed is None:
            return
        held = wire.from_hex(signature, size=64, name="countersignature")
        verify(self._services.domain, record.receipt, held, self.assignment.lease.consumer)
        with self._hold.saving:
            if record.step is Step.CLOSED:
                return
            record.countersignature, record.countersigned_at = signature, int(time.time())
            self.folder.save(record)
        faults.reach("node.countersignature.kept")

    def close(self, ending: Ending | None = None) -> None:
        """The chain says that the lease is closed: nothing of it is needed here any more but receipt and ending."""
        self.halt()
        with self._hold.saving:
            if ending is not None:
                write_json(self._services.endings / f"{self.record.view.id[2:]}.json", ending.to_json())
            self.record.step = Step.CLOSED
            faults.reach("node.lease.closed")
            self._tidy()

    def _tidy(self) -> None:
        for tidy in (self._execution.stop, partial(self._services.runner.forget, self.record.run_id)):
            try:
                tidy()
            except NotFoundError:
                continue
            except SuanliError as error:
                log.warning("lease %s: %s", self.record.view.id, error.detail)
        self._lease_log.join()
        self.folder.remove()

    def join(self, timeout_s: float) -> None:
        """Until its thread works no more, or the time is over; call after `halt`."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def halt(self) -> None:
        """Let go of the lease; its record says where to go on."""
        self._hold.let_go()
        self._lease_log.abandon()

    # The steps

    def _live(self) -> None:
        try:
            while self.record.step not in (Step.POSTED, Step.CLOSED):
                self._hold.check_halt()
                self._setbacks.attempt(self._advance)
        except Halted:
            return
        except SuanliError as error:
            log.error("lease %s waits at %s: %s", self.record.view.id, self.record.step, error.detail)
        except Exception:
            log.exception("lease %s waits at %s", self.record.view.id, self.record.step)
        finally:
            self._lease_log.abandon()
            self._services.on_end(self)

    def _advance(self) -> None:
        if self.record.step is not Step.SIGNED:
            self._lease_log.open()
        match self.record.step:
            case Step.ACCEPTED:
                self._prepare()
            case Step.STARTED:
                self._watch()
            case Step.ENDED:
                self._collect()
            case Step.COLLECTED:
                self._sign()
            case Step.SIGNED:
                self._post()
            case Step.POSTED | Step.CLOSED:
                return
            case _:
                assert_never(self.record.step)

    def _prepare(self) -> None:
        try:
            job = self._take_in()
        except RunRefusedError as refusal:
            self._setbacks.end_unrun(refusal)
            return
        self.record.job, self.record.ready_at = job, int(time.time())
        self._hold.save(Step.STARTED)

    def _take_in(self) -> JobDocument:
        services = self._services
        check_window(self.assignment, services.least_window)
        self._await_room()
        begun = time.time()
        get_blob = partial(self._relay.get_blob, self.record.lease)
        key = services.signer.encryption_key
        intake = Intake(self.assignment, self.folder, get_blob, key, self._hold.bell, self._hold.check, self._bounded)
        try:
            if self._awaits_bell:
                self._hold.bell.wait(LOOK_S)
            job = self.record.job = intake.job(begun + JOB_WAIT_S)
        finally:
            self.record.consumer_key = intake.consumer_key
        self._lease_log.open()
        if job.archive or job.python:  # what needs no preparing runs before anybody could read that it is prepared
            self._reports.report(Phase.STARTING)
        deadline = begun + min(job.timeouts.startup, STARTUP_SECONDS_MAX)
        unpacked = intake.archive(job.archive, deadline) if job.archive else None
        prepare = services.workshop.prepare
        self.record.spec = prepare(self.assignment, job, unpacked, self._lease_log.say, deadline, self._hold.check)
        faults.reach("node.inputs.fetched")
        self.folder.clear_inputs()
        self._hold.check()
        return job

    def _await_room(self) -> None:
        """The escrow counts capacity as well; but this node may have less than it had when it signed the offer."""
        deadline = time.monotonic() + JOB_WAIT_S
        while not self._admit(self):
            self._hold.check()
            if time.monotonic() >= deadline:
                raise RunRefusedError(Reason.RELEASED, "the node had no room for it")
            self._hold.halted.wait(ROOM_LOOK_S)

    def _watch(self) -> None:
        """Start the run unless it was started, and wait for its end."""
        try:
            self._execution.start(present(self.record.spec, "spec"))
        except ExecutionError as error:
            self._execution.stop()  # had it begun all the same, it shall not go on
            self._setbacks.end_unrun(RunRefusedError(Reason.SANDBOX_FAILED, error.detail))
            return
        self._reports.report(Phase.RUNNING)
        self._lease_log.open_run()
        if self._hold.stopped.is_set():
            self._execution.stop()
        status = self._execution.follow(self._lease_log.look, self._look_at_chain)
        faults.reach("node.run.ended")
        self.record.status, self.record.reason = status, status.reason or Reason.WORKER_LOST
        self.record.detail = status.detail
        self._hold.save(Step.ENDED)

    def _collect(self) -> None:
        job = self.record.job
        if job is not None and self.record.status is not None and self.record.status.exit_code is not None:
            try:
                collect, run_id = self._services.workshop.collect, self.record.run_id
                found = collect(self.assignment, run_id, job, self.folder, self._lease_log.say)
                faults.reach("node.outputs.sealed")
                self.record.outputs = found.outputs
                if found.refused:
                    self._setbacks.spoil(Reason.OUTPUT_REFUSED, "an output is no plain file")
            except RunRefusedError as refusal:
                self._lease_log.say(Source.NODE, f"{refusal.detail}\n".encode("utf-8", "replace"))
                self._setbacks.spoil(refusal.reason, refusal.detail)
        self._hold.save(Step.COLLECTED)

    def _sign(self) -> None:
        """Evidence and receipt. The relay should hold all that they name; but it is not waited for beyond the claim."""
        patience = Until(self._hold.halted, self._delivery_s())
        self.record.delivered = self._deliver(patience)
        faults.reach("node.outputs.delivered")
        self._sign_over(self._lease_log.finish(patience))

    def _sign_over(self, summary: LogSummary) -> None:
        services, record = self._services, self.record
        self._learn_stop()
        evidence = evidence_of(self.assignment, self._outcome(), summary, record.outputs)
        record.signed = sign_receipt(services.signer, services.domain, evidence)
        record.signed_at = int(time.time())
        self._hold.save(Step.SIGNED)
        faults.reach("node.receipt.signed")

    def _delivery_s(self) -> float:
        """How long the relay may take for outputs and log: a window, but never so long that a claim comes too late."""
        return max(1.0, min(float(self.assignment.clauses.window), self._hold.spare_s()))

    def _deliver(self, patience: Until) -> bool:
        """Whether nothing is left to be sent: the relay holds the outputs, or refused them, or there are none."""
        outputs, lease = self.record.outputs, self.record.lease
        if outputs is None:
            return True
        send = partial(deliver, self._relay, self._services.domain, lease, outputs, self.folder, patience)
        try:
            self._bounded.within(patience.left_s, send, "uploading outputs")
        except (Halted, TimedOutError):
            self._hold.check_halt()
            log.warning("lease %s: the outputs could not be delivered yet", self.record.view.id)
            return False
        except Exception as error:
            log.warning("lease %s: the outputs were not taken: %s", self.record.view.id, words(error))
        return True

    def _post(self) -> None:
        record = self.record
        signed = present(record.signed, "receipt")
        self._keep_receipt()
        if not record.delivered:
            patience = Until(self._hold.halted, max(1.0, float(self.assignment.clauses.window)))
            self._deliver(patience)
            self._lease_log.finish(patience)
        what, send = "posting a receipt", partial(self._relay.post_receipt, record.lease, signed)
        try:
            persist(partial(self._bounded.within, POST_S, send, what), self._hold.halted, what)
        except NotFoundError:
            if not record.bare:  # of a bare one nobody was told, so nobody keeps its receipt
                raise
        faults.reach("node.receipt.posted")
        self._hold.save(Step.POSTED)
        if record.reason != Reason.OK or not self._is_markets:  # a good end the market sees from the receipt
            self._reports.report(final_phase(record.reason), record.reason, record.detail)

    def _keep_receipt(self) -> None:
        """A copy for the operator, which outlives the lease."""
        try:
            write_json(self._services.receipts / f"{self.record.view.id[2:]}.json", self.record.to_json())
        except OSError as error:
            log.warning("lease %s: its receipt is not kept: %s", self.record.view.id, error)
        faults.reach("node.receipt.kept")

    # Parts of the steps

    def _outcome(self) -> Outcome:
        record, status = self.record, self.record.status
        return Outcome(
            reason=record.reason,
            ended_at=(status.ended_at if status else None) or int(time.time()),
            billing=record.job.billing if record.job else "capacity",
            status=status,
            ready_at=record.ready_at,
            stopped_at=record.stopped_at,
        )

    def _look_at_chain(self) -> None:
        try:
            standing = self._services.stand(self.assignment)
        except ChainError:
            return  # nothing is torn down on missing data
        if standing.stopped:
            self.stop(standing.stopped_at)
        elif standing.place is Place.CLOSED:
            self.close(self._services.ending(self.record, standing.history))

    def _learn_stop(self) -> None:
        """The chain's clock of a stop, also of one that the job forestalled by an end of its own."""
        if self.record.reason != Reason.STOPPED and not self._hold.stopped.is_set():
            return
        try:
            self.record.stopped_at = self._services.stand(self.assignment).stopped_at or self._hold.stopped_at
        except Exception as error:
            log.warning("lease %s: the time of its stop is not known: %s", self.record.view.id, words(error))
