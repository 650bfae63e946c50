"""Rounds: when the book is cleared, and what a clearing writes.

Bids that compete with nobody clear at once; competing ones wait until the round has been open for its stated length,
so that arriving some milliseconds earlier buys nothing. A round opens when bids begin to compete, or when the round
before ends and leaves some of them waiting.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from sqlalchemy import union_all, update
from sqlmodel import Session, col, select

from suanli_market.admission.log import head_at
from suanli_market.clearing.book import Left, Proposed, View
from suanli_market.clearing.conditions import StandingBid
from suanli_market.clearing.explain import Allowance, explain, explained
from suanli_market.clearing.keeper import Keeper
from suanli_market.clearing.matching import Clearing, Policy, Proposal
from suanli_market.events import note, now_ms
from suanli_market.store import Store, follow
from suanli_market.tables import BidRow, MatchRow, OfferRow, RoundRow
from suanli_protocol import faults, wire
from suanli_protocol.documents import sha256
from suanli_protocol.errors import ChainUnavailableError, SuanliError
from suanli_protocol.log import merkle_root
from suanli_protocol.messages import ZERO32, Match, Round
from suanli_protocol.signing import keccak256, struct_hash

ENGINE = "suanli-market"
TICK_S = 1.0  # how often expiry is looked at when nothing happens
REST = 4  # times as long as a look took, until the next one while bids compete
REASONS_MAX = 20
WAITING = ("queued", "matched")

log = logging.getLogger(__name__)


class Rounds:
    """The clearing thread."""

    def __init__(
        self,
        store: Store,
        keeper: Keeper,
        policy: Policy,
        *,
        market: str,
        round_ms: int,
        decimals: int,
        symbol: str,
        on_match: Callable[[], None],
    ) -> None:
        self._store, self._keeper, self._policy = store, keeper, policy
        self._market, self._round_s = market, round_ms / 1000
        self._decimals, self._symbol = decimals, symbol
        self._on_match = on_match
        self._open_since: float | None = None  # when bids began to compete
        self._left_over: set[bytes] = set()  # bids that competed in the round before, in vain
        self._expiry_due = 0.0  # looking at every paper's time is not for every change
        self._judged: set[bytes] = set()  # waiting bids that a round has considered
        self._allowance = Allowance()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="rounds", daemon=True)

    def start(self) -> None:
        """Begins to clear."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the round at hand."""
        self._stopping = True
        self._keeper.changed.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stopping:
            self._keeper.changed.wait(self._patience())
            self._keeper.changed.clear()
            if self._keeper.halted is not None:
                continue
            began = time.thread_time()
            try:
                self.step()
                self._rest(time.thread_time() - began)
            except ChainUnavailableError as error:
                log.warning("the round waits for the chain: %s", error.detail)
                time.sleep(0.2)
                self._keeper.changed.set()
            except SuanliError as error:
                log.error("the round failed: %s", error.detail)
                time.sleep(0.2)
            except Exception:
                log.exception("the round failed")
                time.sleep(1)

    def step(self) -> None:
        """One look at the book: what is past its time leaves, what can be matched is."""
        self._expire()
        self._clear()

    def _rest(self, took_s: float) -> None:
        """While bids compete, what comes is looked at together: the round's end decides, not each change."""
        if self._open_since is not None:
            time.sleep(min(self._patience(), REST * took_s))

    def _patience(self) -> float:
        """Until the round's time is over; if it is already, nothing can be served before something changes."""
        if self._open_since is None:
            return TICK_S
        left = self._open_since + self._round_s - time.monotonic()
        return min(TICK_S, left) if left > 0 else TICK_S

    def _clear(self) -> None:
        if self._keeper.idle():
            self._left_over, self._open_since = set(), None
            return
        view = self._keeper.view()
        if not view.waiting:
            return
        if self._is_in_vain(view):
            return
        with self._store.read() as session:
            last = _last_round(session)
            seed = keccak256(_hash_of(last) + head_at(session, view.last_seq))
        view = view.seeded(seed)
        clearing = self._due(self._policy.clear(view.waiting, view.offers, view.facts))
        self._judged &= {bid.id for bid in view.waiting}
        if not clearing.proposals and self._judged.issuperset(clearing.unmatched):
            return
        self._commit(view, clearing, {bid.id: bid for bid in view.waiting}, last)

    def _is_in_vain(self, view: View) -> bool:
        """Whether no seed could make this clearing say anything new: nothing serves any bid, and all were told why."""
        if not self._judged.issuperset(bid.id for bid in view.waiting):
            return False
        found = self._policy.clear(view.waiting, view.offers, view.facts)
        if found.proposals:
            return False
        self._due(found)
        return True

    def _due(self, clearing: Clearing) -> Clearing:
        """What is to be written now: bids without competition, and all once the round's time is over."""
        now = time.monotonic()
        if not clearing.competing:
            if not self._left_over.intersection(clearing.unmatched):
                self._left_over, self._open_since = set(), None
            return clearing
        if self._open_since is None:
            self._open_since = now
        if now - self._open_since < self._round_s:
            return clearing.without(clearing.competing)
        self._left_over = set(clearing.competing.intersection(clearing.unmatched))
        self._open_since = now if self._left_over else None
        return clearing

    def _commit(self, view: View, clearing: Clearing, bids: dict[bytes, StandingBid], last: RoundRow | None) -> None:
        """Writes the round; pending matches enter the book with its commit, so that the chain's answer finds them."""
        put_off = self._write(view, clearing, bids, last)
        if put_off is None:
            return
        faults.reach("market.round.committed")
        self._judged.update(put_off.symmetric_difference(clearing.unmatched))
        if clearing.proposals:
            self._on_match()

    def _write(
        self, view: View, clearing: Clearing, bids: dict[bytes, StandingBid], last: RoundRow | None
    ) -> set[bytes] | None:
        """The unmatched bids whose reasons are put off; None, and nothing written, if a matched paper left."""
        with self._store.write() as session:
            matched = [wire.to_hex(proposal.bid.id) for proposal in clearing.proposals]
            offers = {wire.to_hex(proposal.offer.id) for proposal in clearing.proposals}
            if len(_standing(session, matched, offers)) != len(matched) + len(offers):
                self._forget_left(session, matched, offers)
                return None
            unjudged = self._unjudged(session, clearing.unmatched)
            rows = [row for row in unjudged if self._may_explain(view)]
            put_off = {wire.from_hex(row.id) for row in unjudged if row not in rows}
            if not matched and not rows:
                return put_off
            number = last.number + 1 if last else 1
            self._add_round(session, view, clearing, number, last)
            self._add_matches(session, clearing.proposals, number)
            for row in rows:
                self._explain_unmatched(session, view, row, bids[wire.from_hex(row.id)])
            follow(session, lambda: self._keeper.apply([Proposed(proposal) for proposal in clearing.proposals]))
            return put_off

    def _forget_left(self, session: Session, bids: Sequence[str], offers: Collection[str]) -> None:
        """Has the book without the papers that left by their rows, or it would propose them again and again."""
        left = {*bids, *offers}.difference(_standing(session, bids, offers, states=WAITING))
        self._keeper.apply([Left(wire.from_hex(id_)) for id_ in left])

    def _may_explain(self, view: View) -> bool:
        return self._allowance.take(explained(view.offers), time.monotonic())

    def _unjudged(self, session: Session, unmatched: Sequence[bytes]) -> Sequence[BidRow]:
        ids = [wire.to_hex(id_) for id_ in unmatched if id_ not in self._judged]
        query = select(BidRow).where(col(BidRow.id).in_(ids), BidRow.state == "queued", col(BidRow.judged).is_(False))
        return session.exec(query).all()

    def _add_round(self, session: Session, view: View, clearing: Clearing, number: int, last: RoundRow | None) -> None:
        leaves = [keccak256(struct_hash(_match(proposal))) for proposal in clearing.proposals]
        message = Round(
            market=self._market,
            number=number,
            previous=_hash_of(last),
            engine=sha256(f"{ENGINE} {self._policy.name} {self._policy.version}".encode()),
            policy=sha256(self._policy.name.encode()),
            first_seq=(last.last_seq if last else 0) + 1,
            last_seq=view.last_seq,
            block_number=view.block,
            block_hash=view.block_hash,
            pending_root=ZERO32,
            released_root=ZERO32,
            matches_root=merkle_root(leaves),
            prices_root=ZERO32,
            rejects_root=ZERO32,
            bound=0,
            surplus=0,
            seed=view.facts.seed,
        )
        session.add(
            RoundRow(
                number=number,
                hash=wire.to_hex(struct_hash(message)),
                message=json.dumps(wire.paper_to_json(message)),
                last_seq=view.last_seq,
                at=now_ms(),
            )
        )

    def _add_matches(self, session: Session, proposals: Sequence[Proposal], number: int) -> None:
        for position, proposal in enumerate(proposals):
            bid, offer = wire.to_hex(proposal.bid.id), wire.to_hex(proposal.offer.id)
            rate = str(proposal.terms.rate)
            session.add(
                MatchRow(round=number, position=position, bid=bid, offer=offer, rate=rate, seat_index=proposal.index)
            )
            data = {"offer": offer, "rate": rate, "round": number}
            note(session, [proposal.bid.bid.consumer], "bid.matched", bid=bid, data=data)
        matched = [wire.to_hex(proposal.bid.id) for proposal in proposals]
        session.execute(
            update(BidRow).where(col(BidRow.id).in_(matched)).values(state="matched", judged=True, reason="")
        )

    def _explain_unmatched(self, session: Session, view: View, row: BidRow, bid: StandingBid) -> None:
        rejections = self._rejections(view, bid)
        row.judged, row.rejections = True, json.dumps(rejections)
        session.add(row)
        data = {"rejections": rejections, "considered": explained(view.offers)}
        note(session, [row.consumer], "bid.unmatched", bid=row.id, data=data)

    def _rejections(self, view: View, bid: StandingBid) -> list[wire.Json]:
        found = explain(bid, view.offers, view.facts, decimals=self._decimals, symbol=self._symbol)
        return [rejection.to_json() for rejection in found[:REASONS_MAX]]

    def _expire(self) -> None:
        """Takes what is past its time off the book; a bid leaves with the reasons why nothing served it."""
        if time.monotonic() < self._expiry_due:
            return
        self._expiry_due = time.monotonic() + TICK_S / 2
        offers, bids = self._keeper.expired()
        if not offers and not bids:
            return
        view = self._keeper.view()
        waiting = {bid.id: bid for bid in view.waiting}
        with self._store.write() as session:
            for id_ in offers:
                offer = session.get(OfferRow, wire.to_hex(id_))
                if offer is not None and offer.state == "open":
                    offer.state = "expired"
                    session.add(offer)
                    note(session, [offer.provider], "offer.expired", data={"offer": offer.id})
            for id_ in bids:
                bid = session.get(BidRow, wire.to_hex(id_))
                if bid is not None and bid.state == "queued":
                    self._expire_bid(session, view, bid, waiting.get(id_))
        self._keeper.apply([Left(id_) for id_ in (*offers, *bids)])

    def _expire_bid(self, session: Session, view: View, row: BidRow, bid: StandingBid | None) -> None:
        fresh = replace(view, facts=replace(view.facts, now=row.valid_until - 1))
        rejections: list[wire.Json] = json.loads(row.rejections)  # the last that were told
        if bid is not None and self._may_explain(fresh):
            rejections = self._rejections(fresh, bid)
        row.state, row.reason, row.rejections = "expired", "queue_timeout", json.dumps(rejections)
        session.add(row)
        data = {"reason": row.reason, "rejections": rejections, "considered": explained(view.offers)}
        note(session, [row.consumer], "bid.expired", bid=row.id, data=data)


def _match(proposal: Proposal) -> Match:
    return Match(proposal.bid.id, proposal.offer.id, proposal.terms.rate, proposal.index)


def _standing(
    session: Session, bids: Collection[str], offers: Collection[str], *, states: Collection[str] = ("queued",)
) -> set[str]:
    """Those of the bids in one of the states, and of the offers that are open."""
    waiting = select(BidRow.id).where(col(BidRow.id).in_(bids), col(BidRow.state).in_(states))
    open_ = select(OfferRow.id).where(col(OfferRow.id).in_(offers), OfferRow.state == "open")
    return set(session.connection().execute(union_all(waiting, open_)).scalars())


def _last_round(session: Session) -> RoundRow | None:
    return session.exec(select(RoundRow).order_by(col(RoundRow.number).desc()).limit(1)).first()


def _hash_of(last: RoundRow | None) -> bytes:
    return wire.from_hex(last.hash) if last else ZERO32
