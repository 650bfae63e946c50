"""Setbacks: what becomes of a lease when a step fails.

A lease that gets no receipt costs the bond, so nothing from outside keeps a step from the next: what fails is tried a
few times, as long as there is time for a claim, and then the lease goes on without what the step should have given.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from contextlib import suppress

from suanli_node.engine.runlog import Source
from suanli_node.leases.execution import Execution
from suanli_node.leases.hold import Hold
from suanli_node.leases.intake import RunRefusedError
from suanli_node.leases.record import Step
from suanli_node.leases.voice import LeaseLog, words
from suanli_node.retry import Halted
from suanli_protocol.documents import LogSummary
from suanli_protocol.errors import SuanliError
from suanli_protocol.reasons import Reason

TRIES = 4  # of a step that fails, or takes the process with it
AGAIN_S = 10.0  # between them
OWN_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)  # no doing of a job's
log = logging.getLogger(__name__)


class Setbacks:
    """How one lease copes with them. `sign_over` signs a receipt over a log and over what the record says."""

    def __init__(
        self, hold: Hold, lease_log: LeaseLog, execution: Execution, sign_over: Callable[[LogSummary], None]
    ) -> None:
        self._hold, self._record = hold, hold.record
        self._lease_log, self._execution, self._sign_over = lease_log, execution, sign_over

    def count_try(self) -> None:
        """A former process did not come to the end of this step: perhaps because of it."""
        if self._record.step in (Step.ACCEPTED, Step.ENDED, Step.COLLECTED):
            self._record.tries += 1
            with suppress(OSError):
                self._hold.folder.save(self._record)

    def attempt(self, advance: Callable[[], None]) -> None:
        """Take the present step by `advance`. Until the receipt is signed nothing but Halted comes out of it."""
        if self._record.step is Step.SIGNED:
            advance()
            return
        try:
            if self._record.tries >= TRIES:
                self._go_on_without(Exception("it was tried too often"))
                return
            advance()
        except Halted:
            raise
        except Exception as error:
            self._stumble(error)

    def end_unrun(self, refusal: RunRefusedError) -> None:
        """Nothing ran and nothing will: a receipt over nothing gives the consumer everything back."""
        self._lease_log.say(Source.NODE, f"{refusal.detail}\n".encode("utf-8", "replace"))
        with suppress(OSError):
            self._hold.folder.clear_inputs()
        self._record.reason, self._record.detail, self._record.status = refusal.reason, refusal.detail, None
        self._hold.save(Step.ENDED)

    def spoil(self, reason: Reason, detail: str) -> None:
        """A job that ended well is failed after all; any other keeps its reason."""
        if self._record.reason == Reason.OK:
            self._record.reason, self._record.detail = reason, detail

    def _stumble(self, error: Exception) -> None:
        """Try the step again in a while, or else go on."""
        record = self._record
        record.tries += 1
        log.warning("lease %s: step %s: %r", record.view.id, record.step, error, exc_info=not _is_told(error))
        try:
            if record.tries >= TRIES or self._hold.spare_s() <= AGAIN_S:
                self._go_on_without(error)
                return
        except Halted:
            raise
        except Exception:
            log.exception("lease %s cannot go on at %s yet", record.view.id, record.step)
        self._hold.halted.wait(AGAIN_S)

    def _go_on_without(self, error: Exception) -> None:
        """What the present step should have given is not there, and will not be: the lease ends all the same."""
        record, why = self._record, words(error)
        match record.step:
            case Step.ACCEPTED:
                self.end_unrun(RunRefusedError(Reason.SANDBOX_FAILED, why))
            case Step.STARTED:
                self._execution.stop()
                self.end_unrun(RunRefusedError(Reason.WORKER_LOST, why))
            case Step.ENDED:
                self._lose_outputs(error)
                self._hold.save(Step.COLLECTED)
            case Step.COLLECTED:
                self._lose_outputs(error)
                if record.tries > TRIES + 1:  # not even that can be signed
                    record.status, record.reason = None, Reason.WORKER_LOST
                self._sign_over(self._lease_log.summary)
            case _:
                raise error

    def _lose_outputs(self, error: Exception) -> None:
        is_ours = isinstance(error, OSError) and error.errno in OWN_DISK
        self._record.outputs = None
        self.spoil(Reason.SANDBOX_FAILED if is_ours else Reason.OUTPUT_REFUSED, f"no outputs: {words(error)}")


def _is_told(error: Exception) -> bool:
    """Whether the error's words say enough without a trace."""
    return isinstance(error, SuanliError | OSError)
