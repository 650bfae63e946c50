"""Admission: one thread takes what has queued up, checks it, and commits it as one group with one signed head.

While one group is written, the next one gathers; when many come at once, a moment more is given to those on their way,
so that they share the price of a commit. Every write is answered by its entry of the log; the same paper again gets the
same answer.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select

from suanli_market.admission import checks, intake
from suanli_market.admission.crowding import Crowding
from suanli_market.admission.log import AdmissionLog, Line, Tip, tip_of
from suanli_market.admission.papers import BidPaper, OfferPaper
from suanli_market.admission.refusals import Refusals, TooManyRefusedError
from suanli_market.admission.submissions import Outcome, RefusedError, RefusedReceipt, Submission, Withdrawal
from suanli_market.clearing.book import Change, Entered, Left
from suanli_market.clearing.conditions import StandingBid, StandingOffer
from suanli_market.clearing.keeper import Keeper
from suanli_market.clearing.shortfall import least_deposit
from suanli_market.events import now_ms
from suanli_market.store import Store, follow
from suanli_market.tables import BidRow
from suanli_protocol import faults, wire
from suanli_protocol.buckets import Buckets
from suanli_protocol.errors import SuanliError
from suanli_protocol.lease import Account, Refusal
from suanli_protocol.log import EntryKind, ReasonCode

GROUP_MAX = 500
GATHERED_MIN = 64  # a group of so many pays for its commit
GATHER_S = 0.001  # for more to come; given only after a group of more than one, and again while more come
QUEUE_MAX = 10_000

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Job:
    submission: Submission
    sender: str
    future: asyncio.Future[wire.Json]
    loop: asyncio.AbstractEventLoop
    outcome: Outcome | None = None
    line: Line | None = None
    doubt: checks.Doubt | None = None


class QueueFullError(SuanliError):
    """More writes wait than the market takes on."""

    code, title, http_status, retryable = "busy", "The market is busy", 503, True


class TooManyPapersError(SuanliError):
    """A party sends new papers faster than the log takes them from one party."""

    code, title, http_status, retryable = "too_many_requests", "Too many requests", 429, True


class Admission:
    """The only writer of the admission log."""

    def __init__(
        self,
        store: Store,
        keeper: Keeper,
        log_: AdmissionLog,
        terms: checks.MarketTerms,
        *,
        catch_up: Callable[[], None],
        papers: Buckets | None = None,
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._log = log_
        self._terms = terms
        self._catch_up = catch_up
        self._refusals = Refusals()
        self._crowding = Crowding(keeper, terms)
        self._papers = papers
        self._tip: Tip | None = None  # None: to be read from the tables
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="admission", daemon=True)

    def start(self) -> None:
        """Begins to take submissions."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after what is queued."""
        self._queue.put(None)
        self._thread.join(timeout=10)

    def waiting(self) -> int:
        """How many submissions are queued."""
        return self._queue.qsize()

    async def submit(self, submission: Submission, sender: str = "") -> wire.Json:
        """The acknowledgement, once it is on the disk; RefusedError with the logged reason; other SuanliErrors.

        `sender` is the network address that it came from: what is refused counts against it.
        """
        if self._queue.qsize() >= QUEUE_MAX:
            raise QueueFullError(f"{QUEUE_MAX} writes are waiting", hint="try again in a second")
        loop = asyncio.get_running_loop()
        job = _Job(submission, sender, loop.create_future(), loop)
        self._queue.put(job)
        return await job.future

    def _run(self) -> None:
        ended, crowded = False, False
        while not ended and (first := self._queue.get()) is not None:
            jobs = [first]
            ended = self._take(jobs)
            while crowded and not ended and len(jobs) < GATHERED_MIN:
                had = len(jobs)
                time.sleep(GATHER_S)
                ended = self._take(jobs)
                if len(jobs) == had:
                    break
            self._process(jobs)
            crowded = len(jobs) > 1

    def _take(self, jobs: list[_Job]) -> bool:
        """Adds what has queued up; whether that is the end."""
        while len(jobs) < GROUP_MAX and not self._queue.empty():
            following = self._queue.get()
            if following is None:
                return True
            jobs.append(following)
        return False

    def _process(self, jobs: list[_Job]) -> None:
        try:
            self._tip = self._admit(jobs)
        except Exception as error:
            if not isinstance(error, SuanliError):
                log.exception("a group of %d submissions failed", len(jobs))
            for job in jobs:
                job.outcome = error
            self._tip = None  # whether the group is on the disk is read again
        _resolve(jobs)

    def _admit(self, jobs: list[_Job]) -> Tip:
        """One group: judged outside the transaction, numbered and written inside it."""
        past = self._past(jobs)
        self._judge([job for job in jobs if past.admitted(job.submission) is None])
        with self._store.write() as session:
            tip = self._tip or tip_of(session)
            fresh: dict[tuple[EntryKind, bytes, int], list[_Job]] = {}
            for job in jobs:
                self._settle_outcome(session, job, past, fresh)
            lines = [waiting[0].line for waiting in fresh.values()]
            changes, tip = self._write(session, tip, [line for line in lines if line is not None], [*fresh.values()])
            follow(session, lambda: self._apply(changes, tip))
        return tip

    def _apply(self, changes: list[Change], tip: Tip) -> None:
        """The book follows its tables before anything else is written: who loads it anew misses nothing."""
        faults.reach("market.admission.committed")
        self._keeper.apply(changes, last_seq=tip.seq)
        faults.reach("market.admission.applied")

    def _past(self, jobs: Sequence[_Job]) -> intake.Past:
        with self._store.read() as session:
            return intake.Past.of(session, [job.submission.id for job in jobs], self._terms.address)

    def _judge(self, jobs: Sequence[_Job]) -> None:
        """Sets each paper's doubt. Only of those whose signature holds the chain is asked, of all together.

        Before the chain's facts refuse one, the newest block is looked at.
        """
        papers = [job for job in jobs if isinstance(job.submission, OfferPaper | BidPaper)]
        now = self._keeper.now()
        self._crowding.begin()
        for job in papers:
            job.doubt = self._own_doubt(job.submission, now)
        sound = [job for job in papers if job.doubt is None]
        self._judge_by_accounts(sound)
        doubtful = [job for job in sound if job.doubt is not None and job.doubt.code in checks.CHAIN_REASONS]
        if doubtful:
            self._catch_up()
            self._judge_by_accounts(doubtful)

    def _own_doubt(self, submission: Submission, now: int) -> checks.Doubt | None:
        match submission:
            case OfferPaper() as offer:
                return next(checks.doubts_of_offer(offer, self._terms, now), None)
            case BidPaper() as bid:
                return next(checks.doubts_of_bid(bid, self._terms, now), None)
            case _:
                return None

    def _judge_by_accounts(self, papers: Sequence[_Job]) -> None:
        accounts = self._keeper.accounts.get({job.submission.party for job in papers})
        for job in papers:
            account = accounts[job.submission.party]
            match job.submission:
                case OfferPaper() as offer:
                    job.doubt = next(checks.account_doubts_of_offer(offer, account), None)
                case BidPaper() as bid:
                    job.doubt = next(checks.account_doubts_of_bid(bid, account), None)
                    job.doubt = job.doubt or self._funds_doubt(bid, account)
            job.doubt = job.doubt or self._crowding.doubt(job.submission.party, account)

    def _funds_doubt(self, bid: BidPaper, account: Account) -> checks.Doubt | None:
        needed = least_deposit(bid.standing(0), self._keeper.view([bid.party]))
        if needed is None:
            return None
        detail = f"the cheapest offer that would do locks {needed} base units, the account has {account.free} free"
        return checks.Doubt(Refusal.CONSUMER_FUNDS, detail, f"deposit at least {needed - account.free} more")

    def _settle_outcome(
        self,
        session: Session,
        job: _Job,
        past: intake.Past,
        fresh: dict[tuple[EntryKind, bytes, int], list[_Job]],
    ) -> None:
        """Answers the job from the past, or gives it a line; jobs with the same line share it."""
        known = past.admitted(job.submission)
        if known is not None:
            job.outcome = known
            return
        try:
            job.line, job.doubt = self._line_of(session, job)
        except SuanliError as error:
            job.outcome = error
            return
        again = past.same(job.line)
        if again is not None:
            job.outcome = _outcome_of(job, again)
            return
        key = (job.line.kind, job.line.paper, job.line.reason)
        if key not in fresh and job.doubt is not None and not self._refusals.take(job.sender, time.monotonic()):
            job.outcome = _too_many(job.doubt)
            return
        if key not in fresh and job.doubt is None and not self._may_enter(job.submission):
            job.outcome = TooManyPapersError(
                f"account {job.submission.party} sends new papers too fast", hint="send fewer a second"
            )
            return
        fresh.setdefault(key, []).append(job)

    def _may_enter(self, submission: Submission) -> bool:
        """Whether one more paper of this party, whose signature holds, may enter now; counts it if so."""
        if self._papers is None or not isinstance(submission, OfferPaper | BidPaper):
            return True
        return self._papers.take(submission.party, time.monotonic()) == 0

    def _line_of(self, session: Session, job: _Job) -> tuple[Line, checks.Doubt | None]:
        submission = job.submission
        match submission:
            case Withdrawal():
                return intake.withdrawal_line(session, submission), None
            case RefusedReceipt():
                return submission.line, submission.doubt
            case BidPaper() if job.doubt is None and _seat_is_leased(session, submission):
                job.doubt = checks.Doubt(
                    Refusal.SEAT_TAKEN, "a lease of this seat exists", "a new job needs a new seat"
                )
        if job.doubt is not None:
            return Line(EntryKind.REFUSE, submission.id, job.doubt.code, job.doubt.detail), job.doubt
        return Line(EntryKind.OFFER if isinstance(submission, OfferPaper) else EntryKind.BID, submission.id), None

    def _write(
        self, session: Session, tip: Tip, lines: list[Line], groups: list[list[_Job]]
    ) -> tuple[list[Change], Tip]:
        leaving = intake.leave(session, self._crowding.leaving())
        if not lines and not leaving:
            return [], tip
        at, now = now_ms(), self._keeper.now()
        evicted = [Line(EntryKind.WITHDRAW, id_, ReasonCode.BOOK_FULL) for id_ in leaving]
        tip, acks = self._log.append(session, tip, [*lines, *evicted], at)
        changes: list[Change] = [Left(id_) for id_ in leaving]
        admitted: list[tuple[Submission, int]] = []
        for ack, jobs in zip(acks, groups, strict=False):  # then come those that left
            for job in jobs:
                job.outcome = _outcome_of(job, ack)
            submission = jobs[0].submission
            if jobs[0].doubt is not None:
                continue
            seq = int(ack["entry"]["seq"])
            if isinstance(submission, OfferPaper | BidPaper):
                admitted.append((submission, seq))
                changes.append(Entered(_standing(submission, seq, now)))
            elif isinstance(submission, Withdrawal):
                changes.append(intake.withdraw(session, submission))
        intake.insert_papers(session, admitted, at, now)
        return changes, tip


def _standing(paper: OfferPaper | BidPaper, seq: int, now: int) -> StandingOffer | StandingBid:
    return paper.standing(seq, now) if isinstance(paper, BidPaper) else paper.standing(seq)


def _seat_is_leased(session: Session, bid: BidPaper) -> bool:
    seat = wire.to_hex(bid.paper.seat)
    query = select(BidRow.id).where(
        BidRow.seat == seat, BidRow.consumer == bid.party, col(BidRow.state).in_(("leased",))
    )
    return session.exec(query).first() is not None


def _too_many(doubt: checks.Doubt) -> TooManyRefusedError:
    return TooManyRefusedError(
        f"{doubt.detail}; so many papers from this address were refused that this refusal is not logged",
        hint="mend what the refusals say; one more is logged each second",
    )


def _outcome_of(job: _Job, ack: wire.Json) -> Outcome:
    if job.doubt is None:
        return ack
    return RefusedError(job.doubt.as_error(), checks.reason_name(job.doubt.code), ack)


def _resolve(jobs: Sequence[_Job]) -> None:
    """Answers all jobs with one wake-up of each event loop."""

    def deliver(mine: list[_Job]) -> None:
        for job in mine:
            if job.future.done():
                continue
            if isinstance(job.outcome, Exception):
                job.future.set_exception(job.outcome)
            elif job.outcome is not None:
                job.future.set_result(job.outcome)

    loops: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in jobs:
        loops.setdefault(job.loop, []).append(job)
    for loop, mine in loops.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(deliver, mine)
