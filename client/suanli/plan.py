"""The plan: what a job would cost and where it would run, before anything is signed.

`quote` asks the market with a bid that is not signed; the limits of the bid that is signed later follow from the answer
and from what the person allows. Amounts are in base units, rates per hour.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from suanli.files import data_home, private_dir
from suanli.jobs import bundle
from suanli.jobs.bundle import Bundle
from suanli.jobs.job import Job
from suanli.session.moving import Tell
from suanli_protocol import wire
from suanli_protocol.documents import (
    Command,
    Constraints,
    JobDocument,
    Timeouts,
    documents_digest,
    hex32,
    new_salt,
)
from suanli_protocol.errors import FundsError, NoMatchError, ProtocolError, UsageError
from suanli_protocol.lease import fee_down, price_up, stake_down
from suanli_protocol.messages import ZERO_ADDRESS, Bid, Offer
from suanli_protocol.signing import Domain, struct_hash, verify
from suanli_protocol.traits import Trait
from suanli_protocol.units import BPS, SECONDS_PER_HOUR, format_money

ANYTHING = 2**95  # a limit that no price reaches, while no limit is known
GRACE_S = 600  # beside queue, execution and windows, for each further attempt
LIFE_MAX_S = 29 * 86_400
UINT96_MAX = 2**96 - 1
Billing = Literal["capacity", "usage"]


@dataclass(frozen=True)
class Draft:
    """A job made ready to be asked about: its documents and archive. Lives in a folder that is removed with it."""

    job: Job
    seat: bytes
    bundle: Bundle
    constraints: Constraints
    folder: tempfile.TemporaryDirectory[str] = field(repr=False)

    def document(self, consumer_key: bytes) -> JobDocument:
        """The job document, once the key that outputs are sealed to is known."""
        job = self.job
        return JobDocument(
            salt=new_salt(),
            name=job.name,
            command=Command(argv=job.argv, shell=job.shell),
            env=dict(job.env),
            archive=self.bundle.manifest,
            python=self.bundle.python,
            inputs=self.bundle.mounts,
            outputs=job.outputs,
            timeouts=Timeouts(startup=job.timeouts.startup, execution=job.timeouts.execution),
            billing=cast(Billing, job.billing),
            consumer_key=hex32(consumer_key),
        )


def draft(job: Job, *, pack: bool = True, tell: Tell | None = None) -> Draft:
    """Packs what travels and writes the constraints; `tell` hears how far the packing is."""
    root = private_dir(data_home() / "drafts")
    folder = tempfile.TemporaryDirectory(prefix="draft-", dir=root)
    packed = bundle.build(job, Path(folder.name) / "inputs.tar", tell=tell) if pack else Bundle()
    constraints = Constraints(
        salt=new_salt(),
        regions=job.regions,
        python=job.python,
        environments=job.requirements is not None,
        queue_seconds=job.timeouts.queue,
        retry=job.retry_on,
    )
    return Draft(job, secrets.token_bytes(32), packed, constraints, folder)


def traits_of(job: Job) -> Trait:
    """The traits that an offer must have for the job: always sandbox tier B or better."""
    needs = Trait.SANDBOX_B
    if job.python or job.requirements is not None:
        needs |= Trait.PYTHON
    if job.requirements is not None:
        needs |= Trait.ENVIRONMENTS
    return needs


@dataclass(frozen=True)
class Money:
    """A token as a person reads it."""

    symbol: str
    decimals: int

    def __call__(self, amount: int) -> str:
        return f"{format_money(amount, self.decimals)} {self.symbol}"


@dataclass(frozen=True)
class Choice:
    """An offer that would do, with the figures recomputed here: never the market's own sums."""

    offer: Offer
    view: wire.OfferView
    rate: int
    seconds: int
    price: int
    fee: int
    stake: int

    @property
    def most(self) -> int:
        """The most that it can cost: price and fee."""
        return self.price + self.fee

    @property
    def deposit(self) -> int:
        """What is locked meanwhile."""
        return self.most + self.stake

    @property
    def name(self) -> str:
        """What the provider calls its machine."""
        return str(self.view.attributes.get("name", ""))

    @property
    def region(self) -> str:
        """Where it says it is."""
        return str(self.view.attributes.get("region", ""))


@dataclass(frozen=True)
class Plan:
    """A job, the offers that would do (best first), why the others would not, and the bid to sign."""

    draft: Draft
    info: wire.MarketInfo
    bid: Bid
    choices: tuple[Choice, ...]
    rejections: tuple[wire.Rejection, ...]
    considered: int
    free: int | None = None  # the consumer's free money on the escrow; None: not looked at

    @property
    def job(self) -> Job:
        """The job that is planned."""
        return self.draft.job

    @property
    def id(self) -> str:
        """The id that the job will have."""
        return wire.to_hex(self.draft.seat)

    @property
    def money(self) -> Money:
        """The currency."""
        return Money(self.info.symbol, self.info.decimals)

    @property
    def chosen(self) -> Choice:
        """The best offer; NoMatchError with the reasons if there is none."""
        if not self.choices:
            raise no_match(self.considered, self.rejections)
        return self.choices[0]

    @property
    def rejected(self) -> list[wire.Rejection]:
        """Which conditions reject how many offers."""
        return list(self.rejections)

    @property
    def budget(self) -> int:
        """The most that the job can cost, fee included: the escrow cannot pay more."""
        return self.bid.budget

    def table(self) -> str:
        """The plan as a person reads it."""
        from suanli.terminal import render

        return render.text(render.plan(self))

    def to_json(self) -> dict[str, Any]:
        """The plan's figures: amounts as decimal text of the currency's base units."""
        return {
            "job": self.id,
            "currency": {"symbol": self.info.symbol, "decimals": self.info.decimals},
            "offers": [_choice_json(choice) for choice in self.choices],
            "considered": self.considered,
            "rejections": [rejection.to_json() for rejection in self.rejections],
            "maxRate": str(self.bid.max_rate),
            "budget": str(self.budget),
            "locked": str(self.chosen.deposit) if self.choices else None,
            "free": str(self.free) if self.free is not None else None,
            "seconds": self.bid.max_seconds,
            "window": self.bid.window,
            "guard": self.bid.guard if int(self.bid.guard, 16) else None,
            "arbiter": self.bid.arbiter if int(self.bid.arbiter, 16) else None,
            "archive": self.draft.bundle.manifest.to_json() if self.draft.bundle.manifest else None,
        }

    def check_funds(self) -> None:
        """FundsError with the exact amount that is missing and the command that puts it there."""
        free, deposit = self.free or 0, self.chosen.deposit
        if free < deposit:
            missing = format_money(deposit - free, self.info.decimals)
            raise FundsError(
                f"the lease locks {self.money(deposit)} (price, fee and stake), "
                f"your account has {self.money(free)} free: {missing} {self.info.symbol} are missing",
                hint=f"suanli wallet fund {missing}",
            )


def _choice_json(choice: Choice) -> dict[str, Any]:
    return {
        "offer": choice.view.id,
        "provider": choice.offer.provider,
        "name": choice.name,
        "region": choice.region,
        "rate": str(choice.rate),
        "seconds": choice.seconds,
        "price": str(choice.price),
        "fee": str(choice.fee),
        "stake": str(choice.stake),
    }


def no_match(considered: int, rejections: tuple[wire.Rejection, ...]) -> NoMatchError:
    """The error that no offer fits, with the reasons as a table."""
    if not considered:
        return NoMatchError("the market has no open offer", hint="wait for a provider, or set another market")
    width = max((len(str(item.offers)) for item in rejections), default=1)
    lines = [f"{item.offers:>{width}} of {considered}  {item.detail or item.condition}" for item in rejections]
    hints = [item.hint for item in rejections if item.hint]
    detail = "\n".join([f"none of {considered} open offers fits the job", *lines])
    return NoMatchError(detail, hint=hints[0] if hints else "ask for less, or pay more")


def bid_of(
    item: Draft,
    info: wire.MarketInfo,
    *,
    consumer: str,
    window: int,
    document: JobDocument | None,
    counter: int,
    guard: str = ZERO_ADDRESS,
    arbiter: str = ZERO_ADDRESS,
) -> Bid:
    """The bid with open limits. `valid_until` is set when it is signed."""
    job = item.job
    digest = document.digest() if document is not None else bytes(32)
    try:
        need = job.resources.lanes.pack()
    except ValueError as error:
        raise UsageError(f"resources: {error}", hint="ask for less") from None
    return Bid(
        consumer=consumer,
        market=info.address,
        guard=guard,
        arbiter=arbiter,
        seat=item.seat,
        count=1,
        attempts=job.attempts,
        gang=False,
        need=need,
        needs=int(traits_of(job)),
        refuses=0,
        max_rate=ANYTHING,
        budget=ANYTHING,
        max_seconds=job.timeouts.execution,
        window=window,
        fee_bps=info.fee_bps,
        documents=documents_digest(digest, item.constraints.digest()),
        valid_until=int(time.time()) + life_of(job, window),
        counter=counter,
    )


def life_of(job: Job, window: int) -> int:
    """How long a bid must live for all its attempts, in seconds: the queue each time, and what a lease may take."""
    whole = job.timeouts.queue + job.timeouts.execution + 2 * window + GRACE_S
    return min(LIFE_MAX_S, job.timeouts.queue + (job.attempts - 1) * whole)


def limited(bid: Bid, *, max_price: int | None, budget: int | None) -> Bid:
    """The bid with the limits that the person set; the one that is missing follows from the other."""
    seconds, fee_bps = bid.max_seconds, bid.fee_bps
    if max_price is not None and budget is None:
        price = price_up(max_price, seconds)
        return replace(bid, max_rate=max_price, budget=min(UINT96_MAX, price + fee_down(price, fee_bps)))
    if budget is not None and max_price is None:
        return replace(bid, max_rate=min(UINT96_MAX, rate_within(budget, seconds, fee_bps)), budget=budget)
    if budget is not None and max_price is not None:
        return replace(bid, max_rate=max_price, budget=budget)
    return bid


def rate_within(budget: int, seconds: int, fee_bps: int) -> int:
    """The highest rate whose price for the seconds, with its fee, stays within the budget."""
    price = budget * BPS // (BPS + fee_bps)
    while price + 1 + fee_down(price + 1, fee_bps) <= budget:
        price += 1
    return price * SECONDS_PER_HOUR // seconds


def settle_limits(bid: Bid, choices: tuple[Choice, ...], *, max_price: int | None, budget: int | None) -> Bid:
    """The limits of the bid that is signed: without a word from the person, the best offer's price and no more."""
    if max_price is None and budget is None and choices:
        return replace(bid, max_rate=choices[0].rate, budget=choices[0].most)
    return bid


def read_choices(quote: wire.Quote, bid: Bid, domain: Domain) -> tuple[Choice, ...]:
    """The quoted offers whose signature holds and whose figures stay within the bid's limits."""
    choices = [_read_choice(item, bid, domain) for item in quote.offers]
    return tuple(item for item in choices if item.rate <= bid.max_rate and item.most <= bid.budget)


def _read_choice(quoted: wire.QuotedOffer, bid: Bid, domain: Domain) -> Choice:
    view = quoted.offer
    offer = wire.paper_from_json(Offer, view.offer)
    verify(domain, offer, wire.from_hex(view.signature, size=64, name="signature"), offer.provider)
    if wire.to_hex(struct_hash(offer)) != view.id:
        raise ProtocolError(f"the market's offer {view.id} is not the offer that it shows")
    rate, seconds = int(quoted.rate), min(bid.max_seconds, offer.max_seconds)
    price = price_up(rate, seconds)
    fee = fee_down(price, bid.fee_bps)
    return Choice(offer, view, rate, seconds, price, fee, stake_down(price))
