"""The voice of a lease: its log, sealed to the consumer, and the phases that its relay is told."""

from __future__ import annotations

import logging
import time
from collections import deque
from functools import partial

from suanli_node.background import Background
from suanli_node.bounds import Bounded
from suanli_node.engine.runlog import LogEntry, LogWriter, Source, read_log
from suanli_node.leases.log_shipping import LogShipper, Part, ReadLog
from suanli_node.leases.record import LeaseFolder, LeaseRecord
from suanli_node.leases.relay import Relay
from suanli_node.leases.services import Runner
from suanli_node.retry import Halted, Until
from suanli_protocol import wire
from suanli_protocol.documents import LogSummary, hex32, sha256
from suanli_protocol.errors import NotFoundError, SuanliError
from suanli_protocol.reasons import Phase
from suanli_protocol.sealing import Context, seal_bytes

POST_S = 60.0  # a relay may take for a receipt or a phase
REPORT_DETAIL_MAX = 500
SETUP_LOG_BYTES = 4 * 2**20
SHIPPER_WAIT_S = 5.0
NO_LOG = LogSummary(sha256=hex32(sha256(b"")), size=0, chunks=0)
log = logging.getLogger(__name__)


class LeaseLog:
    """What this node says while it prepares, then what the run prints; shipped as it grows once it is open.

    `receipt_ends`: the relay sees from the receipt that the log is complete.
    """

    def __init__(
        self, record: LeaseRecord, folder: LeaseFolder, runner: Runner, relay: Relay, *, receipt_ends: bool
    ) -> None:
        self._record, self._folder, self._runner, self._relay = record, folder, runner, relay
        self._receipt_ends = receipt_ends
        self._shipper: LogShipper | None = None

    def say(self, source: Source, data: bytes) -> None:
        """Add to what the node itself says, if there is somebody to seal it to."""
        if not self._record.consumer_key:
            return
        try:
            writer = LogWriter(self._folder.setup_log, limit=SETUP_LOG_BYTES)
            writer.append(source, data, int(time.time() * 1000))
            writer.close()
        except OSError as error:
            log.warning("lease %s: its log lacks a line: %s", self._record.view.id, error)

    def open(self) -> LogShipper | None:
        """Have it shipped, unless it is: by the one shipper of this lease.

        None where there is nobody to seal it to: a former life may have read the job, and said something, all the same.
        """
        if not self._record.consumer_key:
            return None
        if self._shipper is None:
            self._shipper = self._new_shipper()
            if self._record.status is not None:
                self._shipper.open_run()  # it ended in a former life of this process
            self._shipper.start()
        return self._shipper

    def open_run(self) -> None:
        """Nothing more is said; from now on the run's own log is shipped."""
        if self._shipper is not None:
            self._shipper.open_run()

    def look(self) -> None:
        """There may be new output."""
        if self._shipper is not None:
            self._shipper.look()

    @property
    def summary(self) -> LogSummary:
        """The log as far as it was cut for shipping."""
        return self._shipper.summary if self._shipper is not None else NO_LOG

    def finish(self, patience: Until) -> LogSummary:
        """The log, as it was shipped, or as far as it was cut, if the relay does not take it."""
        shipper, record = self.open(), self._record
        if shipper is None:
            return NO_LOG
        try:
            return shipper.finish(patience.left_s)
        except Halted:
            raise
        except Exception as error:
            log.warning("lease %s: the log was not taken: %s", record.view.id, words(error))
            record.delivered = record.delivered and not getattr(error, "retryable", False)
            self._shipper = None
            return shipper.summary

    def abandon(self) -> None:
        """Ship nothing more; it can be taken up later."""
        if self._shipper is not None:
            self._shipper.abandon()

    def join(self) -> None:
        """Until nothing of it is written into the lease's folder any more, or SHIPPER_WAIT_S; call after `abandon`."""
        if self._shipper is not None:
            self._shipper.join(SHIPPER_WAIT_S)

    def _new_shipper(self) -> LogShipper:
        record, runner = self._record, self._runner

        def seal(chunk: bytes, seq: int) -> bytes:
            return seal_bytes(chunk, bytes.fromhex(record.consumer_key[2:]), Context(record.lease, "log", seq))

        def read_run(offset: int) -> tuple[list[LogEntry], int]:
            try:
                return runner.read_log(record.run_id, offset)
            except NotFoundError:
                return [], offset

        logs: dict[Part, ReadLog] = {"setup": partial(read_log, self._folder.setup_log), "run": read_run}
        post = partial(self._relay.post_logs, record.lease)
        return LogShipper(self._folder.chunks, logs, seal, post, receipt_ends=self._receipt_ends)


class Reports:
    """The phases of a lease, told to its relay in the background, so that none holds up the run."""

    def __init__(self, record: LeaseRecord, relay: Relay, bounded: Bounded, background: Background) -> None:
        self._record, self._relay, self._bounded, self._background = record, relay, bounded, background
        self._newest: deque[wire.Report] = deque(maxlen=1)  # that was not sent

    def report(self, phase: Phase, reason: str = "", detail: str = "") -> None:
        """Have the phase told soon."""
        self._newest.append(wire.Report(phase=phase, reason=reason, detail=detail[:REPORT_DETAIL_MAX]))
        self._background.submit(self._send)

    def _send(self) -> None:
        """Sends the newest report; one that it has overtaken says nothing any more."""
        try:
            report = self._newest.pop()
        except IndexError:
            return
        try:
            send = partial(self._relay.report, self._record.lease, report)
            self._bounded.within(POST_S, send, "reporting a phase")
        except Halted:
            return
        except Exception as error:
            log.warning("lease %s: phase %s was not reported: %s", self._record.view.id, report.phase, words(error))


def words(error: Exception) -> str:
    """What a person is told of an error of whatever kind."""
    return error.detail if isinstance(error, SuanliError) else f"{type(error).__name__}: {error!s:.200}"
