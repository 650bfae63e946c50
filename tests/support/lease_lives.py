"""Real leases on a real chain, driven through the escrow binding: for tests of whoever reads them afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from suanli_protocol.chain import Chain
from suanli_protocol.devnet import set_balance
from suanli_protocol.documents import Constraints, Evidence, JobDocument, LogSummary, Usage, documents_digest, hex32
from suanli_protocol.escrow import Escrow, deploy
from suanli_protocol.events import Opened
from suanli_protocol.lease import Clauses, Lease, Progress, ask_up, lease_id, terms
from suanli_protocol.messages import Bid, Offer, Receipt
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

    @property
    def id(self) -> bytes:
        """The lease's id."""
        return lease_id(self.lease)


class LeaseLives:
    """An escrow on a devnet with a funded consumer, provider and market."""

    def __init__(self, url: str, salt: str = "") -> None:
        self.chain = Chain(url)
        self.consumer, self.provider, self.market, self.guard = (
            Signer(keccak256(f"lives {salt} {name}".encode())) for name in ("consumer", "provider", "market", "guard")
        )
        for signer in (self.consumer, self.provider, self.market, self.guard):
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

    def opening(self, bid: Bid, offer: Offer, *, rate: int | None = None) -> Opening:
        """Both papers signed, at the offer's ask."""
        fill = Fill(offer, self.provider.sign(self.escrow.domain, offer), rate or ask_up(bid, offer))
        return Opening(bid, self.consumer.sign(self.escrow.domain, bid), (fill,))

    def open(self, *pairs: tuple[Bid, Offer]) -> list[Live]:
        """Opens leases in one call by the market; one without arguments. AssertionError if any is refused."""
        openings = [self.opening(bid, offer) for bid, offer in pairs or (self.papers(),)]
        receipt = self.escrow.open(self.market, keccak256(b"round"), openings)
        opened = [event for event in self.escrow.events_of(receipt) if isinstance(event, Opened)]
        assert len(opened) == len(openings), self.escrow.events_of(receipt)
        at = self.chain.block(receipt.block).timestamp
        lives = [
            Live(o.bid, f.offer, *terms(o.bid, f.offer, rate=f.rate, opened_at=at)) for o in openings for f in o.fills
        ]
        assert [live.id for live in lives] == [event.lease_id for event in opened]
        return lives

    def settlement(self, live: Live, amount: int, kind: int = 1, evidence: bytes = b"\x07" * 32) -> Settlement:
        """A receipt that both sides signed."""
        receipt = Receipt(live.id, amount, kind, evidence)
        signatures = [signer.sign(self.escrow.domain, receipt) for signer in (self.provider, self.consumer)]
        return Settlement(live.lease, live.progress, amount, kind, evidence, *signatures)

    def settle(self, live: Live, amount: int, kind: int = 1, evidence: bytes = b"\x07" * 32) -> None:
        """Pays a receipt, and keeps the lease's progress in step."""
        self.escrow.settle(self.market, [self.settlement(live, amount, kind, evidence)])
        live.progress = Progress(amount, 0, live.progress.clock, live.progress.phase, live.progress.flags)

    def stop(self, live: Live, by: Signer) -> None:
        """Stops a lease, and keeps its progress in step."""
        receipt = self.escrow.stop(by, live.lease, live.clauses, live.progress)
        (event,) = self.escrow.events_of(receipt)
        flags = int(event.by_consumer_side)  # type: ignore[attr-defined]
        live.progress = Progress(live.progress.paid, 0, event.clock, type(live.progress.phase)(1), flags)  # type: ignore[attr-defined]

    def release(self, live: Live) -> None:
        """The provider gives a lease back."""
        self.escrow.release(self.provider, live.lease, live.clauses, live.progress)


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
