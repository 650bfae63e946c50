"""Inquiries: whether a consumer has signed, asked of relays on threads of their own, so that no relay holds up a move.

A relay may be away, answer for ever byte by byte, or lie: the chain's time goes on, and the closer acts without it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from suanli_node.background import Background
from suanli_node.leases.relay import Relay
from suanli_node.leases.run import LeaseRun
from suanli_protocol.errors import SuanliError

THREADS = 2
AWAY_S = 30.0  # a relay that could not be reached is left alone for so long
log = logging.getLogger(__name__)


class Inquiries:
    """Asks relays for countersignatures. Thread-safe; `learnt` is called once one was kept."""

    def __init__(self, relay_of: Callable[[str], Relay], learnt: Callable[[], None]) -> None:
        self._relay_of, self._learnt = relay_of, learnt
        self._threads = Background(THREADS, "inquiry")
        self._lock = threading.Lock()
        self._asking: set[str] = set()  # leases: none is asked for twice at a time
        self._away: dict[int, float] = {}  # by relay: until when (monotonic) it is left alone

    def submit(self, run: LeaseRun) -> None:
        """Ask soon, unless that is already being done or there is nothing left to ask. Never waits."""
        lease = run.record.view.id
        with self._lock:
            if run.record.countersignature or lease in self._asking:
                return
            self._asking.add(lease)
        self._threads.submit(partial(self._ask_once, run))

    def ask(self, run: LeaseRun) -> None:
        """Ask now, and wait for the answer. A relay that cannot be reached, or lies, changes nothing."""
        record = run.record
        if record.countersignature:
            return
        relay = self._relay_of(record.view.id)
        try:
            if found := relay.lease(record.lease).countersignature:
                run.countersigned(found)
                self._learnt()
        except SuanliError as error:
            if error.retryable:
                self._leave_alone(relay)
            log.debug("lease %s: no word of the consumer's: %s", record.view.id, error.detail)

    def _ask_once(self, run: LeaseRun) -> None:
        lease = run.record.view.id
        try:
            if not self._is_away(self._relay_of(lease)):
                self.ask(run)
        finally:
            with self._lock:
                self._asking.discard(lease)

    def _leave_alone(self, relay: Relay) -> None:
        with self._lock:
            self._away[id(relay)] = time.monotonic() + AWAY_S

    def _is_away(self, relay: Relay) -> bool:
        with self._lock:
            return time.monotonic() < self._away.get(id(relay), 0.0)
