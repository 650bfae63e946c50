"""Ways out over any state and second: what is said to be possible is, states go forward, either side ends it alone."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import event, given, settings
from hypothesis import strategies as st

from suanli_protocol.errors import ProtocolError
from suanli_protocol.lease import (
    BY_CONSUMER_SIDE,
    Change,
    Claim,
    Dispute,
    Finalize,
    Kind,
    Phase,
    Progress,
    Reclaim,
    Release,
    Resolve,
    Settle,
    State,
    Status,
    Stop,
    apply,
    most_claimable,
    silence_down,
    terms,
)
from suanli_protocol.messages import Bid, Offer
from suanli_protocol.ways_out import allowed, claim_until, dispute_until, finalize_from, reclaim_from, resolve_until
from support.builders import NOW
from support.strategies import changes, edges, matching_papers, moments

THOROUGH = settings(max_examples=150, deadline=None)
OPPOSITES = ({"claim", "reclaim"}, {"release", "reclaim"}, {"dispute", "finalize"}, {"resolve", "finalize"})
ORDER = [Status.OPEN, Status.STOPPED, Status.CLAIMED, Status.DISPUTED]


@st.composite
def states(draw: st.DrawFn) -> State:
    """Any state that a lease can be in; closed ones now and then."""
    bid, offer, rate = draw(matching_papers())
    state = State(*terms(bid, offer, rate=rate, opened_at=NOW))
    phase = draw(st.sampled_from(Phase))
    paid = draw(st.integers(0, state.lease.price))
    claimed = draw(st.integers(paid, state.lease.price)) if phase >= Phase.CLAIMED else 0
    last = state.clauses.ends_at + (4 * state.clauses.window if phase >= Phase.CLAIMED else 0)
    clock = draw(st.integers(NOW, last)) if phase is not Phase.RUNNING else 0
    flags = draw(st.sampled_from([0, BY_CONSUMER_SIDE])) if phase is not Phase.RUNNING else 0
    kind = draw(st.sampled_from([Kind.DONE, Kind.FAILED])) if phase >= Phase.CLAIMED else Kind.INTERIM
    closed = draw(st.sampled_from(list(Status)[len(ORDER) :])) if draw(st.integers(0, 9)) == 0 else None
    return replace(state, progress=Progress(paid, claimed, clock, phase, flags | kind << 1), closed=closed)


def possible(state: State, change: Change, now: int) -> bool:
    try:
        apply(state, change, now)
    except ProtocolError:
        return False
    return True


def harmless(state: State) -> dict[str, Change]:
    """Of each change the one whose amounts are always allowed: only the phase and the time decide."""
    paid = state.progress.paid
    return {
        "settle": Settle(paid, Kind.DONE),
        "stop": Stop(by_consumer_side=True),
        "release": Release(),
        "claim": Claim(paid, Kind.FAILED),
        "dispute": Dispute(),
        "resolve": Resolve(paid, 0),
        "finalize": Finalize(),
        "reclaim": Reclaim(),
    }


@THOROUGH
@given(state=states(), data=st.data())
def test_allowed_is_what_apply_accepts(state: State, data: st.DataObject) -> None:
    now = data.draw(moments(state, NOW))
    ways = {way.change: way for way in allowed(state, now)}
    event(" ".join(ways))
    assert {name for name, change in harmless(state).items() if possible(state, change, now)} == set(ways)
    assert len(ways) == len(allowed(state, now))
    for name, way in ways.items():
        if way.until is not None:
            assert now < way.until
            assert possible(state, harmless(state)[name], way.until - 1)
            assert not possible(state, harmless(state)[name], way.until)


@THOROUGH
@given(state=states(), data=st.data())
def test_the_windows_are_the_edges_of_what_is_possible(state: State, data: st.DataObject) -> None:
    changes_of = harmless(state)
    untils = {"claim": claim_until, "release": claim_until, "dispute": dispute_until, "resolve": resolve_until}
    for name, until in untils.items():
        now, end = data.draw(moments(state, NOW)), until(state)
        assert possible(state, changes_of[name], now) == (end is not None and now < end)
    for name, since in (("reclaim", reclaim_from), ("finalize", finalize_from)):
        now, start = data.draw(moments(state, NOW)), since(state)
        assert possible(state, changes_of[name], now) == (start is not None and now >= start)


@THOROUGH
@given(state=states(), data=st.data())
def test_no_two_opposite_ways_are_open_together_and_one_always_will_be(state: State, data: st.DataObject) -> None:
    now = data.draw(moments(state, NOW))
    ways = {way.change for way in allowed(state, now)}
    assert not any(pair <= ways for pair in OPPOSITES)
    if not state.is_open:
        assert not ways
        return
    late = max(edges(state))
    assert {"finalize", "reclaim"} & {way.change for way in allowed(state, late)}, "nothing is locked for ever"


@THOROUGH
@given(papers=matching_papers(), data=st.data())
def test_states_only_go_forward(papers: tuple[Bid, Offer, int], data: st.DataObject) -> None:
    state, now = State(*terms(papers[0], papers[1], rate=papers[2], opened_at=NOW)), NOW
    for _ in range(data.draw(st.integers(1, 12))):
        now = data.draw(moments(state, now))
        change = data.draw(changes(state, now))
        try:
            after, _ = apply(state, change, now)
        except ProtocolError:
            continue
        assert type(change).__name__.lower() in {way.change for way in allowed(state, now)}
        if after.is_open:
            moves_on = not isinstance(change, Settle)
            assert ORDER.index(after.status) >= ORDER.index(state.status) + moves_on
            assert after.progress.paid >= state.progress.paid
            assert after.need in (0, state.need)
        else:
            assert (after.need, after.locked, allowed(after, now)) == (0, 0, [])
            return
        state = after


@THOROUGH
@given(state=states().filter(lambda state: state.is_open), data=st.data())
def test_a_provider_alone_ends_it_with_its_due(state: State, data: st.DataObject) -> None:
    """It claims, waits and finalizes; where it came too late for that it reclaims and loses its bond. Nobody else."""
    now = data.draw(moments(state, max(NOW, state.progress.clock)))
    due = state.progress.claimed
    until = claim_until(state)
    if until is not None and now < until:
        due = most_claimable(state, now)
        state, _ = apply(state, Claim(due, Kind.DONE), now)
    elif until is not None:
        closed, split = apply(state, Reclaim(), now)
        assert (closed.progress.paid, split.to_provider, split.bond_back) == (state.progress.paid, 0, 0)
        return
    silent = state.progress.phase is Phase.DISPUTED
    start = finalize_from(state)
    assert start is not None
    closed, split = apply(state, Finalize(), max(now, start))
    assert closed.progress.paid == (silence_down(state.progress.paid, due) if silent else due)
    assert (split.bond_back, split.penalty) == (state.lease.bond, 0)
    assert split.total == state.locked


@THOROUGH
@given(state=states().filter(lambda state: state.is_open), data=st.data())
def test_a_consumer_alone_ends_it_and_pays_no_more_than_the_claim(state: State, data: st.DataObject) -> None:
    """It stops, disputes, waits, and then reclaims or finalizes. Nobody else acts."""
    now = data.draw(moments(state, max(NOW, state.progress.clock)))
    if state.progress.phase is Phase.RUNNING:
        state, _ = apply(state, Stop(by_consumer_side=True), now)
    start = reclaim_from(state)
    if start is not None:
        closed, split = apply(state, Reclaim(), max(now, start))
        assert split.to_consumer + split.penalty == state.locked
        assert closed.progress.paid == state.progress.paid
        return
    until = dispute_until(state)
    if until is not None and now < until:
        state, _ = apply(state, Dispute(), now)
    start = finalize_from(state)
    assert start is not None
    closed, split = apply(state, Finalize(), max(now, start))
    halved = silence_down(state.progress.paid, state.progress.claimed)
    assert closed.progress.paid == (halved if state.progress.phase is Phase.DISPUTED else state.progress.claimed)
    assert split.to_consumer == state.lease.deposit - closed.spent
