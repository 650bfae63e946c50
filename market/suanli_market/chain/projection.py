"""The projection: what each event of the escrow changes in the tables, in the book, and for the parties.

The chain is the authority; rows follow it. All events of a step are applied in the transaction that moves the cursor.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import func
from sqlmodel import Session, col, select

from suanli_market.admission.checks import reason_name
from suanli_market.admission.papers import bid_of, offer_of, standing_bid
from suanli_market.chain.duties import date, due_at
from suanli_market.clearing.book import Change, Entered, Left, Opened, Returned
from suanli_market.events import note
from suanli_market.leasing.leases import OPEN_STATES, progress_of, terms_of
from suanli_market.tables import BidRow, ChainVersionRow, EntryRow, LeaseRow, MatchRow, OfferRow, ReceiptRow
from suanli_protocol import events as chain_events
from suanli_protocol import wire
from suanli_protocol.documents import Constraints
from suanli_protocol.lease import Kind, Previous, Refusal, State, fee_down, lease_id, terms
from suanli_protocol.log import EntryKind, ReasonCode
from suanli_protocol.reasons import Phase, Reason

SETTLE_TRIES_MAX = 5
OPEN_TRIES_MAX = 5  # each costs the market gas
_BID_IS_DEAD = frozenset(
    {
        Refusal.NOT_THE_MARKET,
        Refusal.BID_EXPIRED,
        Refusal.BID_COUNTER,
        Refusal.SEAT_TAKEN,
        Refusal.UNSUPPORTED,
        Refusal.ARBITER,
        Refusal.FEE,
        Refusal.BID_SIGNATURE,
    }
)
_OFFER_IS_DEAD = frozenset(
    {Refusal.OTHER_MARKET, Refusal.OFFER_EXPIRED, Refusal.OFFER_COUNTER, Refusal.BOND, Refusal.OFFER_SIGNATURE}
)

log = logging.getLogger(__name__)
Closing = chain_events.Released | chain_events.Finalized | chain_events.Resolved | chain_events.Reclaimed


@dataclass(slots=True)
class Step:
    """What a stretch of blocks changed outside the tables. `touched` None: any account may have changed."""

    opened: int  # Opened events so far
    changes: list[Change] = field(default_factory=list)
    touched: set[str] | None = field(default_factory=set)

    def touch(self, *accounts: str) -> None:
        """These accounts changed."""
        if self.touched is not None:
            self.touched.update(accounts)


@dataclass(frozen=True, slots=True)
class Stretch:
    """The events of a stretch of blocks in their order, and what is to be known beside them."""

    events: Sequence[chain_events.EscrowEvent]
    times: dict[int, int]  # of each block that opens or closes a lease


class Projection:
    """Applies events."""

    def apply(self, session: Session, stretch: Stretch, opened: int) -> Step:
        """Applies a stretch; `opened` is the number of Opened events before it."""
        step = Step(opened)
        for event in stretch.events:
            self._apply(session, event, stretch, step)
            session.flush()
        return step

    def _apply(self, session: Session, event: chain_events.EscrowEvent, stretch: Stretch, step: Step) -> None:
        match event:
            case chain_events.Opened():
                step.opened += 1
                step.touch(event.provider, event.consumer)
                self._opened(session, event, stretch.times[event.block], step)
            case chain_events.Settled():
                self._settled(session, event, stretch.times[event.block], step)
            case chain_events.Stopped():
                self._stopped(session, event)
            case chain_events.Claimed():
                self._claimed(session, event, step)
            case chain_events.Disputed():
                self._disputed(session, event)
            case (
                chain_events.Released() | chain_events.Finalized() | chain_events.Resolved() | chain_events.Reclaimed()
            ):
                self._closed(session, event, stretch.times[event.block], step)
            case chain_events.Refused():
                self._refused(session, event, step)
            case chain_events.SettlementRefused():
                self._settlement_refused(session, event)
            case chain_events.Bumped():
                step.touch(event.account)
                self._bumped(session, event, step)
            case chain_events.Cancelled():
                self._cancelled(session, event, step)
            case chain_events.Deposited() | chain_events.Withdrawn():
                step.touch(event.account)
            case chain_events.Linked() | chain_events.RoundCommitted():
                pass
            case _:
                log.warning("an event of an unknown kind: %s", type(event).__name__)

    def _opened(self, session: Session, event: chain_events.Opened, opened_at: int, step: Step) -> None:
        match_ = session.exec(
            select(MatchRow)
            .where(
                MatchRow.bid == wire.to_hex(event.bid_hash),
                MatchRow.offer == wire.to_hex(event.offer_hash),
            )
            .order_by(col(MatchRow.id).desc())
            .limit(1)
        ).first()
        row = LeaseRow(
            id=wire.to_hex(event.lease_id),
            number=step.opened,
            provider=event.provider,
            consumer=event.consumer,
            rate=str(event.rate),
            price="0",
            seat_index=event.index,
            attempt=event.attempt,
            opened_at=opened_at,
            block=event.block,
            block_hash=wire.to_hex(event.block_hash),
            transaction=wire.to_hex(event.transaction),
        )
        if match_ is not None:
            self._ours(session, row, match_, event, step)
            step.changes.append(Opened(event.bid_hash))
        session.add(row)

    def _ours(self, session: Session, row: LeaseRow, match_: MatchRow, event: chain_events.Opened, step: Step) -> None:
        """A lease that a round of this market proposed: it gets its papers, and its parties are told."""
        bid, offer = session.get_one(BidRow, match_.bid), session.get_one(OfferRow, match_.offer)
        lease, clauses = terms(
            bid_of(bid),
            offer_of(offer),
            rate=event.rate,
            index=event.index,
            attempt=event.attempt,
            spent=int(bid.spent) if event.attempt > 1 else 0,
            opened_at=row.opened_at,
        )
        if lease_id(lease) != event.lease_id:
            log.error("lease %s does not follow from its papers; it is not relayed", row.id)
            return
        row.bid, row.offer, row.price = bid.id, offer.id, str(lease.price)
        row.spent = bid.spent if event.attempt > 1 else "0"
        match_.state, match_.reason = "opened", ""
        bid.state, bid.reason, bid.lease = "leased", "", row.id
        row.due_at = due_at(State(lease, clauses, progress_of(row)))
        session.add_all([match_, bid])
        self._retire_rivals(session, match_, bid, step)
        note(
            session,
            [row.consumer, row.provider],
            "lease.opened",
            lease=row.id,
            bid=bid.id,
            data={"number": row.number, "block": row.block, "transaction": row.transaction},
        )

    def _retire_rivals(self, session: Session, match_: MatchRow, bid: BidRow, step: Step) -> None:
        """The seat is taken: the bid's other matches come to nothing, and so do other bids of the seat."""
        others = select(MatchRow).where(MatchRow.bid == bid.id, MatchRow.state == "pending", MatchRow.id != match_.id)
        for other in session.exec(others).all():
            release(session, other, bid, Refusal.SEAT_TAKEN, step.changes)
        for rival in _waiting_bids(session, bid.consumer, bid.seat):
            _leave(session, rival, Refusal.SEAT_TAKEN, step.changes)

    def _refused(self, session: Session, event: chain_events.Refused, step: Step) -> None:
        """The chain left out an entry of `open`: the bid waits again at its place, or leaves if it can never open.

        Anyone may name another's seat to the escrow and be refused: only of the transaction that carried a match the
        refusal is its answer. No two entries of a transaction have one seat.
        """
        found = session.exec(
            select(MatchRow, BidRow)
            .join(BidRow, col(BidRow.id) == MatchRow.bid)
            .join(ChainVersionRow, col(ChainVersionRow.transaction) == MatchRow.transaction)
            .where(ChainVersionRow.hash == wire.to_hex(event.transaction))
            .where(BidRow.seat == wire.to_hex(event.seat), MatchRow.state == "pending")
        ).all()
        for match_, bid in found:
            release(session, match_, bid, event.refusal, step.changes)
            step.touch(bid.consumer, session.get_one(OfferRow, match_.offer).provider)

    def _settled(self, session: Session, event: chain_events.Settled, at: int, step: Step) -> None:
        row = session.get(LeaseRow, wire.to_hex(event.lease_id))
        if row is None:
            step.touched = None
            return
        step.touch(row.consumer, row.provider)
        row.paid, row.fee = str(event.paid), str(event.fee)
        if event.kind != 0:
            row.state, row.phase, row.closed_at = "settled", Phase.SETTLED, at
            row.settled_transaction = wire.to_hex(event.transaction)
            self._close_receipt(session, row.id, "settled")
            data = {"transaction": row.settled_transaction, "paid": row.paid, "fee": row.fee, "kind": event.kind}
            _tell(session, row, "lease.settled", data)
        date(session, row)
        if event.kind == Kind.FAILED:
            self._retry(session, row, "provider-error", at, step)

    def _stopped(self, session: Session, event: chain_events.Stopped) -> None:
        row = session.get(LeaseRow, wire.to_hex(event.lease_id))
        if row is None:
            return
        row.state, row.clock, row.by_consumer = "stopped", event.clock, event.by_consumer_side
        date(session, row)
        _tell(session, row, "lease.stopped", {"clock": event.clock, "by": event.by})

    def _claimed(self, session: Session, event: chain_events.Claimed, step: Step) -> None:
        row = session.get(LeaseRow, wire.to_hex(event.lease_id))
        if row is None:
            step.touched = None
            return
        step.touch(row.provider)  # a claim frees its capacity
        row.state, row.claimed, row.claim_kind, row.clock = "claimed", str(event.amount), event.kind, event.clock
        date(session, row)
        data = {
            "amount": row.claimed,
            "kind": row.claim_kind,
            "clock": row.clock,
            "evidence": wire.to_hex(event.evidence),
        }
        _tell(session, row, "lease.claimed", data)

    def _disputed(self, session: Session, event: chain_events.Disputed) -> None:
        row = session.get(LeaseRow, wire.to_hex(event.lease_id))
        if row is None:
            return
        row.state, row.clock = "disputed", event.clock
        date(session, row)
        _tell(session, row, "lease.disputed", {"by": event.by, "clock": row.clock})

    def _closed(self, session: Session, event: Closing, at: int, step: Step) -> None:
        """The lease ended without a receipt of both sides."""
        row = session.get(LeaseRow, wire.to_hex(event.lease_id))
        if row is None:
            step.touched = None
            return
        step.touch(row.consumer, row.provider)
        row.state, row.paid, row.closed_at = type(event).__name__.lower(), str(event.paid), at
        row.fee = str(fee_down(event.paid, _fee_bps(session, row)))
        row.settled_transaction = wire.to_hex(event.transaction)
        failed = isinstance(event, chain_events.Released | chain_events.Reclaimed)
        row.phase = Phase.FAILED if failed else Phase.SETTLED
        row.reason = Reason.RELEASED if isinstance(event, chain_events.Released) else row.reason
        date(session, row)
        self._close_receipt(session, row.id, "refused" if failed else "settled")
        _tell(session, row, f"lease.{row.state}", {"transaction": row.settled_transaction, "paid": row.paid})
        if isinstance(event, chain_events.Reclaimed):
            self._distrust(session, row.provider, step)
        if failed or (isinstance(event, chain_events.Finalized) and event.kind == Kind.FAILED):
            self._retry(session, row, "interruption" if failed else "provider-error", at, step)

    def _distrust(self, session: Session, provider: str, step: Step) -> None:
        """The provider vanished: its offers are no more, or the next attempt would go to it again. It may sign new."""
        offers = session.exec(select(OfferRow).where(OfferRow.provider == provider, OfferRow.state == "open"))
        for offer in offers.all():
            offer.state = "dead"
            session.add(offer)
            step.changes.append(Left(wire.from_hex(offer.id)))
            note(session, [provider], "offer.expired", data={"offer": offer.id})

    def _retry(self, session: Session, row: LeaseRow, what: str, at: int, step: Step) -> None:
        """The provider failed: while the bid lives and has an attempt left, it waits again at its old place."""
        bid = session.get(BidRow, row.bid) if row.bid is not None else None
        if bid is None or bid.lease != row.id or bid.state != "leased":
            return
        paper = bid_of(bid)
        wanted = what in Constraints.parse(json.loads(bid.constraints)).retry
        if not wanted or row.attempt >= paper.attempts or at >= paper.valid_until:
            return
        _, clauses = terms_of(session, row)
        previous = Previous(clauses, int(row.paid) + int(row.fee))
        bid.state, bid.reason, bid.lease, bid.judged = "queued", "retried", None, False
        bid.attempt, bid.queued_at = previous.next_attempt, at
        bid.spent, bid.previous = str(previous.total), previous.encode().hex()
        session.add(bid)
        if _is_withdrawn(session, bid):
            bid.state = "withdrawn"
            return
        step.changes.append(Entered(standing_bid(bid)))
        note(session, [bid.consumer], "bid.retried", bid=bid.id, data={"attempt": bid.attempt, "after": row.id})

    def _settlement_refused(self, session: Session, event: chain_events.SettlementRefused) -> None:
        """A receipt is tried again with the lease's newest progress (a stop may have come between), then given up.

        Only the transaction that carried it has its answer: anyone may bring a lease to the escrow with nonsense.
        """
        receipt = session.get(ReceiptRow, wire.to_hex(event.lease_id))
        row = session.get(LeaseRow, wire.to_hex(event.lease_id))
        if receipt is None or row is None or row.state not in OPEN_STATES or receipt.state != "queued":
            return
        version = session.get(ChainVersionRow, wire.to_hex(event.transaction))
        if version is None or version.transaction != receipt.transaction:
            return
        again = event.refusal == Refusal.UNKNOWN_LEASE and receipt.tries < SETTLE_TRIES_MAX
        receipt.state, receipt.transaction = ("queued" if again else "refused"), None
        receipt.tries += 1
        session.add(receipt)
        if not again:
            row.reason = f"settlement_{reason_name(event.refusal)}"
            session.add(row)
            log.error("the escrow refused the settlement of lease %s: %s", row.id, reason_name(event.refusal))

    def _close_receipt(self, session: Session, lease: str, state: str) -> None:
        receipt = session.get(ReceiptRow, lease)
        if receipt is not None:
            receipt.state = state
            session.add(receipt)

    def _bumped(self, session: Session, event: chain_events.Bumped, step: Step) -> None:
        """Every older paper of the account is dead."""
        offers = session.exec(select(OfferRow).where(OfferRow.provider == event.account, OfferRow.state == "open"))
        for offer in offers.all():
            if offer_of(offer).counter != event.counter:
                offer.state = "dead"
                session.add(offer)
                step.changes.append(Left(wire.from_hex(offer.id)))
        bids = session.exec(select(BidRow).where(BidRow.consumer == event.account, BidRow.state == "queued"))
        for bid in bids.all():
            if bid_of(bid).counter != event.counter:
                _leave(session, bid, ReasonCode.COUNTER_RAISED, step.changes)

    def _cancelled(self, session: Session, event: chain_events.Cancelled, step: Step) -> None:
        for bid in _waiting_bids(session, event.consumer, wire.to_hex(event.seat)):
            _leave(session, bid, ReasonCode.SEAT_CLOSED, step.changes)


def _waiting_bids(session: Session, consumer: str, seat: str) -> Sequence[BidRow]:
    query = select(BidRow).where(BidRow.seat == seat, BidRow.consumer == consumer, BidRow.state == "queued")
    return session.exec(query).all()


def release(session: Session, match_: MatchRow, bid: BidRow, code: Refusal | ReasonCode, changes: list[Change]) -> None:
    """A pending match comes to nothing for a reason."""
    match_.state, match_.reason = "released", reason_name(code)
    session.add(match_)
    changes.append(Returned(wire.from_hex(bid.id)))
    if code in _OFFER_IS_DEAD:
        offer = session.get_one(OfferRow, match_.offer)
        offer.state = "dead"
        session.add(offer)
        changes.append(Left(wire.from_hex(offer.id)))
    if bid.state == "leased":
        return  # by another match, or by the same one sent before
    if code in _BID_IS_DEAD:
        _leave(session, bid, code, changes)
    elif _times_released(session, bid.id) >= OPEN_TRIES_MAX:
        _leave(session, bid, ReasonCode.OPEN_FAILED, changes)
    elif bid.state == "matched":
        bid.state, bid.reason = "queued", reason_name(code)
        session.add(bid)


def _times_released(session: Session, bid: str) -> int:
    query = select(func.count()).select_from(MatchRow).where(MatchRow.bid == bid, MatchRow.state == "released")
    return session.exec(query).one()


def _leave(session: Session, bid: BidRow, code: int, changes: list[Change]) -> None:
    bid.state, bid.reason = "refused", reason_name(code)
    session.add(bid)
    changes.append(Left(wire.from_hex(bid.id)))
    note(session, [bid.consumer], "bid.refused", bid=bid.id, data={"reason": bid.reason})


def _tell(session: Session, row: LeaseRow, kind: str, data: wire.Json) -> None:
    if row.bid is not None:
        note(session, [row.consumer, row.provider], kind, lease=row.id, bid=row.bid, data=data)


def _is_withdrawn(session: Session, bid: BidRow) -> bool:
    """Whether its consumer took it off the book: the log says so, also when a reorganisation undid what came before."""
    query = select(EntryRow.seq).where(EntryRow.paper == bid.id, EntryRow.kind == EntryKind.WITHDRAW)
    return session.exec(query).first() is not None


def _fee_bps(session: Session, row: LeaseRow) -> int:
    return bid_of(session.get_one(BidRow, row.bid)).fee_bps if row.bid is not None else 0
