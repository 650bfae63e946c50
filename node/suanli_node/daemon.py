"""The daemon: holds the key, dials out to market and chain, and drives every lease of this node.

It listens on nothing. Market or chain may vanish for as long as they like; runs go on, and so do leases.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from suanli_node.control import Mode, read_mode, write_mode
from suanli_node.engine.runs import write_json
from suanli_node.identity import Identity
from suanli_node.leases.closer import Closer
from suanli_node.leases.desk import LeaseDesk
from suanli_node.leases.hands import Hands
from suanli_node.requests import answer_requests
from suanli_node.retry import pauses
from suanli_node.settings import StateFolder
from suanli_node.supply.publisher import Publisher
from suanli_protocol import faults
from suanli_protocol.errors import ChainError, ConfigurationError, MarketError, ProtocolError, SuanliError
from suanli_protocol.market_client import MarketClient

RECONCILE_S = 30.0
LOOK_S = 0.5
CURSOR_S = 1.0  # between writings of the cursor: what is told again after a restart changes nothing
CLOSER_S = 1.0
UPKEEP_S = 60.0
log = logging.getLogger(__name__)


@dataclass
class Daemon:
    """A node that was opened: `run` serves until `halt`."""

    identity: Identity
    state: StateFolder
    market: MarketClient  # for events alone: a stream occupies its connection
    desk: LeaseDesk
    publisher: Publisher
    halted: threading.Event
    genesis: Callable[[], str]  # as the node's own endpoint says it
    keep_engine: Callable[[], None]  # brings it up again if it has ended
    closer: Closer
    hands: Hands
    upkeep: Callable[[], None]  # bounds what leases leave; ConfigurationError if nothing should be sold now

    def __post_init__(self) -> None:
        self._failure: SuanliError | None = None
        self._mode = Mode.SELLING
        self._seen, self._history = 0, ""  # the last event that was handled, and of which history of the market's it is
        self._unfit = ""  # why nothing should be sold now
        self._cursor_due = 0.0  # monotonic
        self._compared = 0.0  # when a comparison of all leases last began that then succeeded (monotonic)

    def run(self) -> None:
        """Take up old leases, sell, serve; returns after `halt`. ChainError if the chain was reset under the node."""
        self.desk.restore()
        self._thread(self._follow_control, "control")
        self._thread(self.publisher.keep, "publisher")
        self._thread(self._follow_events, "events")
        self._thread(self._close_leases, "closer")
        self._thread(self._answer, "requests")
        self._thread(self._keep_up, "upkeep")
        self._reconcile_for_ever()
        self.desk.halt()
        self.publisher.withdraw()
        if self._failure is not None:
            raise self._failure

    def halt(self) -> None:
        """End: the offer is withdrawn, nothing new is taken, runs go on in the executor."""
        self.halted.set()

    def _thread(self, work: Callable[[], None], name: str) -> None:
        threading.Thread(target=work, name=name, daemon=True).start()

    def _follow_control(self) -> None:
        """Do as the operator wishes: sell, pause, or drain and end."""
        drained_since: float | None = None
        while not self.halted.wait(LOOK_S):
            try:
                self._obey(read_mode(self.state))
            except ConfigurationError as error:
                log.error("%s; %s", error.detail, error.hint)
            if self._mode is not Mode.DRAINING or not self.publisher.off or not self.desk.idle:
                drained_since = None
                continue
            if drained_since is None:
                drained_since = time.monotonic()
                self.desk.wanted.set()
            if self._compared > drained_since:  # the market lists no lease either
                log.info("drained: no lease is left; `suanli-node resume` and `up` sell again")
                write_mode(self.state, Mode.PAUSED)
                self.halt()

    def _obey(self, mode: Mode) -> None:
        if mode is not self._mode:
            log.info("%s, as %s says", mode, self.state.control)
        self._mode = mode
        self.publisher.sell(mode is Mode.SELLING and not self._unfit)

    def _close_leases(self) -> None:
        """See to it that what was served is paid."""
        while not self.halted.is_set():
            if self.desk.hurry.wait(CLOSER_S):
                self.desk.hurry.clear()
                self.closer.hurry()
            try:
                self.closer.look(self.desk.runs())
            except Exception:
                log.exception("leases could not be closed")
                self.halted.wait(CLOSER_S)

    def _answer(self) -> None:
        """Do what commands ask for."""
        while not self.halted.wait(LOOK_S):
            try:
                answer_requests(self.state, self.hands.handle)
            except Exception:
                log.exception("requests could not be answered")

    def _keep_up(self) -> None:
        """Now and then: disk, clocks, what is left of old leases."""
        while not self.halted.is_set():
            try:
                self.upkeep()
                self._unfit = ""
            except ConfigurationError as error:
                if error.detail != self._unfit:
                    log.error("nothing is sold: %s; %s", error.detail, error.hint)
                self._unfit = error.detail
            except SuanliError as error:
                log.warning("upkeep: %s", error.detail)
            except Exception:
                log.exception("upkeep failed")
            self.halted.wait(UPKEEP_S)

    def _reconcile_for_ever(self) -> None:
        while not self.halted.is_set():
            self.desk.wanted.clear()
            begun = time.monotonic()
            try:
                self._look_after_engine()
                self.desk.reconcile()
                self._compared = begun
                self._check_genesis()
            except SuanliError as error:
                log.warning("leases could not be compared: %s", error.detail)
            except Exception:
                log.exception("leases could not be compared")
            self._rest(RECONCILE_S)

    def _look_after_engine(self) -> None:
        """A node whose sandbox does not hold any more offers nothing any more."""
        try:
            self.keep_engine()
        except ConfigurationError as error:
            self._failure = error
            self.halt()

    def _rest(self, seconds: float) -> None:
        """Until a look is wanted, the node halts, or the time is over."""
        deadline = time.monotonic() + seconds
        while not self.halted.is_set() and not self.desk.wanted.is_set() and time.monotonic() < deadline:
            self.halted.wait(LOOK_S)

    def _follow_events(self) -> None:
        """Handle events as they come, from where a former process stopped; reconnect for ever."""
        waits = pauses()
        self._seen, self._history = self._read_cursor()
        while not self.halted.is_set():
            try:
                for event in self.market.events(self._seen, history=self._history, on_start=self._begin_events):
                    waits = pauses()
                    if event.kind == "chain.reset":
                        self._check_genesis()
                    if event.kind == "offer.expired":
                        self.publisher.lost(str(event.data.get("offer")))
                    self.desk.handle(event)
                    faults.reach("node.event.handled")
                    self._write_cursor(event.seq)
            except (MarketError, ProtocolError, ChainError) as error:
                pause = next(waits)
                log.warning("events: %s; again in %.1f s", error.detail, pause)
                self.halted.wait(pause)
            except Exception:
                log.exception("an event could not be handled")
                self.halted.wait(next(waits))

    def _check_genesis(self) -> None:
        found = self.genesis()
        if found != self.identity.genesis:
            self._failure = ChainError(
                f"the chain was reset: its genesis is {found}, not {self.identity.genesis}",
                code="chain_reset",
                hint=f"its leases are gone; start with a new --state, or delete {self.state.path}",
            )
            self.halt()

    def _read_cursor(self) -> tuple[int, str]:
        """The last event that was handled, and of which history of the market's it is."""
        try:
            known = json.loads(self.state.cursor.read_bytes())
            return int(known["after"]), str(known.get("history", ""))
        except (FileNotFoundError, ValueError, KeyError):
            return 0, ""

    def _begin_events(self, after: int, history: str) -> None:
        """The numbers begin anew if the market's database is another, or was put back: what is known is read again."""
        if after < self._seen:
            log.warning("the market has another history than before: its events are read from the first")
        if history != self._history:
            self._history, self._cursor_due = history, 0.0
        self._write_cursor(after)

    def _write_cursor(self, seq: int) -> None:
        """At most once in CURSOR_S; what came since is told once more to the next process."""
        self._seen = seq
        if time.monotonic() < self._cursor_due:
            return
        self._cursor_due = time.monotonic() + CURSOR_S
        write_json(self.state.cursor, {"after": seq, "history": self._history})
