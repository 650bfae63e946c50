"""The execution of a lease's run: the executor is asked to start it, watched until it ends, and told to stop it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from suanli_node.engine.runs import RunSpec, RunStatus, lost
from suanli_node.leases.hold import Hold
from suanli_node.leases.services import Runner
from suanli_protocol import faults
from suanli_protocol.errors import ExecutionError, NotFoundError, SuanliError, TimedOutError
from suanli_protocol.reasons import Reason

CHAIN_LOOK_S = 5.0
HOST_PAUSE_S = 1.0
START_TRIES = 60
HOST_AWAY = ("ray_host", "ray_stuck")
log = logging.getLogger(__name__)


class Execution:
    """The run of one lease. `on_trouble`: the executor's host does not answer, somebody should look at it."""

    def __init__(self, hold: Hold, runner: Runner, on_trouble: Callable[[], None]) -> None:
        self._hold, self._runner, self._on_trouble = hold, runner, on_trouble

    def start(self, spec: RunSpec) -> None:
        """Have the executor start the run; while its host cannot be reached, for a minute, again and again.

        ExecutionError if it does not start.
        """
        for attempt in range(START_TRIES):
            self._hold.check_halt()
            try:
                self._runner.start(spec)
                faults.reach("node.run.started")
                return
            except (ExecutionError, TimedOutError) as error:
                is_final = isinstance(error, ExecutionError) and error.code not in HOST_AWAY
                if is_final or attempt == START_TRIES - 1 or self._hold.spare_s() <= 0:
                    raise ExecutionError(error.detail, hint=error.hint, code=error.code) from error
                self._host_is_away(error)

    def follow(self, on_change: Callable[[], None], look_at_chain: Callable[[], None]) -> RunStatus:
        """The final status. Meanwhile `on_change` is called as phase or log change, the other now and then."""
        run_id = self._hold.record.run_id
        status, next_look = self._runner.status(run_id), time.monotonic() + CHAIN_LOOK_S
        while not status.final:
            if self._hold.spare_s() <= 0:
                self.stop()
                return lost(status, "its time is over, and the node's host does not say that it ended")
            if time.monotonic() >= next_look:
                if self._hold.stopped.is_set():
                    self.stop()  # once more: the host may have been away when it was told
                look_at_chain()
                next_look = time.monotonic() + CHAIN_LOOK_S
            self._hold.check_halt()
            try:
                status = self._runner.wait_change(status, CHAIN_LOOK_S)
            except (ExecutionError, TimedOutError) as error:
                self._host_is_away(error)
                status = self._runner.status(run_id)
            on_change()
        return status

    def stop(self) -> None:
        """Have the executor stop the run, if it has begun."""
        try:
            self._runner.stop(self._hold.record.run_id, Reason.STOPPED)
        except NotFoundError:
            return  # not started yet: the thread sees the flag before it starts anything
        except SuanliError as error:
            log.error("lease %s cannot be stopped: %s", self._hold.record.view.id, error.detail)

    def _host_is_away(self, error: SuanliError) -> None:
        log.warning("lease %s: %s", self._hold.record.view.id, error.detail)
        self._on_trouble()
        self._hold.halted.wait(HOST_PAUSE_S)
