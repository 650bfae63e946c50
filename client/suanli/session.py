"""A session: what the consumer's side does for one job, from the signed bid to the settled lease.

Each step is looked up, checked, recorded, then done, so that a session can end anywhere and another go on from there:
post the bid → at the match check everything → seal and hand over → follow → check the receipt → sign it → see it paid.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from suanli_protocol import wire
from suanli_protocol.documents import JobDocument, LogLine
from suanli_protocol.errors import IntegrityError, MarketError, NotFoundError, SuanliError, TimedOutError
from suanli_protocol.log import EntryKind, verify_acknowledgement
from suanli_protocol.messages import Bid
from suanli_protocol.reasons import Phase, Reason
from suanli_protocol.signing import Signer
from suanli_protocol.units import format_bytes, format_duration

from suanli import agreement as agreements
from suanli import evidence as evidences
from suanli import transfer
from suanli.agreement import Agreement, NotYetOnChainError
from suanli.evidence import Claim
from suanli.feed import Feed
from suanli.joblog import LogFollower
from suanli.network import Network
from suanli.outcome import is_ended, words
from suanli.plan import Money
from suanli.progress import Change, Silent, Watcher
from suanli.record import Record
from suanli.store import Store

POLL_S = 2.0  # a lost event costs so much
SPECTATE_S = 0.5  # how often a second command looks at what the first one wrote
QUEUE_GRACE_S = 30  # between a bid's end and the market's word for it
CHAIN_GRACE_S = 60  # for the own endpoint to see what the market has seen
COLLECT_S = 900  # for outputs to come back after the lease's end
SETTLE_S = 180
LOG_S = 60  # for the log to be complete once there is a receipt
_RANK = (Phase.QUEUED, Phase.LEASED, Phase.STARTING, Phase.RUNNING, Phase.SUCCEEDED)

Goal = Callable[[Record], bool]


def is_sent(record: Record) -> bool:
    """Goal of a detached run: the provider has all that it needs."""
    return record.is_over or is_ended(record) or set(slots_of(record)) <= set(record.delivered)


def is_settled(record: Record) -> bool:
    """Goal of a waiting run: nothing more will change."""
    return record.is_over


def slots_of(record: Record) -> tuple[str, ...]:
    """What is to be handed over: the job, and its archive if it has one."""
    return ("job", "inputs") if record.job and record.job.get("archive") else ("job",)


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
        self._network, self._store, self.record, self._signer = network, store, record, signer
        self._watcher = watcher or Silent()
        self._output_dir = output_dir
        self._market = network.market
        self._domain = network.domain
        self._money = Money(record.symbol, record.decimals)
        self._agreement: Agreement | None = None
        self._log: LogFollower | None = None
        self._wants_log = False  # a single look fetches none
        self._phase_began = time.time()
        self._said: set[str] = set()
        self._folder = store.folder(record.id)

    # Driving

    def drive(self, goal: Goal, *, timeout_s: float | None = None) -> Record:
        """Takes steps until the goal is reached. TimedOutError if a phase, or the whole, takes longer than it may."""
        ends = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            while True:
                with self._store.care(self.record.id) as is_mine:
                    self._reload()
                    if is_mine:
                        self._drive(goal, ends)
                if goal(self.record):
                    self.finish_log()
                    return self.record
                self._say_once("spectator", "notice", "another suanli command takes care of this job; watching it")
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
                    left = POLL_S if ends is None else min(POLL_S, max(0.0, ends - time.monotonic()))
                    self._tell_phases(feed.wait(left))
                    self.record.event = feed.last
        except IntegrityError as error:
            self._save(detail=error.detail)
            raise

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
            self._log = LogFollower(self._market, self._signer, lease, self._tell_lines, into)
            self._log.start()

    def finish_log(self) -> None:
        """Waits until the log of an ended run is complete."""
        if self._log is not None and is_ended(self.record):
            self._log.wait(None, LOG_S)

    def fetch_log(self, into: Path) -> None:
        """Writes what there is of the log at this moment to a file."""
        self.follow_log(into)
        if self._log is not None:
            self._log.wait_caught_up(LOG_S)
        self.stop_log()

    def cancel(self) -> Record:
        """Takes the bid back while it is queued, else stops the lease on the chain."""
        if self.record.phase in ("new", "queued"):
            self._look_for_lease() if self.record.phase == "queued" else None
        if not self.record.lease:
            return self._withdraw()
        view = self._market.lease(wire.from_hex(self.record.lease))
        agreement = agreements.read_agreement(view, self._domain, self._signer.address)
        if view.state == "open":
            progress = agreements.progress_of(agreement, self._network.escrow.seat, view.stopped_at)
            self._network.escrow.stop(self._signer, agreement.lease, agreement.clauses, progress)
            self._tell("stopped", "the lease is stopped on the chain: nothing later is billable")
        return self.record

    def _withdraw(self) -> Record:
        if self.record.phase == "queued":
            self._market.withdraw_bid(wire.from_hex(self.record.bid_hash))
        self._end_unleased(Phase.CANCELLED, Reason.STOPPED, "the bid was taken back before there was a lease")
        return self.record

    def _try_step(self) -> SuanliError | None:
        """One step; an error that may pass is told once and returned."""
        try:
            self._step()
        except NotYetOnChainError as error:
            return error
        except SuanliError as error:
            if not error.retryable or self.record.phase == "new":
                raise
            self._say_once(f"trouble:{error.code}", "notice", f"{error.detail}; trying again", code=error.code)
            return error
        self._said.discard("trouble:unreachable")
        return None

    def _step(self) -> None:
        if self.record.phase == "new":
            self._post()
        if not self.record.lease and not self.record.is_over:
            self._look_for_lease()
        if self.record.lease and not self.record.is_over:
            self._look_at_lease()

    def _check_patience(self, ends: float | None, trouble: SuanliError | None) -> None:
        record, waited = self.record, time.time() - self._phase_began
        if ends is not None and time.monotonic() >= ends:
            raise TimedOutError(f"{record.short} is {record.phase} still", hint=f"suanli wait {record.short}")
        bid = record.bid
        if not record.lease:
            limit = max(0.0, int(bid["validUntil"]) - self._phase_began) + QUEUE_GRACE_S
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

    # Telling

    def _tell(self, kind: str, text: str, **figures: object) -> None:
        self._watcher.changed(self.record, Change(kind, text, dict(figures)))

    def _say_once(self, key: str, kind: str, text: str, **figures: object) -> None:
        if key not in self._said:
            self._said.add(key)
            self._tell(kind, text, **figures)

    def _tell_lines(self, lines: list[LogLine]) -> None:
        self._watcher.lines(self.record, lines)

    def _save(self, **changes: object) -> None:
        for name, value in changes.items():
            if name == "phase" and value != self.record.phase:
                self._phase_began = time.time()
            setattr(self.record, name, value)
        self._store.save(self.record)

    # The bid

    def _post(self) -> None:
        record = self.record
        signed = wire.SignedBid(
            bid=record.bid, signature=record.signature, constraints=record.constraints, job_digest=record.job_digest
        )
        ack = self._market.post_bid(signed)
        entry = verify_acknowledgement(ack, self._domain, record.bid["market"])
        if wire.to_hex(entry.paper) != record.bid_hash:
            raise IntegrityError("acknowledgement: the market acknowledged another paper than this bid")
        if entry.kind != EntryKind.BID or entry.reason:
            raise MarketError(f"the market refused the bid with code {entry.reason}", code="bid_refused")
        self._save(acknowledgement=ack.to_json(), phase=Phase.QUEUED.value)
        self._tell("queued", f"the market admitted the bid as entry {entry.seq} of its log", entry=entry.seq)

    def _look_for_lease(self) -> None:
        view = self._market.bid(wire.from_hex(self.record.bid_hash))
        if view.lease is not None:
            self._save(lease=view.lease, phase=Phase.LEASED.value)
        elif view.state == "expired":
            self._end_unleased(Phase.FAILED, Reason.QUEUE_TIMEOUT, _why(view))
        elif view.state == "withdrawn":
            self._end_unleased(Phase.CANCELLED, Reason.STOPPED, "the bid was withdrawn")
        elif view.state == "refused":
            self._end_unleased(Phase.FAILED, "refused", view.reason or _why(view))
        elif view.rejections:
            self._say_once("unmatched", "unmatched", f"no offer fits yet: {_why(view)}")

    def _end_unleased(self, phase: Phase, reason: str, detail: str) -> None:
        self._save(phase=phase.value, reason=str(reason), detail=detail)
        self._tell(phase.value, detail or words(str(reason)), reason=str(reason))

    # The lease

    def _look_at_lease(self) -> None:
        view = self._market.lease(wire.from_hex(self.record.lease))
        agreement = self._agree(view)
        if view.state in ("open", "stopped") and not view.receipt:
            self._hand_over(agreement)
        if view.stopped_at is not None and self.record.stopped_at is None:
            self._save(stopped_at=view.stopped_at)
        if self._wants_log:
            self.follow_log()
        self._advance(view.phase, view.reason)
        if view.receipt is not None and not self.record.countersignature:
            self._take_receipt(agreement, view.countersignature)
        if self.record.countersignature and view.state == "open" and view.countersignature is None:
            self._countersign(agreement)
        if view.state == "settled":
            self._finish(agreement, view)
        elif view.state == "released":
            self._give_up(view)

    def _agree(self, view: wire.LeaseView) -> Agreement:
        """The agreement, checked against papers, own bid and chain before anything else is done with it."""
        if self._agreement is not None:
            return self._agreement
        agreement = agreements.read_agreement(view, self._domain, self._signer.address)
        own = wire.paper_from_json(Bid, self.record.bid)
        is_new = not self.record.delivered and view.state == "open" and not view.receipt
        try:
            agreements.check_terms(agreement, own)
        except IntegrityError as error:
            if is_new:
                self._veto(agreement, error)
            raise
        if is_new:
            agreements.check_on_chain(agreement, self._network.escrow.seat)
        self._agreement = agreement
        self._note_lease(agreement)
        return agreement

    def _note_lease(self, agreement: Agreement) -> None:
        lease, clauses = agreement.lease, agreement.clauses
        is_first = not self.record.number
        self._save(
            number=agreement.number,
            provider=agreement.offer.provider,
            attributes=agreement.attributes.to_json(),
            **({"phase": Phase.LEASED.value} if self.record.phase in ("new", "queued") else {}),
        )
        if not is_first:
            return
        place = f" ({agreement.attributes.region})" if agreement.attributes.region else ""
        self._tell(
            "leased",
            f"lease {agreement.number} on {agreement.attributes.name}{place} at {self._money(clauses.rate)}/h, "
            f"{self._money(lease.deposit)} locked",
            lease=self.record.lease,
            number=agreement.number,
            provider=agreement.offer.provider,
            rate=str(clauses.rate),
            price=str(lease.price),
            deposit=str(lease.deposit),
        )
        self._tell("checked", "offer, machine, terms and the chain's own word agree")

    def _veto(self, agreement: Agreement, why: IntegrityError) -> None:
        """Stops a lease that breaks the consumer's conditions: nothing was sent, nothing is billable."""
        self._tell("notice", f"refused before anything was sent: {why.detail}")
        try:
            progress = agreements.progress_of(agreement, self._network.escrow.seat, None)
            self._network.escrow.stop(self._signer, agreement.lease, agreement.clauses, progress)
        except SuanliError as error:
            why.hint = f"the lease could not be stopped either: {error.detail}"
            return
        self._save(phase=Phase.CANCELLED.value, reason=Reason.STOPPED.value, detail=why.detail)
        why.hint = "the lease was stopped on the chain; keep the job's folder as proof against the market"

    def _hand_over(self, agreement: Agreement) -> None:
        """Seals and uploads what the relay does not have yet. Sealed files are kept until it has signed for them."""
        record, folder = self.record, self._folder
        missing = [slot for slot in slots_of(record) if slot not in record.delivered]
        if not missing or record.job is None:
            return
        sizes: dict[str, int] = {}
        for slot in missing:
            sealed = folder / f"{slot}.sealed"
            if slot == "job":
                document = JobDocument.parse(record.job).canonical()
                transfer.seal_job(document, agreement.encryption_key, agreement.id, sealed)
            else:
                transfer.seal_archive(folder / "inputs.tar", agreement.encryption_key, agreement.id, sealed)
            transfer.upload(self._market, self._domain, agreement.id, slot, sealed)
            sizes[slot] = sealed.stat().st_size
            self._save(delivered=[*record.delivered, slot])
            sealed.unlink(missing_ok=True)
        (folder / "inputs.tar").unlink(missing_ok=True)
        total = format_bytes(sum(sizes.values()))
        self._tell("sent", f"{' and '.join(sizes)} sealed to the provider's key, {total}", sizes=sizes)

    def _tell_phases(self, events: list[wire.Event]) -> None:
        for event in events:
            if event.kind == "lease.phase":
                self._advance(str(event.data.get("phase", "")), str(event.data.get("reason", "")))

    def _advance(self, phase: str, reason: str) -> None:
        """Shows starting and running once each, in their order; ends come with the receipt alone."""
        if phase not in (Phase.STARTING, Phase.RUNNING) or self.record.phase not in _RANK:
            return
        if _RANK.index(Phase(phase)) > _RANK.index(Phase(self.record.phase)):
            self._save(phase=phase)
            text = {"starting": "the provider prepares the run", "running": "billing began"}[phase]
            self._tell(phase, text, reason=reason)

    # The receipt

    def _take_receipt(self, agreement: Agreement, already: str | None) -> None:
        """Checks the provider's claim in every figure, takes the outputs, and signs unless that is done `already`."""
        record, signed = self.record, self._market.receipt(agreement.id)
        job = JobDocument.parse(record.job) if record.job is not None else None
        claim = evidences.read_claim(agreement, signed, self._domain, job, int(time.time()))
        self.follow_log()
        if self._log is not None:
            evidences.check_log(claim.evidence, self._log.wait(claim.evidence.log.chunks, LOG_S))
        phase = _phase_of(claim)
        if record.evidence is None:
            self._tell(phase.value, _ended(claim), reason=claim.evidence.reason, exitCode=claim.evidence.exit_code)
        self._save(
            evidence=claim.evidence.to_json(),
            receipt=signed.receipt,
            receipt_signature=signed.signature,
            reason=claim.evidence.reason,
            unchecked=list(claim.unchecked),
        )
        self._take_outputs(agreement, claim)
        self._save(phase=phase.value)
        if already:
            self._save(countersignature=already)
        else:
            self._sign(agreement, claim)

    def _take_outputs(self, agreement: Agreement, claim: Claim) -> None:
        outputs = claim.evidence.outputs
        if outputs is None:
            return
        archive = transfer.fetch_outputs(
            lambda slot: self._market.get_blob(agreement.id, slot), outputs, self._signer, agreement.id, self._folder
        )
        into = self._output_dir
        files = transfer.unpack_outputs(archive, outputs, into or self._folder / "outputs")
        self._save(output_files=[file.to_json() for file in files], output_dir=str(into.resolve()) if into else "")
        if files:
            size = format_bytes(sum(file.size for file in files))
            noun = "file" if len(files) == 1 else "files"
            where = f" in {into}" if into else ""
            self._tell("received", f"{len(files)} {noun}, {size}, digests hold{where}", files=len(files))

    def _sign(self, agreement: Agreement, claim: Claim) -> None:
        """The consumer's signature, on the disk before it leaves."""
        evidence = claim.evidence
        signature = wire.to_hex(self._signer.sign(self._domain, claim.receipt))
        self._save(countersignature=signature)
        self._phase_began = time.time()
        self._tell(
            "signed",
            f"bill recomputed: {format_duration(evidence.billed_seconds)} at "
            f"{self._money(agreement.clauses.rate)}/h make {self._money(claim.receipt.amount)}",
            amount=str(claim.receipt.amount),
            billedSeconds=evidence.billed_seconds,
        )
        self._countersign(agreement)

    def _countersign(self, agreement: Agreement) -> None:
        body = wire.Countersignature(receipt=self.record.receipt or {}, signature=self.record.countersignature)
        self._market.countersign(agreement.id, body)

    # The end

    def _finish(self, agreement: Agreement, view: wire.LeaseView) -> None:
        """The market says settled: the chain must say closed, and no more was paid than was signed."""
        if not agreements.is_closed(agreement, self._network.escrow.seat):
            raise NotYetOnChainError("the escrow still holds the lease that the market calls settled")
        signed = (self.record.receipt or {}).get("amount")
        if signed is not None and view.paid != signed:
            raise IntegrityError(f"paid: the market says {view.paid}, you signed {signed}", hint="suanli audit all")
        self._save(phase=Phase.SETTLED.value, paid=view.paid, fee=view.fee, transaction=view.settled_transaction or "")
        self._tell(
            "settled",
            f"{self._money(int(view.paid))} to the provider, {self._money(int(view.fee))} to the market, the rest back",
            paid=view.paid,
            fee=view.fee,
            transaction=view.settled_transaction,
        )

    def _give_up(self, view: wire.LeaseView) -> None:
        self._save(
            phase=Phase.SETTLED.value,
            reason=self.record.reason or Reason.RELEASED.value,
            paid=view.paid,
            fee=view.fee,
            transaction=view.settled_transaction or "",
        )
        self._tell("failed", words(Reason.RELEASED), reason=Reason.RELEASED.value)


def _phase_of(claim: Claim) -> Phase:
    if claim.evidence.reason == Reason.OK:
        return Phase.SUCCEEDED
    return Phase.CANCELLED if claim.evidence.reason == Reason.STOPPED else Phase.FAILED


def _ended(claim: Claim) -> str:
    evidence = claim.evidence
    usage = evidence.usage
    ran = f"{usage.wall_ms / 1000:.2f} s, {usage.cpu_ms / 1000:.2f} s of processor, peak {usage.peak_memory_mib} MiB"
    code = f"exit code {evidence.exit_code}" if evidence.exit_code is not None else "it never ran"
    why = "" if evidence.reason in (Reason.OK, Reason.EXIT_NONZERO) else f"{words(evidence.reason)}; "
    return f"{why}{code}; {ran}" if usage.wall_ms else f"{why}{code}"


def _why(view: wire.BidView) -> str:
    return "; ".join(f"{item.offers} {item.detail or item.condition}" for item in view.rejections)


def adopt(view: wire.LeaseView, *, network: Network, agreement: Agreement, info: wire.MarketInfo) -> Record:
    """The record of a job that another machine submitted, as far as the papers behind `agreement` tell."""
    return Record(
        id=wire.to_hex(agreement.bid.seat),
        created_at=view.opened_at,
        market=network.config.require("market"),
        chain=network.config.require("chain"),
        chain_id=info.chain_id,
        escrow=info.escrow,
        genesis=info.genesis,
        symbol=info.symbol,
        decimals=info.decimals,
        bid=view.bid,
        bid_hash=wire.to_hex(agreement.clauses.bid),
        constraints=view.constraints,
        job_digest=view.job_digest,
        signature=view.bid_signature,
        lease=view.id,
        number=view.number,
        phase=Phase.LEASED.value,
        reason="",
        provider=agreement.offer.provider,
        attributes=view.attributes,
        unchecked=["the job document: it lies on the machine that submitted the job"],
    )


def reported(record: Record, view: wire.LeaseView) -> Record:
    """The record with the phase and sums that the market reports, unchecked."""
    phase = Phase.SETTLED.value if view.state in ("settled", "released") else view.phase or record.phase
    return replace(record, phase=phase, reason=view.reason, paid=view.paid, fee=view.fee)
