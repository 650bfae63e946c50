"""Any paper survives JSON and calldata; no hostile input raises anything but a ProtocolError."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from suanli_protocol import wire
from suanli_protocol.documents import JobDocument
from suanli_protocol.errors import ProtocolError
from suanli_protocol.lease import Lease, Progress
from suanli_protocol.messages import Bid, Delivered, Entry, Head, Link, Match, Message, Offer, Receipt, Request, Round
from suanli_protocol.openings import (
    Fill,
    Opening,
    Openings,
    Settlement,
    decode_open,
    decode_settle,
    encode_open,
    encode_settle,
)
from support import builders
from support.strategies import WORDS, structs, uints

PAPERS = st.one_of(
    *(structs(kind) for kind in (Offer, Bid, Receipt, Link, Request, Entry, Head, Round, Match, Delivered))
)
SIGNATURES = st.binary(min_size=64, max_size=64)
FILLS = st.builds(Fill, structs(Offer), SIGNATURES, uints(96), uints(16), st.binary(max_size=80))
OPENINGS = st.lists(st.builds(Opening, structs(Bid), SIGNATURES, st.lists(FILLS, max_size=3).map(tuple)), max_size=3)
SETTLEMENTS = st.lists(
    st.builds(
        Settlement, structs(Lease), st.builds(Progress, uints(96)), uints(96), uints(8), WORDS, SIGNATURES, SIGNATURES
    ),
    max_size=3,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=10), below, max_size=4),
    max_leaves=20,
)
SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@SLOW
@given(paper=PAPERS)
def test_papers_survive_json(paper: Message) -> None:
    text = json.dumps(wire.paper_to_json(paper))
    assert wire.paper_from_json(type(paper), json.loads(text)) == paper


@SLOW
@given(data=st.data())
def test_a_changed_member_changes_the_paper_or_is_refused(data: st.DataObject) -> None:
    good = wire.paper_to_json(builders.a_bid())
    member = data.draw(st.sampled_from(sorted(good)))
    bad = good | {member: data.draw(JSON)}
    try:
        paper = wire.paper_from_json(Bid, bad)
    except ProtocolError as error:
        if member not in error.detail:
            raise AssertionError(f"{error.detail} does not name {member}") from error
        return
    assert (paper == builders.a_bid()) == (wire.paper_to_json(paper) == good)


@SLOW
@given(value=JSON)
def test_no_json_breaks_the_readers(value: Any) -> None:
    for read in (lambda: wire.paper_from_json(Offer, value), lambda: JobDocument.parse(json.dumps(value).encode())):
        try:
            read()
        except ProtocolError:
            continue
        raise AssertionError("that was no paper")


@SLOW
@given(head=WORDS, openings=OPENINGS)
def test_openings_survive_calldata(head: bytes, openings: list[Opening]) -> None:
    assert decode_open(encode_open(head, openings)) == Openings(head, tuple(openings))


@SLOW
@given(settlements=SETTLEMENTS)
def test_settlements_survive_calldata(settlements: list[Settlement]) -> None:
    assert decode_settle(encode_settle(settlements)) == tuple(settlements)


def an_opening() -> bytes:
    """Calldata of one honest opening."""
    fill = Fill(builders.an_offer(), b"\x01" * 64, 40_000)
    return encode_open(bytes(32), [Opening(builders.a_bid(), b"\x02" * 64, (fill, fill))])


def a_settlement() -> bytes:
    """Calldata of one honest settlement."""
    state = builders.a_state()
    return encode_settle([Settlement(state.lease, Progress(), 5, 1, bytes(32), b"\x01" * 64, b"\x02" * 64)])


@settings(SLOW, max_examples=400)
@given(data=st.data())
def test_no_calldata_breaks_the_decoders(data: st.DataObject) -> None:
    """Honest calldata with words overwritten, cut or lengthened: papers come out, or a ProtocolError."""
    call = data.draw(st.sampled_from([(decode_open, an_opening()), (decode_settle, a_settlement())]))
    decode, calldata = call
    words = bytearray(calldata)
    for _ in range(data.draw(st.integers(0, 3))):
        at = 4 + 32 * data.draw(st.integers(0, (len(words) - 36) // 32))
        words[at : at + 32] = data.draw(uints(256) | uints(12).map(lambda n: n * 32)).to_bytes(32, "big")
    cut = data.draw(st.integers(0, 3))
    hostile = bytes(words)[: -data.draw(st.integers(1, len(words)))] if cut == 0 else bytes(words)
    try:
        decode(hostile + data.draw(st.binary(max_size=40)))
    except ProtocolError:
        return


@given(noise=st.binary(max_size=300))
def test_noise_is_no_call(noise: bytes) -> None:
    for decode in (decode_open, decode_settle):
        for calldata in (noise, an_opening()[:4] + noise, a_settlement()[:4] + noise):
            try:
                assert not getattr(decode(calldata), "openings", ())
            except ProtocolError:
                continue


def test_calldata_that_unfolds_without_end_is_refused_before_it_is_decoded() -> None:
    """Ten thousand offsets to one opening with ten thousand offsets to one fill would be 10^8 fills."""
    count = 10_000

    def word(n: int) -> bytes:
        return n.to_bytes(32, "big")

    opening = bytes(32 * 21) + word(32 * 22) + word(count)
    opening += b"".join(word(32 * count) for _ in range(count)) + bytes(32 * 18)
    calldata = an_opening()[:4] + bytes(32) + word(64) + word(count) + word(32 * count) * count + opening
    with pytest.raises(ProtocolError, match="more"):
        decode_open(calldata)
