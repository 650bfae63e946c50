"""The closer: sees to it that each lease that was served is paid, without the consumer or the market if need be.

It acts on the chain's word alone, read anew before each transaction; what it has sent stands in the outbox. So being
killed, being late or being answered twice changes nothing: the next look finds the lease where the chain has it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from suanli_node.leases.closing import Due, Move, claimable, is_too_late, next_move
from suanli_node.leases.inquiry import Inquiries
from suanli_node.leases.ledger import Ledger
from suanli_node.leases.record import Step, present
from suanli_node.leases.run import LeaseRun
from suanli_node.leases.services import Services
from suanli_node.leases.standing import Place
from suanli_protocol.chain_records import TxReceipt
from suanli_protocol.errors import ChainRevertedError, NotFoundError, SuanliError

AGAIN_S = 5.0  # after a transaction that failed; doubled each time
AGAIN_MAX_S = 300.0
log = logging.getLogger(__name__)


def poll_s(window: int) -> float:
    """How often the relay is asked whether the consumer has signed, should its event be lost."""
    return min(60.0, max(1.0, window / 30))


def first_look(run: LeaseRun) -> float:
    """When a lease is looked at first: its consumer has a while to sign, unless it is to be given back."""
    record = run.record
    return 0.0 if record.never_begun else record.signed_at + poll_s(run.assignment.clauses.window)


class Closer:
    """Looks at leases whose receipt is signed, and does what is due. One thread."""

    def __init__(self, services: Services, ledger: Ledger, closed: Callable[[LeaseRun], None]) -> None:
        self._ledger, self._closed = ledger, closed
        self._inquiries = Inquiries(services.relay_of, self.hurry)
        self._changed = threading.Event()
        self._next: dict[str, tuple[float, float]] = {}  # by lease: not before this second, and the pause after it

    def look(self, runs: Iterable[LeaseRun]) -> None:
        """Do what is due now for each of them. Errors are told, and tried again later. Waits for no relay."""
        waiting = [run for run in runs if run.record.step in (Step.SIGNED, Step.POSTED)]
        self._forget_others({run.record.view.id for run in waiting})
        now = None
        for run in waiting:
            try:
                now = self._ledger.now() if now is None else now
                if now >= self._next.get(run.record.view.id, (first_look(run), 0.0))[0]:
                    self._look(run, now)
            except SuanliError as error:
                self._put_off(run, now or 0, error)
            except Exception:  # one lease keeps none of the others from its pay
                log.exception("lease %s cannot be looked at", run.record.view.id)
                self._next[run.record.view.id] = ((now or 0) + AGAIN_S, AGAIN_S)

    def hurry(self) -> None:
        """Something may have changed: look at all of them at the next look. May be called from any thread."""
        self._changed.set()

    def ask(self, run: LeaseRun) -> None:
        """Ask the relay whether the consumer has signed, and wait for its answer."""
        self._inquiries.ask(run)

    def due(self, run: LeaseRun) -> Due:
        """What is due next for a lease, by the newest block."""
        record, standing = run.record, self._ledger.latest(run.assignment)
        if standing.place is not Place.OPEN:
            return Due(Move.NONE)
        return next_move(
            standing.state(run.assignment),
            signed_at=record.signed_at,
            countersigned_at=record.countersigned_at if record.countersignature else None,
            never_begun=record.never_begun,
        )

    def do(self, move: Move, run: LeaseRun) -> TxReceipt:
        """Make a move now. ChainError if the chain does not let it be made."""
        ledger, assignment, record = self._ledger, run.assignment, run.record
        match move:
            case Move.SETTLE:
                if not record.countersignature:
                    raise NotFoundError(f"lease {record.view.id} is not countersigned", hint="claim it instead")
                return ledger.settle(assignment, present(record.signed, "receipt"), record.countersignature)
            case Move.CLAIM:
                state, receipt = ledger.latest(assignment).state(assignment), record.receipt
                return ledger.claim(assignment, receipt, claimable(state, receipt.amount, ledger.now()))
            case Move.FINALIZE:
                return ledger.finalize(assignment)
            case Move.RELEASE:
                return ledger.release(assignment)
            case _:
                raise NotFoundError("there is nothing to be done")

    def _look(self, run: LeaseRun, now: int) -> None:
        lease, due = run.record.view.id, self.due(run)
        if due.move is Move.NONE:
            self._closed(run)  # perhaps: the desk looks, at the depth that it trusts
            self._next[lease] = (now + AGAIN_S, AGAIN_S)
            return
        if now < due.at:
            self._inquiries.submit(run)
            self._next[lease] = (min(due.at, now + poll_s(run.assignment.clauses.window)), AGAIN_S)
            return
        state = self._ledger.latest(run.assignment).state(run.assignment)
        if due.move is Move.CLAIM and is_too_late(state, now):
            self._inquiries.submit(run)
            log.error("lease %s: the time for a claim is over; only a countersignature can still pay it", lease)
            self._next[lease] = (now + AGAIN_MAX_S, AGAIN_MAX_S)
            return
        mined = self.do(due.move, run)
        log.info("lease %s: %s in block %d, at %d gas", lease, due.move, mined.block, mined.gas_used)
        self._next.pop(lease, None)
        self._closed(run)

    def _forget_others(self, waiting: set[str]) -> None:
        """Keep times of these leases alone; none of them if all shall be looked at."""
        if hurried := self._changed.is_set():
            self._changed.clear()
        self._next = {
            lease: (0.0 if hurried else at, pause) for lease, (at, pause) in self._next.items() if lease in waiting
        }

    def _put_off(self, run: LeaseRun, now: int, error: SuanliError) -> None:
        lease = run.record.view.id
        pause = min(AGAIN_MAX_S, 2 * self._next.get(lease, (0.0, AGAIN_S / 2))[1])
        pause = pause if isinstance(error, ChainRevertedError) else AGAIN_S
        self._next[lease] = (now + pause, pause)
        log.warning("lease %s: %s; again in %.0f s", lease, error.detail, pause)
