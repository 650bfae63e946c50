"""The consumer's side as a Python library; the command line is a thin layer over it.

client = suanli.Client()
plan = client.quote(suanli.Job.from_yaml("job.yaml"))
job = client.submit(plan, idempotency_key="exp-42")
job.wait(timeout="3h")
assert client.audit(job.receipt()).ok
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from suanli import config as configuration
from suanli import keys
from suanli.handle import JobHandle
from suanli.jobs.adoption import adopt, reported
from suanli.jobs.job import Job
from suanli.jobs.record import Record
from suanli.jobs.store import Store, resolve
from suanli.network import Network, window_of
from suanli.plan import (
    ANYTHING,
    Draft,
    Money,
    Plan,
    bid_of,
    draft,
    life_of,
    limited,
    no_match,
    read_choices,
    settle_limits,
)
from suanli.session import agreement as agreements
from suanli.session.direct import is_direct
from suanli.session.moving import Tell
from suanli_protocol import faults, wire
from suanli_protocol.documents import hex32
from suanli_protocol.errors import FundsError, NotFoundError, UsageError
from suanli_protocol.lease import Account, Refusal, ask_up, deposit_of, lease_seconds, price_up, refusal, same_address
from suanli_protocol.messages import Bid, Offer, Receipt
from suanli_protocol.signing import Signer, struct_hash
from suanli_protocol.units import parse_duration, parse_money

if TYPE_CHECKING:
    from suanli.audit.report import AuditReport

STRANGER = "0x" + "00" * 19 + "01"  # stands for the consumer in a quote that is asked for without a key


class Client:
    """One consumer: its settings, its key, its jobs. Settings that are not given come from the configuration."""

    def __init__(
        self,
        *,
        market: str | None = None,
        chain: str | None = None,
        escrow: str | None = None,
        keystore: str | Path | None = None,
        password_file: str | Path | None = None,
        window: str | None = None,
        signer: Signer | None = None,
        store: Store | None = None,
    ) -> None:
        flags = {
            "market": market,
            "chain": chain,
            "escrow": escrow,
            "keystore": str(keystore) if keystore else None,
            "password_file": str(password_file) if password_file else None,
            "window": window,
        }
        self.config = configuration.load(flags)
        self.network = Network(self.config)
        self.store = store or Store()
        self._unlocking: keys.Unlocking | None = None
        self._given = signer
        self.on_notice: Callable[[str], None] = lambda _: None
        self.on_progress: Tell = lambda _: None  # of packing, in bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self.network.close()

    def network_of(self, record: Record) -> Network:
        """The connections of a job: a deal without a market goes on with the node that it was made with."""
        if not is_direct(record) or record.market == self.config.get("market"):
            return self.network
        network = Network(self.config.at(record.market))
        network.signer = self._given
        return network

    # The key

    def prepare_key(self) -> None:
        """Begins to unlock the key, so that it passes while the market is asked."""
        if self._given is None and self._unlocking is None:
            self._unlocking = keys.Unlocking(self.config)

    @property
    def address(self) -> str:
        """The consumer's address; needs no password."""
        return self._given.address if self._given is not None else keys.address(self.config)

    @property
    def signer(self) -> Signer:
        """The unlocked key."""
        if self._given is None:
            self.prepare_key()
            assert self._unlocking is not None  # noqa: S101  # set by the line before
            self._given = self._unlocking.signer()
        self.network.signer = self._given
        return self._given

    @property
    def is_unlocked(self) -> bool:
        """Whether the key is at hand without a password."""
        return self._given is not None

    # Asking

    def quote(self, job: Job, *, window: int | None = None) -> Plan:
        """What the job would cost, and where it could run; nothing is signed. `plan.choices` may be empty.

        `window` is how long a claim can be disputed, in seconds; None: the job's, or else as configured.
        With chain, escrow and key set, market and chain are pinned against each other and the free money is looked at.
        """
        wanted = self.window(window if window is not None else job.window)
        item = draft(job, tell=self.on_progress)
        if not self._has_chain:
            info = self.network.info
            return self._quote(item, info, window_of(info, is_devnet=True, wanted=wanted), None)
        info = self.pinned()
        seconds = window_of(info, is_devnet=self.network.is_devnet, wanted=wanted)
        self.network.check_clock(seconds)
        return self._quote(item, info, seconds, self.network.escrow.account(self.address))

    def window(self, given: int | None = None) -> int | None:
        """The window that is wanted, in seconds: the given one, else the configured; None if there is neither."""
        text = self.config.get("window")
        if given is not None or text is None:
            return given
        return parse_duration(text, name=f"window ({self.config.origin('window')})")

    def judges(self, job: Job) -> dict[str, str]:
        """The guard, who may stop and dispute for this consumer, and the arbiter: the job's, else as configured."""
        given = {"guard": job.guard, "arbiter": job.arbiter}
        found = {name: text or self.config.get(name) for name, text in given.items()}
        return {name: wire.read_address(text, name=name) for name, text in found.items() if text}

    @property
    def _has_chain(self) -> bool:
        return all(self.config.get(name) for name in ("chain", "escrow")) and (
            self._given is not None or bool(self.config.get("keystore"))
        )

    def pinned(self) -> wire.MarketInfo:
        """The market's (or node's) word on who it is, pinned against the chain; tells of a devnet that was reset."""
        info = self.network.pin()
        before = self.network.remember()
        if before is not None:
            self.on_notice("this devnet was reset since the last time: money and jobs from before are gone with it")
        return info

    def _quote(self, item: Draft, info: wire.MarketInfo, window: int, account: Any) -> Plan:
        consumer = self.address if account is not None else STRANGER
        counter = account.counter if account is not None else 0
        bid = bid_of(
            item, info, consumer=consumer, window=window, document=None, counter=counter, **self.judges(item.job)
        )
        limits = self.limits(item.job, info)
        bid = limited(bid, **limits)
        request = wire.QuoteRequest(bid=wire.paper_to_json(bid), constraints=item.constraints.to_json())
        quote = self.network.market.quote(request)
        choices = read_choices(quote, bid, self.network.market.domain)
        free = account.free if account is not None else None
        if not choices and account is not None:
            self._explain_funds(quote, bid, account.free, Money(info.symbol, info.decimals))
        if not choices and limits["max_price"] is None and limits["budget"] is not None:
            quote = self._quote_by_budget(request, bid) or quote
        bid = settle_limits(bid, choices, **limits)
        return Plan(item, info, bid, choices, tuple(quote.rejections), quote.considered, free)

    def _quote_by_budget(self, request: wire.QuoteRequest, bid: Bid) -> wire.Quote | None:
        """The market's reasons in terms of the budget that was named, not of the price an hour that follows from it."""
        paper = wire.paper_to_json(replace(bid, max_rate=ANYTHING))
        quote = self.network.market.quote(wire.QuoteRequest(bid=paper, constraints=request.constraints))
        return None if quote.offers else quote

    def limits(self, job: Job, info: wire.MarketInfo) -> dict[str, int | None]:
        """The job's max_price and budget in base units; UsageError if one is more than there is."""
        units = {}
        for name, text in (("max_price", job.max_price), ("budget", job.budget)):
            amount = parse_money(text, info.decimals, name=name) if text is not None else None
            if amount is not None and amount >= ANYTHING:
                raise UsageError(f"{name}: {text} {info.symbol} is more than there is", hint="write a smaller amount")
            units[name] = amount
        return units

    def _explain_funds(self, quote: wire.Quote, bid: Bid, free: int, money: Money) -> None:
        """FundsError if an offer would do but for the consumer's money: with the least that is missing."""
        if not any(item.condition == "consumer_funds" for item in quote.rejections):
            return
        deposits = [deposit for view in self.network.market.offers() if (deposit := _deposit_on(view, bid))]
        least = min((deposit for deposit in deposits if deposit > free), default=0)
        if least:
            missing = money(least - free)
            raise FundsError(
                f"the cheapest lease locks {money(least)} (price, fee and stake), "
                f"your account has {money(free)} free: {missing} are missing",
                hint=f"suanli wallet fund {missing.split()[0]}",
            )

    # Submitting

    def submit(self, plan: Plan, *, idempotency_key: str = "", name: str | None = None) -> JobHandle:
        """Signs the bid of a plan and records the job; with a key that was used before, the job from then.

        The bid is posted by the handle's first step; a crash in between loses nothing and doubles nothing.
        """
        if idempotency_key:
            known = self.store.by_key(idempotency_key, escrow=plan.info.escrow, consumer=self.address)
            if known is not None:
                return self._handle(known)
        if not plan.choices:
            raise no_match(plan.considered, plan.rejections)
        plan.check_funds()
        signer = self.signer
        document = plan.draft.document(signer.encryption_public)
        final = bid_of(
            plan.draft,
            plan.info,
            consumer=signer.address,
            window=plan.bid.window,
            document=document,
            counter=plan.bid.counter,
            guard=plan.bid.guard,
            arbiter=plan.bid.arbiter,
        )
        bid = replace(
            final,
            max_rate=plan.bid.max_rate,
            budget=plan.bid.budget,
            valid_until=int(time.time()) + life_of(plan.job, plan.bid.window),
        )
        if bid.seat != plan.draft.seat or bid.fee_bps != plan.bid.fee_bps:
            raise UsageError("the plan is not this client's")
        record = Record(
            id=plan.id,
            created_at=int(time.time()),
            market=self.config.require("market"),
            chain=self.config.require("chain"),
            chain_id=plan.info.chain_id,
            escrow=plan.info.escrow,
            genesis=plan.info.genesis,
            symbol=plan.info.symbol,
            decimals=plan.info.decimals,
            bid=wire.paper_to_json(bid),
            bid_hash=wire.to_hex(struct_hash(bid)),
            constraints=plan.draft.constraints.to_json(),
            job=document.to_json(),
            job_digest=hex32(document.digest()),
            signature=wire.to_hex(signer.sign(self.network.domain, bid)),
            name=name if name is not None else plan.job.name,
            idempotency_key=idempotency_key,
            plan=_shown(plan, bid),
        )
        self._keep_archive(plan, record)
        faults.reach("client.bid.signed")
        self.store.save(record)
        faults.reach("client.bid.recorded")
        return self._handle(record)

    def _keep_archive(self, plan: Plan, record: Record) -> None:
        if plan.draft.bundle.path is not None:
            shutil.move(plan.draft.bundle.path, self.store.folder(record.id) / "inputs.tar")

    def _handle(self, record: Record) -> JobHandle:
        return JobHandle(self, record)

    # Finding

    def jobs(self) -> list[JobHandle]:
        """The jobs that this machine knows, newest first."""
        return [self._handle(record) for record in self.store.all()]

    def job(self, word: str) -> JobHandle:
        """A job by name, number, or unambiguous prefix of its id; from the market if this machine does not know it."""
        try:
            return self._handle(resolve(word, self.store.all()))
        except NotFoundError:
            if not self._has_chain or not self.config.get("market"):
                raise
            handle = self._handle(resolve(word, self.adopt_leases(is_patient=True)))
            handle.refresh()
            return handle

    def job_here(self, word: str) -> JobHandle:
        """The same, of this machine's jobs alone: nobody is asked."""
        return self._handle(resolve(word, self.store.all()))

    def adopt_leases(self, *, as_reported: bool = False, is_patient: bool = False) -> list[Record]:
        """Records of this key's leases that other machines submitted, rebuilt from the market's papers and checked.

        They count as leased until a session has looked; `as_reported` takes phases from the market, for a list.
        A market that is away is waited for if `is_patient`.
        """
        signer = self.signer
        info = self.network.pin_patiently(self.on_notice) if is_patient else self.network.pin()
        known = {record.lease for record in self.store.all()}
        adopted = []
        for view in self.network.market.leases():
            if view.id in known or str(view.bid.get("consumer", "")).lower() != signer.address.lower():
                continue
            agreement = agreements.read_agreement(view, self.network.domain, signer.address)
            record = adopt(view, network=self.network, agreement=agreement, info=info)
            adopted.append(reported(record, view) if as_reported else record)
        return adopted

    # Proof

    def audit(self, receipt: Receipt | JobHandle) -> AuditReport:
        """Recomputes the lease of a receipt (or of a JobHandle) from the chain; see `suanli.audit`."""
        from suanli.audit import audit_lease
        from suanli.deployments import memory_file

        which = receipt.record.lease if isinstance(receipt, JobHandle) else wire.to_hex(receipt.lease)
        kept = self.store.jobs_dir if self.store.jobs_dir.is_dir() else None
        chain, escrow = self.config.require("chain"), self.config.require("escrow")
        return audit_lease(chain, escrow, which, kept, memory=memory_file())


def _shown(plan: Plan, bid: Bid) -> dict[str, Any]:
    """The figures that were shown; of a deal without a market also the offer, which the consumer opens itself."""
    shown: dict[str, Any] = {
        "title": plan.job.title,
        "budget": str(bid.budget),
        "locked": str(plan.chosen.deposit),
    }
    if same_address(bid.market, bid.consumer):
        view = plan.chosen.view
        signed = wire.SignedOffer(offer=view.offer, signature=view.signature, attributes=view.attributes)
        shown |= {"offer": signed.to_json(), "rate": str(plan.chosen.rate)}
    return shown


def _deposit_on(view: wire.OfferView, bid: Bid) -> int:
    """What a lease on this offer would lock, or 0 if it would not do for other reasons than money."""
    offer = wire.paper_from_json(Offer, view.offer)
    rate, rich = ask_up(bid, offer), 2**96
    code = refusal(
        bid,
        offer,
        rate=rate,
        caller=bid.market,
        now=0,
        consumer=Account(free=rich, counter=bid.counter),
        provider=Account(free=rich, counter=offer.counter),
    )
    if code is not Refusal.NONE:
        return 0
    return deposit_of(price_up(rate, lease_seconds(bid, offer)), bid.fee_bps)
