"""Whatever a provider signs, the consumer adds its signature to no second that the chain's clock does not give."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import event, given, settings
from hypothesis import strategies as st

from suanli.session.agreement import read_agreement
from suanli.session.evidence import read_claim
from suanli_protocol.errors import IntegrityError
from suanli_protocol.lease import State, most_claimable
from suanli_protocol.lease_terms import Phase, Progress
from suanli_protocol.reasons import Reason
from support import builders
from support.leases import an_opened_lease
from support.receipts import an_evidence, signed

DOMAIN = builders.a_domain()
OPENED = an_opened_lease(job=builders.a_job(billing="capacity"))
AGREEMENT = read_agreement(OPENED.view, DOMAIN, builders.consumer().address)
CLAUSES = OPENED.clauses


@settings(max_examples=300, deadline=None)
@given(
    wall_ms=st.integers(0, 2 * CLAUSES.max_seconds * 1000),
    stop=st.integers(CLAUSES.opened_at, CLAUSES.ends_at),
    started=st.integers(0, 100),
    late=st.integers(0, 10**6),
    reason=st.sampled_from([Reason.OK, Reason.STOPPED, Reason.TIMEOUT, Reason.WORKER_LOST]),
)
def test_no_second_after_the_proven_clock_is_countersigned(
    wall_ms: int, stop: int, started: int, late: int, reason: Reason
) -> None:
    began = CLAUSES.opened_at + started
    ended = began + wall_ms // 1000 + 1
    evidence = an_evidence(
        OPENED,
        usage=builders.some_usage(wall_ms=wall_ms),
        reason=reason.value,
        exit_code=0 if reason == Reason.OK else None,
        started_at=began,
        ended_at=ended,
    )
    if reason == Reason.WORKER_LOST:
        evidence = evidence.model_copy(update={"amount": "0"})
    with suppress(IntegrityError):
        claim = read_claim(AGREEMENT, signed(evidence), DOMAIN, OPENED.job, ended + late, stop)
        event("countersigned")
        paid = claim.receipt.amount
        state = State(OPENED.lease, CLAUSES, Progress(clock=stop, phase=Phase.STOPPED))
        assert paid <= most_claimable(state, ended + late)
        assert not paid or claim.evidence.billed_seconds <= max(CLAUSES.min_seconds, stop - CLAUSES.opened_at)


@settings(max_examples=200, deadline=None)
@given(stop=st.integers(CLAUSES.opened_at, CLAUSES.ends_at), started=st.integers(0, 100))
def test_an_honest_run_that_is_cut_at_the_stop_is_countersigned(stop: int, started: int) -> None:
    began = CLAUSES.opened_at + started
    wall_ms = max(0, stop - began) * 1000
    evidence = an_evidence(
        OPENED,
        usage=builders.some_usage(wall_ms=wall_ms),
        reason=Reason.STOPPED.value,
        exit_code=None,
        started_at=began,
        ended_at=max(stop, began) + 1,
    )
    claim = read_claim(AGREEMENT, signed(evidence), DOMAIN, OPENED.job, max(stop, began) + 2, stop)
    assert claim.evidence == evidence
