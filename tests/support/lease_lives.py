"""Real leases on a real chain, driven through the escrow binding: for tests of whoever reads them afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from suanli_protocol.chain import Chain
from suanli_protocol.chain_records import TxReceipt
from suanli_protocol.devnet import set_balance
from suanli_protocol.documents import Constraints, Evidence, JobDocument, LogSummary, Usage, documents_digest, hex32
from suanli_protocol.escrow import Escrow, deploy
from suanli_protocol.events import Opened
from suanli_protocol.lease import (
    Change,
    Claim,
    Clauses,
    Dispute,
    Finalize,
    Kind,
    Lease,
    Progress,
    Reclaim,
    Release,
    Resolve,
    Settle,
    State,
    Stop,
    apply,
    ask_up,
    attempt_after,
    lease_id,
    terms,
)
from suanli_protocol.messages import Bid, Offer, Receipt, Verdict
from suanli_protocol.openings import Fill, Opening, Settlement
from suanli_protocol.signing import Signer, keccak256
from support import builders

FUNDS = 100 * builders.CREDIT


@dataclass
class Live:
    """An open lease, with what its two parties hold of it."""

    bid: Bid
    offer: Offer
    lease: Lease
    clauses: Clauses
    progress: Progress = field(default_factory=Progress)
    ended: State | None = None

    @property
    def state(self) -> State:
        """Where it stands."""
        return self.ended or State(self.lease, self.clauses, self.progress)

    @property
    def id(self) -> bytes:
        """The lease's id."""
        return lease_id(self.lease)


class LeaseLives:
    """An escrow on a devnet with a funded consumer, provider and market."""

    def __init__(self, url: str, salt: str = "") -> None:
        self.chain = Chain(url)
        self.consumer, self.provider, self.market, self.guard, self.arbiter = people = [
            Signer(keccak256(f"lives {salt} {name}".encode()))
            for name in ("consumer", "provider", "market", "guard", "arbiter")
        ]
        for signer in people:
            set_balance(self.chain, signer.address, 10**20)
        made = deploy(self.market, self.chain)
        self.escrow = Escrow(self.chain, made.escrow)
        for signer in (self.consumer, self.provider, self.market):
            self.escrow.faucet(signer, signer.address, FUNDS)
            self.escrow.deposit(signer, signer.address, FUNDS)
        self._seats = 0

    @property
    def now(self) -> int:
        """The newest block's time."""
        return self.chain.block("latest").timestamp

    def papers(self, **fields: Any) -> tuple[Bid, Offer]:
        """A bid and an offer that fit; `fields` go to the bid, those with the prefix `offer_` to the offer."""
        self._seats += 1
        own = {key: value for key, value in fields.items() if not key.startswith("offer_")}
        other = {key.removeprefix("offer_"): value for key, value in fields.items() if key.startswith("offer_")}
        bid = {
            "consumer": self.consumer.address,
            "market": self.market.address,
            "guard": self.guard.address,
            "seat": builders.a_seat(self._seats),
            "valid_until": self.now + 600,
        }
        offer = {"provider": self.provider.address, "valid_until": self.now + 600}
        return builders.a_bid(**bid | own), builders.an_offer(**offer | other)

    def opening(self, bid: Bid, offer: Offer, *, rate: int | None = None, previous: bytes = b"") -> Opening:
        """Both papers signed, at the offer's ask; `previous` is the proof of the attempt before."""
        signature = self.provider.sign(self.escrow.domain, offer)
        fill = Fill(offer, signature, rate or ask_up(bid, offer), 0, previous)
        return Opening(bid, self.consumer.sign(self.escrow.domain, bid), (fill,))

    def open(self, *pairs: tuple[Bid, Offer]) -> list[Live]:
        """Opens leases in one call by the market; one without arguments. AssertionError if any is refused."""
        return self._open([self.opening(bid, offer) for bid, offer in pairs or (self.papers(),)])

    def reopen(self, ended: Live) -> Live:
        """Another attempt at the seat of a lease, with the same papers."""
        proof = ended.state.previous
        assert proof is not None
        (live,) = self._open([self.opening(ended.bid, ended.offer, previous=proof.encode())])
        return live

    def _open(self, openings: list[Opening]) -> list[Live]:
        receipt = self.escrow.open(self.market, keccak256(b"round"), openings)
        opened = [event for event in self.escrow.events_of(receipt) if isinstance(event, Opened)]
        assert len(opened) == len(openings), self.escrow.events_of(receipt)
        at = self.chain.block(receipt.block).timestamp
        lives = [_live(opening.bid, fill, at) for opening in openings for fill in opening.fills]
        assert [live.id for live in lives] == [event.lease_id for event in opened]
        return lives

    def settlement(self, live: Live, amount: int, kind: int = 1, evidence: bytes = b"\x07" * 32) -> Settlement:
        """A receipt that both sides signed."""
        receipt = Receipt(live.id, amount, kind, evidence)
        signatures = [signer.sign(self.escrow.domain, receipt) for signer in (self.provider, self.consumer)]
        return Settlement(live.lease, live.progress, amount, kind, evidence, *signatures)

    def settle(self, live: Live, amount: int, kind: int = 1, evidence: bytes = b"\x07" * 32) -> None:
        """Pays a receipt, and keeps the lease's progress in step."""
        receipt = self.escrow.settle(self.market, [self.settlement(live, amount, kind, evidence)])
        self._keep(live, Settle(amount, Kind(kind)), receipt)

    def stop(self, live: Live, by: Signer) -> None:
        """Stops a lease, and keeps its progress in step."""
        by_consumer_side = by in (self.consumer, self.guard)
        self._keep(live, Stop(by_consumer_side), self.escrow.stop(by, *self._terms(live)))

    def release(self, live: Live) -> None:
        """The provider gives a lease back."""
        self._keep(live, Release(), self.escrow.release(self.provider, *self._terms(live)))

    def claim(self, live: Live, amount: int, kind: int = 1, evidence: bytes = b"\x08" * 32) -> None:
        """The provider asks for its due without the consumer."""
        receipt = self.escrow.claim(self.provider, *self._terms(live), amount, kind, evidence)
        self._keep(live, Claim(amount, Kind(kind)), receipt)

    def dispute(self, live: Live, by: Signer) -> None:
        """The consumer's side calls the arbiter."""
        self._keep(live, Dispute(), self.escrow.dispute(by, *self._terms(live)))

    def resolve(self, live: Live, award: int, slash: int, by: Signer | None = None) -> None:
        """The arbiter's verdict: sent by somebody else with its signature, or by itself without one."""
        evidence = b"\x09" * 32
        verdict = Verdict(live.id, award, slash, evidence)
        proof = (self.escrow.sign_verdict(self.arbiter, verdict),) if by else ()
        sent = self.escrow.resolve(by or self.arbiter, *self._terms(live), award, slash, evidence, *proof)
        self._keep(live, Resolve(award, slash), sent)

    def finalize(self, live: Live, by: Signer) -> None:
        """Anyone ends a claim or a dispute whose time is over."""
        self._keep(live, Finalize(), self.escrow.finalize(by, *self._terms(live)))

    def reclaim(self, live: Live, by: Signer) -> None:
        """Anyone ends a lease whose provider has vanished."""
        self._keep(live, Reclaim(), self.escrow.reclaim(by, *self._terms(live)))

    def pass_time(self, seconds: int) -> None:
        """Moves the chain's time."""
        self.chain.rpc("evm_increaseTime", seconds)
        self.chain.rpc("evm_mine")

    def _terms(self, live: Live) -> tuple[Lease, Clauses, Progress]:
        return live.lease, live.clauses, live.progress

    def _keep(self, live: Live, change: Change, receipt: TxReceipt) -> None:
        """Keeps the lease's progress in step with the chain."""
        state, _ = apply(live.state, change, self.chain.block(receipt.block).timestamp)
        live.progress, live.ended = state.progress, None if state.is_open else state


def _live(bid: Bid, fill: Fill, opened_at: int) -> Live:
    attempt, spent = attempt_after(fill.previous)
    made = terms(bid, fill.offer, rate=fill.rate, attempt=attempt, spent=spent, opened_at=opened_at)
    return Live(bid, fill.offer, *made)


def documents() -> tuple[JobDocument, Constraints, bytes]:
    """A job, its constraints, and the digest that a bid names."""
    job, constraints = builders.a_job(), builders.some_constraints()
    return job, constraints, documents_digest(job.digest(), constraints.digest())


def evidence_for(live: Live, amount: int, billed_seconds: int, usage: Usage, **fields: Any) -> Evidence:
    """What a receipt over `amount` stands on."""
    values: dict[str, Any] = {
        "lease": hex32(live.id),
        "sequence": 1,
        "billing": "capacity",
        "billed_seconds": billed_seconds,
        "amount": str(amount),
        "usage": usage,
        "exit_code": 0,
        "reason": "ok",
        "ended_at": live.clauses.opened_at + 5,
        "log": LogSummary(sha256=hex32(bytes(32)), size=0, chunks=0),
    }
    return Evidence(**(values | fields))
