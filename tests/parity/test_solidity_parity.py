"""Solidity and Python say the same: hashes, arithmetic and words, on generated values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from suanli_protocol import lease
from suanli_protocol.capacity import GUARD, Lanes, Prices
from suanli_protocol.contract_abi import contract_abi
from suanli_protocol.lease import Clauses, Kind, Lease, Phase, Previous, Progress, Refusal
from suanli_protocol.messages import Bid, Link, Message, Offer, Receipt, Verdict, to_snake
from suanli_protocol.openings import struct_values
from suanli_protocol.signing import Domain, struct_hash, type_hash
from support.builders import CHAIN_ID
from support.evm import Probe
from support.strategies import ADDRESSES, WORDS, lane_words, structs, uints

GENERATED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("kind", [Offer, Bid, Receipt, Verdict, Link])
def test_type_hashes(probe: Probe, kind: type[Message]) -> None:
    name = kind.__name__.lower()
    assert probe(f"{name}TypeHash") == type_hash(kind)


@GENERATED
@given(paper=st.one_of(structs(Offer), structs(Bid), structs(Receipt), structs(Verdict), structs(Link)))
def test_struct_hashes_and_digests(probe: Probe, paper: Message) -> None:
    hashed = probe(f"hash{type(paper).__name__}", struct_values(paper))
    assert hashed == struct_hash(paper)
    assert probe("digest", hashed) == Domain(CHAIN_ID, probe.address).digest(paper)


def test_the_domain(probe: Probe) -> None:
    assert probe("domainSeparator") == Domain(CHAIN_ID, probe.address).separator


@GENERATED
@given(clauses=structs(Clauses), terms=structs(Lease))
def test_terms_hash_alike(probe: Probe, clauses: Clauses, terms: Lease) -> None:
    assert probe("hashClauses", struct_values(clauses)) == lease.clauses_hash(clauses)
    assert probe("hashLease", struct_values(terms)) == lease.lease_id(terms)


@GENERATED
@given(seat=WORDS, consumer=ADDRESSES, index=uints(16))
def test_seat_keys(probe: Probe, seat: bytes, consumer: str, index: int) -> None:
    assert probe("seatKey", seat, consumer, index) == lease.seat_key(seat, consumer, index)


@GENERATED
@given(clauses=structs(Clauses), spent=uints(96), cut=st.integers(0, 416))
def test_proofs_of_previous_attempts(probe: Probe, clauses: Clauses, spent: int, cut: int) -> None:
    previous = Previous(clauses, spent)
    proof = previous.encode()
    assert Previous.decode(proof) == previous
    assert probe("reopenableWord", lease.clauses_hash(clauses), spent) == previous.word
    assert probe("provenWord", proof) == previous.word
    assert lease.proves(proof, previous.word)
    assert probe("afterAttempt", proof) == lease.attempt_after(proof)
    if cut < len(proof):
        assert probe("provenWord", proof[:cut]) == bytes(32)
        assert not lease.proves(proof[:cut], previous.word)


PROGRESS = st.builds(Progress, uints(96), uints(96), uints(40), st.sampled_from(Phase), st.integers(0, 5))


@GENERATED
@given(progress=PROGRESS, id_=WORDS, amount=uints(96), clock=uints(40), by=st.booleans())
def test_progress_words(probe: Probe, progress: Progress, id_: bytes, amount: int, clock: int, by: bool) -> None:
    word = progress.pack()
    assert Progress.unpack(word) == progress
    parts = (progress.paid, progress.claimed, progress.clock, progress.phase, progress.kind, progress.by_consumer_side)
    assert probe("progressParts", word) == parts
    claimed = progress.claimed_by(amount, clock, Kind.FAILED)
    assert probe("progressClaimed", word, amount, clock, Kind.FAILED) == claimed.pack()
    disputed = replace(claimed, clock=progress.clock, phase=Phase.DISPUTED)
    assert probe("progressDisputed", claimed.pack(), progress.clock) == disputed.pack()
    assert probe("leaseWord", id_, word) == lease.seat_word(id_, progress)
    assert Progress.unpack(probe("progressWithPaid", word, amount)).paid == amount
    stopped = Progress.unpack(probe("progressStopped", Progress(paid=amount).pack(), clock, by))
    assert stopped == Progress(amount, 0, clock, Phase.STOPPED, lease.BY_CONSUMER_SIDE if by else 0)


@GENERATED
@given(need=lane_words(), prices=uints(256))
def test_asks(probe: Probe, need: int, prices: int) -> None:
    assert probe("askUp", need, prices) == Prices.unpack(prices).ask_up(Lanes.unpack(need))


@GENERATED
@given(amount=uints(96), seconds=uints(32), bps=uints(16), bond=uints(96))
def test_arithmetic(probe: Probe, amount: int, seconds: int, bps: int, bond: int) -> None:
    assert probe("priceUp", amount, seconds) == lease.price_up(amount, seconds)
    assert probe("feeDown", amount, bps) == lease.fee_down(amount, bps)
    assert probe("stakeDown", amount) == lease.stake_down(amount)
    assert probe("depositOf", amount, bps) == lease.deposit_of(amount, bps)
    assert probe("bondDown", amount, bps) == lease.bond_down(amount, bps)
    assert probe("earnedDown", amount, seconds) == lease.earned_down(amount, seconds)
    awarded, claimed = bond % (amount + 1), max(amount, bond)
    assert probe("disputeCosts", amount, awarded) == lease.dispute_costs(amount, awarded)
    assert probe("silenceDown", min(amount, bond), claimed) == lease.silence_down(min(amount, bond), claimed)
    assert probe("penaltyDown", amount, seconds, bond) == lease.penalty_down(amount, seconds, bond)


@GENERATED
@given(capacity=lane_words(), used=lane_words(), need=lane_words())
def test_lanes(probe: Probe, capacity: int, used: int, need: int) -> None:
    assert probe("lanesValid", capacity) == (capacity & GUARD == 0)
    if not (capacity | used | need) & GUARD:
        covers = Lanes.unpack(capacity).covers(Lanes.unpack(used) + Lanes.unpack(need))
        assert probe("lanesFit", capacity, used, need) == covers


def test_the_abi_names_the_papers_fields_as_python_does() -> None:
    """Opening and Fill are written by hand in openings.py; the structs within are not."""
    abi = contract_abi("LeaseEscrow")
    names = {"open", "settle", "stop", "release", "claim", "dispute", "resolve", "finalize", "reclaim"}
    assert names | {"deposit", "withdraw", "link", "bump", "cancel"} <= set(abi.selectors)
    assert to_snake("validUntil") == "valid_until"


def test_refusals_are_numbered_as_in_the_interface() -> None:
    source = Path(__file__).parents[2] / "contracts" / "interfaces" / "ILeaseEscrow.sol"
    body = source.read_text().split("enum Refusal {")[1].split("}")[0]
    lines = [line.split("//")[0].strip(" ,\n") for line in body.splitlines()]
    names = [to_snake(name[0].lower() + name[1:]).upper() for name in lines if name]
    assert names == [code.name for code in Refusal]
