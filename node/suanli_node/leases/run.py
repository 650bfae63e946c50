"""One lease on its way through this node: accepted → started → ended → collected → signed → posted.

Each step is a method that does its work and then saves the next step; whatever it did before saving can be done again.
So a killed daemon takes every lease up where its record stands: a run is started once, a receipt is signed once.

A lease that gets no receipt costs the bond, so nothing from outside keeps a step from the next: what fails is tried a
few times, as long as there is time for a claim, and then the lease goes on without it (`_go_on_without`).
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import assert_never

from suanli_node.bounds import Bounded
from suanli_node.engine.runlog import LogEntry, LogWriter, Source, read_log
from suanli_node.engine.runs import RunSpec, RunStatus, lost, write_json
from suanli_node.leases.closing import margin_s
from suanli_node.leases.delivery import deliver
from suanli_node.leases.ending import Ending
from suanli_node.leases.intake import LOOK_S, Intake, RunRefusedError, check_window
from suanli_node.leases.log_shipping import LogShipper, Part, ReadLog
from suanli_node.leases.receipts import Outcome, evidence_of, final_phase, sign_receipt
from suanli_node.leases.record import LeaseFolder, LeaseRecord, Step, present
from suanli_node.leases.services import Services
from suanli_node.leases.standing import Place
from suanli_node.leases.verification import Assignment
from suanli_node.retry import Halted, Until, persist
from suanli_protocol import faults, wire
from suanli_protocol.documents import JobDocument, LogSummary, hex32, sha256
from suanli_protocol.errors import ChainError, ExecutionError, NotFoundError, SuanliError, TimedOutError
from suanli_protocol.reasons import Phase, Reason
from suanli_protocol.sealing import Context, seal_bytes
from suanli_protocol.signing import verify

CHAIN_LOOK_S = 5.0
HOST_PAUSE_S = 1.0
SHIPPER_WAIT_S = 5.0
START_TRIES = 60
HOST_AWAY = ("ray_host", "ray_stuck")
JOB_WAIT_S = 300  # for the job document, which states all later time limits
STARTUP_SECONDS_MAX = 3600
REPORT_DETAIL_MAX = 500
SETUP_LOG_BYTES = 4 * 2**20
TRIES = 4  # of a step that fails, or takes the process with it
AGAIN_S = 10.0  # between them
ROOM_LOOK_S = 0.5
POST_S = 60.0  # a relay may take for a receipt or a phase
CALLS_HANGING_MAX = 4  # of one lease
OWN_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)  # no doing of a job's
NO_LOG = LogSummary(sha256=hex32(sha256(b"")), size=0, chunks=0)
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
        self._halt, self._stopped, self._bell = threading.Event(), threading.Event(), threading.Event()
        self._bounded = Bounded(CALLS_HANGING_MAX, self._halt)
        self._unreported: deque[wire.Report] = deque(maxlen=1)
        self._stopped_at: int | None = None  # as far as the chain was asked
        self._saving = threading.Lock()  # a closed lease's folder is gone and stays gone
        self._shipper: LogShipper | None = None
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
        if self.record.step in (Step.ACCEPTED, Step.ENDED, Step.COLLECTED):
            self.record.tries += 1
            with suppress(OSError):
                self.folder.save(self.record)

    @property
    def alive(self) -> bool:
        """Whether its thread works on it."""
        return self._thread.is_alive()

    def ring(self) -> None:
        """The relay holds something new for this lease."""
        self._bell.set()

    def stop(self, at: int | None = None) -> None:
        """The chain says that the lease was stopped, `at` if that is known: end the run, bill what it used."""
        self._stopped_at = at or self._stopped_at
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._bell.set()
        threading.Thread(target=self._stop_run, name="stop-run", daemon=True).start()

    def countersigned(self, signature: str) -> None:
        """The consumer's signature over the receipt has come: kept if it is one, whatever the relay does with it."""
        record = self.record
        if record.countersignature or record.signed is None:
            return
        held = wire.from_hex(signature, size=64, name="countersignature")
        verify(self._services.domain, record.receipt, held, self.assignment.lease.consumer)
        with self._saving:
            if record.step is Step.CLOSED:
                return
            record.countersignature, record.countersigned_at = signature, int(time.time())
            self.folder.save(record)
        faults.reach("node.countersignature.kept")

    def close(self, ending: Ending | None = None) -> None:
        """The chain says that the lease is closed: nothing of it is needed here any more but receipt and ending."""
        self.halt()
        with self._saving:
            if ending is not None:
                write_json(self._services.endings / f"{self.record.view.id[2:]}.json", ending.to_json())
            self.record.step = Step.CLOSED
            faults.reach("node.lease.closed")
            self._tidy()

    def _tidy(self) -> None:
        for tidy in (self._stop_run, partial(self._services.runner.forget, self.record.run_id)):
            try:
                tidy()
            except NotFoundError:
                continue
            except SuanliError as error:
                log.warning("lease %s: %s", self.record.view.id, error.detail)
        if self._shipper is not None:
            self._shipper.join(SHIPPER_WAIT_S)  # it writes into the folder
        self.folder.remove()

    def join(self, timeout_s: float) -> None:
        """Until its thread works no more, or the time is over; call after `halt`."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def halt(self) -> None:
        """Let go of the lease; its record says where to go on."""
        self._halt.set()
        self._bell.set()
        if self._shipper is not None:
            self._shipper.abandon()

    # The steps

    def _live(self) -> None:
        try:
            while self.record.step not in (Step.POSTED, Step.CLOSED):
                self._check_halt()
                self._try()
        except Halted:
            return
        except SuanliError as error:
            log.error("lease %s waits at %s: %s", self.record.view.id, self.record.step, error.detail)
        except Exception:
            log.exception("lease %s waits at %s", self.record.view.id, self.record.step)
        finally:
            if self._shipper is not None:
                self._shipper.abandon()
            self._services.on_end(self)

    def _try(self) -> None:
        """Take a step. Until the receipt is signed nothing ends the lease's way: see `_go_on_without`."""
        if self.record.step is Step.SIGNED:
            self._advance()
            return
        try:
            if self.record.tries >= TRIES:
                self._go_on_without(Exception("it was tried too often"))
                return
            self._open_shipper()
            self._advance()
        except Halted:
            raise
        except Exception as error:
            self._stumble(error)

    def _stumble(self, error: Exception) -> None:
        """Try the step again in a while, or else go on."""
        record = self.record
        record.tries += 1
        log.warning("lease %s: step %s: %r", record.view.id, record.step, error, exc_info=not _is_told(error))
        try:
            if record.tries >= TRIES or self._spare_s() <= AGAIN_S:
                self._go_on_without(error)
                return
        except Halted:
            raise
        except Exception:
            log.exception("lease %s cannot go on at %s yet", record.view.id, record.step)
        self._halt.wait(AGAIN_S)

    def _go_on_without(self, error: Exception) -> None:
        """What the present step should have given is not there, and will not be: the lease ends all the same."""
        record, why = self.record, _words(error)
        match record.step:
            case Step.ACCEPTED:
                self._end_without_run(RunRefusedError(Reason.SANDBOX_FAILED, why))
            case Step.STARTED:
                self._stop_run()
                self._end_without_run(RunRefusedError(Reason.WORKER_LOST, why))
            case Step.ENDED:
                self._lose_outputs(error)
                self._save(Step.COLLECTED)
            case Step.COLLECTED:
                self._lose_outputs(error)
                if record.tries > TRIES + 1:  # not even that can be signed
                    record.status, record.reason = None, Reason.WORKER_LOST
                self._sign_over(self._shipper.summary if self._shipper is not None else NO_LOG)
            case _:
                raise error

    def _lose_outputs(self, error: Exception) -> None:
        is_ours = isinstance(error, OSError) and error.errno in OWN_DISK
        self.record.outputs = None
        self._spoil(Reason.SANDBOX_FAILED if is_ours else Reason.OUTPUT_REFUSED, f"no outputs: {_words(error)}")

    def _spare_s(self) -> float:
        """Seconds until the receipt must be signed, so that what it is over can still be claimed; may be negative."""
        clauses = self.assignment.clauses
        end = self._stopped_at or self.record.stopped_at or clauses.ends_at
        return end + clauses.window - 2 * margin_s(clauses.window) - time.time()

    def _advance(self) -> None:
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
            self._end_without_run(refusal)
            return
        self.record.job, self.record.ready_at = job, int(time.time())
        self._save(Step.STARTED)

    def _take_in(self) -> JobDocument:
        services = self._services
        check_window(self.assignment, services.least_window)
        self._await_room()
        begun = time.time()
        get_blob = partial(self._relay.get_blob, self.record.lease)
        key = services.signer.encryption_key
        intake = Intake(self.assignment, self.folder, get_blob, key, self._bell, self._check, self._bounded)
        try:
            if self._awaits_bell:
                self._bell.wait(LOOK_S)
            job = self.record.job = intake.job(begun + JOB_WAIT_S)
        finally:
            self.record.consumer_key = intake.consumer_key
        if job.archive or job.python:  # what needs no preparing runs before anybody could read that it is prepared
            self._report(Phase.STARTING)
        deadline = begun + min(job.timeouts.startup, STARTUP_SECONDS_MAX)
        unpacked = intake.archive(job.archive, deadline) if job.archive else None
        prepare = services.workshop.prepare
        self.record.spec = prepare(self.assignment, job, unpacked, self._say, deadline, self._check)
        faults.reach("node.inputs.fetched")
        self.folder.clear_inputs()
        self._check()
        return job

    def _await_room(self) -> None:
        """The escrow counts capacity as well; but this node may have less than it had when it signed the offer."""
        deadline = time.monotonic() + JOB_WAIT_S
        while not self._admit(self):
            self._check()
            if time.monotonic() >= deadline:
                raise RunRefusedError(Reason.RELEASED, "the node had no room for it")
            self._halt.wait(ROOM_LOOK_S)

    def _watch(self) -> None:
        """Start the run unless it was started, and wait for its end."""
        runner, run_id = self._services.runner, self.record.run_id
        try:
            self._start(present(self.record.spec, "spec"))
        except ExecutionError as error:
            self._stop_run()  # had it begun all the same, it shall not go on
            self._end_without_run(RunRefusedError(Reason.SANDBOX_FAILED, error.detail))
            return
        self._report(Phase.RUNNING)
        if self._shipper is not None:
            self._shipper.open_run()
        if self._stopped.is_set():
            self._stop_run()
        status = self._follow(runner.status(run_id))
        faults.reach("node.run.ended")
        self.record.status, self.record.reason = status, status.reason or Reason.WORKER_LOST
        self.record.detail = status.detail
        self._save(Step.ENDED)

    def _start(self, spec: RunSpec) -> None:
        """Have the executor start the run; while its host cannot be reached, for a minute, again and again."""
        for attempt in range(START_TRIES):
            self._check_halt()
            try:
                self._services.runner.start(spec)
                faults.reach("node.run.started")
                return
            except (ExecutionError, TimedOutError) as error:
                is_final = isinstance(error, ExecutionError) and error.code not in HOST_AWAY
                if is_final or attempt == START_TRIES - 1 or self._spare_s() <= 0:
                    raise ExecutionError(error.detail, hint=error.hint, code=error.code) from error
                self._host_is_away(error)

    def _host_is_away(self, error: SuanliError) -> None:
        log.warning("lease %s: %s", self.record.view.id, error.detail)
        self._services.on_trouble()
        self._halt.wait(HOST_PAUSE_S)

    def _follow(self, status: RunStatus) -> RunStatus:
        """The final status. Meanwhile the log is shipped as it grows, and the chain is looked at now and then."""
        next_look = time.monotonic() + CHAIN_LOOK_S
        while not status.final:
            if self._spare_s() <= 0:
                self._stop_run()
                return lost(status, "its time is over, and the node's host does not say that it ended")
            if time.monotonic() >= next_look:
                if self._stopped.is_set():
                    self._stop_run()  # once more: the host may have been away when it was told
                self._look_at_chain()
                next_look = time.monotonic() + CHAIN_LOOK_S
            self._check_halt()
            try:
                status = self._services.runner.wait_change(status, CHAIN_LOOK_S)
            except (ExecutionError, TimedOutError) as error:
                self._host_is_away(error)
                status = self._services.runner.status(self.record.run_id)
            if self._shipper is not None:
                self._shipper.look()
        return status

    def _collect(self) -> None:
        job = self.record.job
        if job is not None and self.record.status is not None and self.record.status.exit_code is not None:
            try:
                collect, run_id = self._services.workshop.collect, self.record.run_id
                found = collect(self.assignment, run_id, job, self.folder, self._say)
                faults.reach("node.outputs.sealed")
                self.record.outputs = found.outputs
                if found.refused:
                    self._spoil(Reason.OUTPUT_REFUSED, "an output is no plain file")
            except RunRefusedError as refusal:
                self._say(Source.NODE, f"{refusal.detail}\n".encode("utf-8", "replace"))
                self._spoil(refusal.reason, refusal.detail)
        self._save(Step.COLLECTED)

    def _spoil(self, reason: Reason, detail: str) -> None:
        """A job that ended well is failed after all; any other keeps its reason."""
        if self.record.reason == Reason.OK:
            self.record.reason, self.record.detail = reason, detail

    def _sign(self) -> None:
        """Evidence and receipt. The relay should hold all that they name; but it is not waited for beyond the claim."""
        patience = Until(self._halt, self._delivery_s())
        self.record.delivered = self._deliver(patience)
        faults.reach("node.outputs.delivered")
        self._sign_over(self._ship_log(patience))

    def _sign_over(self, summary: LogSummary) -> None:
        services, record = self._services, self.record
        self._learn_stop()
        evidence = evidence_of(self.assignment, self._outcome(), summary, record.outputs)
        record.signed = sign_receipt(services.signer, services.domain, evidence)
        record.signed_at = int(time.time())
        self._save(Step.SIGNED)
        faults.reach("node.receipt.signed")

    def _delivery_s(self) -> float:
        """How long the relay may take for outputs and log: a window, but never so long that a claim comes too late."""
        return max(1.0, min(float(self.assignment.clauses.window), self._spare_s()))

    def _deliver(self, patience: Until) -> bool:
        """Whether nothing is left to be sent: the relay holds the outputs, or refused them, or there are none."""
        outputs, lease = self.record.outputs, self.record.lease
        if outputs is None:
            return True
        send = partial(deliver, self._relay, self._services.domain, lease, outputs, self.folder, patience)
        try:
            self._bounded.within(patience.left_s, send, "uploading outputs")
        except (Halted, TimedOutError):
            self._check_halt()
            log.warning("lease %s: the outputs could not be delivered yet", self.record.view.id)
            return False
        except Exception as error:
            log.warning("lease %s: the outputs were not taken: %s", self.record.view.id, _words(error))
        return True

    def _ship_log(self, patience: Until) -> LogSummary:
        """The log, as it was shipped, or as far as it was cut, if the relay does not take it."""
        shipper, record = self._open_shipper(), self.record
        try:
            return shipper.finish(patience.left_s)
        except Halted:
            raise
        except Exception as error:
            log.warning("lease %s: the log was not taken: %s", record.view.id, _words(error))
            record.delivered = record.delivered and not getattr(error, "retryable", False)
            self._shipper = None
            return shipper.summary

    def _post(self) -> None:
        record = self.record
        signed = present(record.signed, "receipt")
        self._keep_receipt()
        if not record.delivered:
            patience = Until(self._halt, max(1.0, float(self.assignment.clauses.window)))
            self._deliver(patience)
            self._ship_log(patience)
        what, send = "posting a receipt", partial(self._relay.post_receipt, record.lease, signed)
        try:
            persist(partial(self._bounded.within, POST_S, send, what), self._halt, what)
        except NotFoundError:
            if not record.bare:  # of a bare one nobody was told, so nobody keeps its receipt
                raise
        faults.reach("node.receipt.posted")
        self._save(Step.POSTED)
        if record.reason != Reason.OK or not self._is_markets:  # a good end the market sees from the receipt
            self._report(final_phase(record.reason), record.reason, record.detail)

    def _keep_receipt(self) -> None:
        """A copy for the operator, which outlives the lease."""
        try:
            write_json(self._services.receipts / f"{self.record.view.id[2:]}.json", self.record.to_json())
        except OSError as error:
            log.warning("lease %s: its receipt is not kept: %s", self.record.view.id, error)
        faults.reach("node.receipt.kept")

    # Parts of the steps

    def _end_without_run(self, refusal: RunRefusedError) -> None:
        """Nothing ran and nothing will: a receipt over nothing gives the consumer everything back."""
        self._say(Source.NODE, f"{refusal.detail}\n".encode("utf-8", "replace"))
        with suppress(OSError):
            self.folder.clear_inputs()
        self.record.reason, self.record.detail, self.record.status = refusal.reason, refusal.detail, None
        self._save(Step.ENDED)

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
        if self.record.reason != Reason.STOPPED and not self._stopped.is_set():
            return
        try:
            self.record.stopped_at = self._services.stand(self.assignment).stopped_at or self._stopped_at
        except Exception as error:
            log.warning("lease %s: the time of its stop is not known: %s", self.record.view.id, _words(error))

    def _stop_run(self) -> None:
        try:
            self._services.runner.stop(self.record.run_id, Reason.STOPPED)
        except NotFoundError:
            return  # not started yet: the thread sees the flag before it starts anything
        except SuanliError as error:
            log.error("lease %s cannot be stopped: %s", self.record.view.id, error.detail)

    def _check_halt(self) -> None:
        if self._halt.is_set():
            raise Halted(self.record.view.id)

    def _check(self) -> None:
        """Raises if there is nothing to prepare for any more."""
        self._check_halt()
        if self._stopped.is_set():
            raise RunRefusedError(Reason.STOPPED, "the lease was stopped before the job began")

    def _save(self, step: Step) -> None:
        record = self.record
        with self._saving:
            self._check_halt()
            former = record.step, record.tries
            record.step, record.tries = step, 0
            try:
                self.folder.save(record)
            except OSError as error:
                if self._spare_s() > 0:
                    record.step, record.tries = former
                    raise
                log.error("lease %s: the disk does not take that it is %s: %s", record.view.id, step, error)
            faults.reach(f"node.lease.{step}")
        log.debug("lease %d: %s", self.record.view.number, step)

    def _report(self, phase: Phase, reason: str = "", detail: str = "") -> None:
        report = wire.Report(phase=phase, reason=reason, detail=detail[:REPORT_DETAIL_MAX])
        self._unreported.append(report)
        self._services.reports.submit(self._send_report)

    def _send_report(self) -> None:
        """Sends the newest report; one that it has overtaken says nothing any more."""
        try:
            report = self._unreported.pop()
        except IndexError:
            return
        try:
            send = partial(self._relay.report, self.record.lease, report)
            self._bounded.within(POST_S, send, "reporting a phase")
        except Halted:
            return
        except Exception as error:
            log.warning("lease %s: phase %s was not reported: %s", self.record.view.id, report.phase, _words(error))

    # The log

    def _say(self, source: Source, data: bytes) -> None:
        if not self.record.consumer_key:
            return  # nobody to seal it to
        try:
            writer = LogWriter(self.folder.setup_log, limit=SETUP_LOG_BYTES)
            writer.append(source, data, int(time.time() * 1000))
            writer.close()
        except OSError as error:
            log.warning("lease %s: its log lacks a line: %s", self.record.view.id, error)

    def _open_shipper(self) -> LogShipper:
        """The one shipper of this lease, at work."""
        if self._shipper is None:
            self._shipper = self._new_shipper()
            if self.record.status is not None:
                self._shipper.open_run()  # it ended in a former life of this process
            self._shipper.start()
        return self._shipper

    def _new_shipper(self) -> LogShipper:
        services, lease = self._services, self.record.lease

        def seal(chunk: bytes, seq: int) -> bytes:
            return seal_bytes(chunk, bytes.fromhex(self.record.consumer_key[2:]), Context(lease, "log", seq))

        def read_run(offset: int) -> tuple[list[LogEntry], int]:
            try:
                return services.runner.read_log(self.record.run_id, offset)
            except NotFoundError:
                return [], offset

        logs: dict[Part, ReadLog] = {"setup": partial(read_log, self.folder.setup_log), "run": read_run}
        post = partial(self._relay.post_logs, lease)
        return LogShipper(self.folder.chunks, logs, seal, post, receipt_ends=self._is_markets)


def _words(error: Exception) -> str:
    """What a person is told of an error of whatever kind."""
    return error.detail if isinstance(error, SuanliError) else f"{type(error).__name__}: {error!s:.200}"


def _is_told(error: Exception) -> bool:
    """Whether the error's words say enough without a trace."""
    return isinstance(error, SuanliError | OSError)
