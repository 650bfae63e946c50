"""A session: what the consumer's side does for one job, from the signed bid to the settled lease.

Each step is looked up, checked, recorded, then done, so that a session can end anywhere and another go on from there:
post the bid → at the match check everything → seal and hand over → follow → check the receipt → sign it → see it paid.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from suanli.jobs.record import Record
from suanli.jobs.store import Store
from suanli.network import Network
from suanli.session import closing, direct, handover
from suanli.session.agreement import Agreement, NotYetOnChainError
from suanli.session.desk import Desk
from suanli.session.feed import Feed
from suanli.session.handover import slots_of
from suanli.session.joblog import LogFollower
from suanli.session.outcome import RECEIPT_REFUSED, is_ended
from suanli.session.progress import Silent, Watcher
from suanli_protocol import faults, wire
from suanli_protocol.documents import LogLine
from suanli_protocol.errors import IntegrityError, MarketError, NotFoundError, SuanliError, TimedOutError
from suanli_protocol.log import EntryKind, verify_acknowledgement
from suanli_protocol.reasons import Phase, Reason
from suanli_protocol.signing import Signer
from suanli_protocol.units import format_duration

POLL_S = 2.0  # a lost event costs so much
SPECTATE_S = 0.5  # how often a second command looks at what the first one wrote
QUEUE_GRACE_S = 30  # between a bid's end and the market's word for it
CHAIN_GRACE_S = 60  # for the own endpoint to see what the market has seen
COLLECT_S = 900  # for outputs to come back after the lease's end
SETTLE_S = 180
MATCHED_S = 30  # from the match to the lease, or back into the queue
OPEN_STATES = ("open", "stopped", "claimed", "disputed")
SIGNED_IN = OPEN_STATES[:3]
_RANK = (Phase.QUEUED, Phase.LEASED, Phase.STARTING, Phase.RUNNING, Phase.SUCCEEDED)

Goal = Callable[[Record], bool]


def is_sent(record: Record) -> bool:
    """Goal of a detached run: the provider has all that it needs."""
    return record.is_over or is_ended(record) or set(slots_of(record)) <= set(record.delivered)


def is_settled(record: Record) -> bool:
    """Goal of a waiting run: nothing more will change."""
    return record.is_over


class Session:
    """Drives one job. `output_dir` is where outputs go (None: they are checked and kept in the job's folder)."""

    def __init__(
        self,
        network: Network,
        store: Store,
        record: Record,
        signer: Signer,
        *,
        watcher: Watcher | None = None,
        output_dir: Path | None = None,
    ) -> None:
        self.record, self._store = record, store
        self._desk = Desk(network, store, record, signer, watcher or Silent(), output_dir)
        self._market = network.market
        self._agreement: Agreement | None = None
        self._is_kept = False  # the lease keeps the consumer's conditions
        self._log: LogFollower | None = None
        self._wants_log = False  # a single look fetches none
        self._folder = self._desk.folder

    # Driving

    def drive(self, goal: Goal, *, timeout_s: float | None = None) -> Record:
        """Takes steps until the goal is reached. TimedOutError if a phase, or the whole, takes longer than it may.

        A watcher's own OSError is raised once the goal is reached: the job does not wait for who looks on.
        """
        ends = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            while True:
                with self._store.care(self.record.id) as is_mine:
                    self._reload()
                    if is_mine:
                        self._drive(goal, ends)
                if goal(self.record):
                    self.finish_log()
                    if self._desk.watcher.trouble is not None:
                        raise self._desk.watcher.trouble
                    return self.record
                self._desk.tell_once("spectator", "notice", "another command takes care of this job; watching it")
                self.follow_log(self._folder / f"log.{os.getpid()}")
                self._check_patience(ends, None)
                time.sleep(SPECTATE_S)
        finally:
            self.stop_log()
            (self._folder / f"log.{os.getpid()}").unlink(missing_ok=True)  # a spectator's

    def look(self) -> Record:
        """Takes one step, unless another command takes care of the job."""
        with self._store.care(self.record.id) as is_mine:
            self._reload()
            if is_mine:
                trouble = self._try_step()
                if trouble is not None:
                    raise trouble
        return self.record

    def _drive(self, goal: Goal, ends: float | None) -> None:
        self._wants_log = True
        mine = (self.record.bid_hash, self.record.id)
        try:
            with Feed(
                self._market, lambda e: e.bid in mine or e.lease == self.record.lease, after=self.record.event
            ) as feed:
                while True:
                    trouble = self._try_step()
                    if goal(self.record):
                        return
                    self._check_patience(ends, trouble)
                    self._wait(feed, ends, is_well=trouble is None)
        except IntegrityError as error:
            self._desk.save(detail=error.detail)
            raise

    def _wait(self, feed: Feed, ends: float | None, *, is_well: bool) -> None:
        """Until an event calls for a look, or for one poll; phases are told as they come."""
        until = time.monotonic() + POLL_S if ends is None else min(time.monotonic() + POLL_S, ends)
        while True:
            found = feed.wait(until - time.monotonic())
            self._tell_phases(found)
            self.record.event = feed.last
            if not found or not is_well or not all(map(self._says_all, found)):
                return

    def _says_all(self, event: wire.Event) -> bool:
        """Whether a look would show no more than the event does."""
        if event.kind == "lease.phase":
            return self._is_kept and event.data.get("phase") in (Phase.STARTING, Phase.RUNNING)
        return event.kind in ("bid.queued", "bid.matched")

    def _reload(self) -> None:
        """What another command wrote meanwhile."""
        with contextlib.suppress(NotFoundError):
            found = self._store.load(self.record.id)
            for name, value in vars(found).items():
                setattr(self.record, name, value)

    def stop_log(self) -> None:
        """Fetches no more of the log."""
        if self._log is not None:
            self._log.stop()
            self._log = None

    def follow_log(self, file: Path | None = None) -> None:
        """Fetches the log from now on, if there is a lease."""
        if self._log is None and self.record.lease:
            lease, into = wire.from_hex(self.record.lease), file or self._folder / "log.jsonl"
            self._log = LogFollower(self._market, self._desk.signer, lease, self._tell_lines, into)
            self._log.start()

    def finish_log(self) -> None:
        """Waits until the log of an ended run is complete."""
        if self._log is not None and is_ended(self.record):
            try:
                self._log.wait(None, closing.LOG_S)
            except SuanliError as error:  # the receipt is signed for: who is away now has nothing more to say
                if not error.retryable:
                    raise

    def fetch_log(self, into: Path) -> None:
        """Writes what there is of the log at this moment to a file."""
        self.follow_log(into)
        if self._log is not None:
            self._log.wait_caught_up(closing.LOG_S)
        self.stop_log()

    def cancel(self) -> Record:
        """Takes the bid back while it is queued, else stops the lease on the chain."""
        ends = time.monotonic() + MATCHED_S
        while not self._take_back():
            if time.monotonic() > ends:
                raise TimedOutError(
                    f"{self.record.short} is matched, and its lease does not come", hint="cancel it again in a moment"
                )
            time.sleep(SPECTATE_S)
        return self.record

    def _take_back(self) -> bool:
        """False while the bid is matched already and its lease is not there yet, or another command posts it."""
        if self.record.phase == "new" and not self._has_arrived():
            return self.record.is_over
        if self.record.phase == "queued":
            self._look_for_lease()
        if self.record.lease:
            handover.cancel(self._desk)
        elif not self.record.is_over:
            try:
                handover.withdraw(self._desk)
            except MarketError as error:
                if error.code != "too_late":
                    raise
                return False
        return True

    def _has_arrived(self) -> bool:
        """Whether the market has the bid although its answer never came; the job ends here if it has not."""
        with self._store.care(self.record.id) as is_mine:
            self._reload()
            if self.record.phase != "new" or not is_mine:
                return self.record.phase != "new"
            try:
                self._market.bid(wire.from_hex(self.record.bid_hash))
            except NotFoundError:
                handover.end_unleased(self._desk, Phase.CANCELLED, Reason.STOPPED, "the bid never reached the market")
                return False
            self._desk.save(phase=Phase.QUEUED.value)
            return True

    def _try_step(self) -> SuanliError | None:
        """One step; an error that may pass is told once and returned."""
        try:
            self._step()
        except NotYetOnChainError as error:
            return error
        except SuanliError as error:
            if not error.retryable or self.record.phase == "new":
                raise
            self._desk.tell_once(f"trouble:{error.code}", "notice", f"{error.detail}; trying again", code=error.code)
            return error
        self._desk.forget("trouble:unreachable")
        return None

    def _step(self) -> None:
        if self.record.phase == "new" and direct.is_direct(self.record):
            direct.open_lease(self._desk)
        elif self.record.phase == "new":
            self._post()
        if not self.record.lease and not self.record.is_over:
            self._look_for_lease()
        if self.record.lease and not self.record.is_over:
            self._look_at_lease()

    def _check_patience(self, ends: float | None, trouble: SuanliError | None) -> None:
        record, waited = self.record, time.time() - self._desk.phase_began
        if ends is not None and time.monotonic() >= ends:
            raise TimedOutError(f"{record.short} is {record.phase} still", hint=f"suanli wait {record.short}")
        bid = record.bid
        if not record.lease:
            limit = max(0.0, int(bid["validUntil"]) - self._desk.phase_began) + QUEUE_GRACE_S
            what = "a lease"
        elif isinstance(trouble, NotYetOnChainError):
            limit, what = CHAIN_GRACE_S, "the lease on the chain, by your own endpoint"
        elif record.countersignature:
            limit, what = SETTLE_S, "the settlement"
        else:
            startup = int((record.job or {}).get("timeouts", {}).get("startup", 300))
            limit, what = bid["maxSeconds"] + startup + COLLECT_S, "the provider's receipt"
        if waited > limit:
            if trouble is not None and not isinstance(trouble, NotYetOnChainError):
                raise trouble
            raise TimedOutError(
                f"waited {format_duration(int(waited))} for {what}", hint=f"suanli show {record.short}; suanli doctor"
            )

    def _tell_lines(self, lines: list[LogLine]) -> None:
        self._desk.watcher.lines(self.record, lines)

    # The bid

    def _post(self) -> None:
        record = self.record
        signed = wire.SignedBid(
            bid=record.bid, signature=record.signature, constraints=record.constraints, job_digest=record.job_digest
        )
        ack = self._market.post_bid(signed)
        faults.reach("client.bid.posted")
        entry = verify_acknowledgement(ack, self._desk.domain, record.bid["market"])
        if wire.to_hex(entry.paper) != record.bid_hash:
            raise IntegrityError("acknowledgement: the market acknowledged another paper than this bid")
        if entry.kind != EntryKind.BID or entry.reason:
            raise MarketError(f"the market refused the bid with code {entry.reason}", code="bid_refused")
        self._desk.save(acknowledgement=ack.to_json(), phase=Phase.QUEUED.value)
        faults.reach("client.bid.acknowledged")
        self._desk.tell("queued", f"the market admitted the bid as entry {entry.seq} of its log", entry=entry.seq)

    def _look_for_lease(self) -> None:
        view = self._market.bid(wire.from_hex(self.record.bid_hash))
        if view.lease is not None:
            self._desk.save(lease=view.lease, phase=Phase.LEASED.value)
        elif view.state == "expired":
            handover.end_unleased(self._desk, Phase.FAILED, Reason.QUEUE_TIMEOUT, _why(view))
        elif view.state == "withdrawn":
            handover.end_unleased(self._desk, Phase.CANCELLED, Reason.STOPPED, "the bid was withdrawn")
        elif view.state == "refused":
            handover.end_unleased(self._desk, Phase.FAILED, "refused", view.reason or _why(view))
        elif view.rejections:
            found = [item.to_json() for item in view.rejections]
            why = _why(view)
            self._desk.tell_once(f"unmatched:{why}", "unmatched", f"no offer fits yet: {why}", rejections=found)

    # The lease

    def _look_at_lease(self) -> None:
        try:
            view = self._market.lease(wire.from_hex(self.record.lease))
        except NotFoundError:
            self._look_for_another()
            return
        agreement = self._agree(view)
        if view.stopped_at is not None and self.record.stopped_at is None:
            self._desk.save(stopped_at=view.stopped_at)
        is_disputed = str(view.state) == "disputed"
        if is_disputed != self.record.disputed:
            self._desk.save(disputed=is_disputed)
        if self._is_kept and view.state == "open" and view.receipt is None:
            handover.hand_over(self._desk, agreement)
        if self._wants_log:
            self.follow_log()
        self._advance(view.phase, view.reason)
        if view.receipt is not None:
            self._close(agreement, view)
        if view.state == "claimed" and not self.record.countersignature:
            claimed = self._desk.money(int(view.claimed))
            self._desk.tell_once("claimed", "claimed", f"the provider claimed {claimed} on the chain")
        if view.state not in OPEN_STATES:
            closing.see_closed(self._desk, agreement, view)
            if closing.may_go_on(self.record, agreement) and self._waits_again():
                self._begin_again("the provider failed; the job waits for another lease within its budget")

    def _look_for_another(self) -> None:
        """The relay does not know the lease any more: a reorganisation took it, and the bid may have another."""
        view = self._market.bid(wire.from_hex(self.record.bid_hash))
        if view.lease != self.record.lease:
            self._begin_again("the chain was reorganised and took the lease; the job waits for it again")

    def _waits_again(self) -> bool:
        """Whether the market has the bid wait for another lease: it does so by what the bid's constraints ask for."""
        return self._market.bid(wire.from_hex(self.record.bid_hash)).lease != self.record.lease

    def _begin_again(self, why: str) -> None:
        self.stop_log()
        handover.begin_again(self._desk, why)
        self._agreement, self._is_kept = None, False

    def _agree(self, view: wire.LeaseView) -> Agreement:
        """The agreement, checked against papers and own bid before anything else is done with it."""
        if self._agreement is None:
            self._agreement, self._is_kept = handover.agree(self._desk, view)
            handover.note_lease(self._desk, self._agreement)
            faults.reach("client.lease.agreed")
        return self._agreement

    def _close(self, agreement: Agreement, view: wire.LeaseView) -> None:
        """Checks and signs the receipt; sends the signature again if the market has lost it."""
        is_open = view.state in SIGNED_IN  # whoever disputes a claim leaves it to the arbiter
        if not self.record.countersignature and (is_open or self.record.evidence is None):
            self.follow_log()
            if self._log is not None:
                self._take_receipt(agreement, self._log, view, is_open=is_open)
        elif self.record.countersignature and view.countersignature is None and is_open:
            closing.countersign(self._desk, agreement)

    def _take_receipt(self, agreement: Agreement, log: LogFollower, view: wire.LeaseView, *, is_open: bool) -> None:
        """Signs the receipt if it holds. A false one of a lease that is over is told, and kept from nothing else."""
        try:
            closing.take_receipt(self._desk, agreement, log, view, is_open=is_open)
        except IntegrityError as breach:
            if view.state in OPEN_STATES or self.record.evidence is not None:
                raise
            self._desk.save(reason=RECEIPT_REFUSED, detail=breach.detail)
            self._desk.tell_once("refused", "notice", f"the receipt was not signed: {breach.detail}")

    def _tell_phases(self, events: list[wire.Event]) -> None:
        for event in events:
            if event.kind == "lease.phase":
                self._advance(str(event.data.get("phase", "")), str(event.data.get("reason", "")))

    def _advance(self, phase: str, reason: str) -> None:
        """Shows starting and running once each, in their order; ends come with the receipt alone."""
        if phase not in (Phase.STARTING, Phase.RUNNING) or self.record.phase not in _RANK:
            return
        if _RANK.index(Phase(phase)) > _RANK.index(Phase(self.record.phase)):
            self._desk.save(phase=phase)
            text = {"starting": "the provider prepares the run", "running": "billing began"}[phase]
            self._desk.tell(phase, text, reason=reason)


def _why(view: wire.BidView) -> str:
    return "; ".join(f"{item.offers} {item.detail or item.condition}" for item in view.rejections)
