"""Papers and bodies as JSON: strict in what is read, stable in what is written."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from suanli_protocol import wire
from suanli_protocol.errors import ProtocolError
from suanli_protocol.messages import Bid, Offer
from support import builders


def test_wide_integers_travel_as_text_and_narrow_ones_as_numbers() -> None:
    json = wire.paper_to_json(builders.a_bid())
    assert json["need"] == str(builders.a_bid().need)
    assert json["maxSeconds"] == 3600
    assert json["validUntil"] == str(builders.NOW + 600)
    assert json["seat"] == "0x" + builders.a_seat(0).hex()
    assert json["gang"] is False
    assert list(json)[:3] == ["consumer", "market", "guard"]


@pytest.mark.parametrize("paper", [builders.a_bid(), builders.an_offer(), builders.a_receipt()])
def test_papers_survive(paper: Any) -> None:
    assert wire.paper_from_json(type(paper), wire.paper_to_json(paper)) == paper


BAD = {
    "need": [1, "-1", "01", "1.0", "1e3", "", " 1", "1\n", str(2**128), "9" * 79, None, True, "0x1", "١"],
    "maxSeconds": ["1", -1, 2**32, 1.0, True, None],
    "gang": [0, "false", None],
    "seat": [
        "0x",
        "00" * 32,
        "0x" + "00" * 31,
        "0x" + "00" * 33,
        "0x" + "AA" * 32,
        "0x" + "zz" * 32,
        5,
        "0x" + "00" * 32 + "\n",
    ],
    "consumer": ["0x0", 5, None, "x" * 42, "0x" + "ab" * 20 + " "],
}


@pytest.mark.parametrize(("member", "value"), [(member, value) for member, values in BAD.items() for value in values])
def test_a_wrong_member_is_named(member: str, value: object) -> None:
    with pytest.raises(ProtocolError, match=member):
        wire.paper_from_json(Bid, wire.paper_to_json(builders.a_bid()) | {member: value})


def test_unknown_and_missing_members_are_named() -> None:
    json = wire.paper_to_json(builders.an_offer())
    with pytest.raises(ProtocolError, match="colour"):
        wire.paper_from_json(Offer, json | {"colour": 1})
    del json["prices"]
    with pytest.raises(ProtocolError, match="prices"):
        wire.paper_from_json(Offer, json)
    nothing: object
    for nothing in (None, [], "offer", 5):
        with pytest.raises(ProtocolError):
            wire.paper_from_json(Offer, nothing)


def test_an_address_of_wrong_checksum_is_a_typing_error() -> None:
    right = builders.consumer().address
    assert wire.read_address(right.lower()) == right
    wrong = right[:2] + right[2:].swapcase()
    with pytest.raises(ProtocolError) as refused:
        wire.read_address(wrong)
    assert right in refused.value.hint


def test_bodies_refuse_what_they_do_not_know() -> None:
    body = wire.LogPage(chunks=[wire.LogChunk(seq=0, data="0x00")], complete=True).to_json()
    assert wire.LogPage.model_validate(body).chunks[0].seq == 0
    with pytest.raises(ValidationError):
        wire.LogPage.model_validate(body | {"more": 1})
    with pytest.raises(ValidationError):
        wire.LogChunk(seq=2**63, data="0x")
    with pytest.raises(ValidationError):
        wire.LogChunk(seq=0, data="0xabc")


def test_hex() -> None:
    assert wire.from_hex(wire.to_hex(b"\x00\xff")) == b"\x00\xff"
    for text in ("ff", "0xF0", "0xf", "0x f", "0xff\n"):
        with pytest.raises(ProtocolError):
            wire.from_hex(text)
