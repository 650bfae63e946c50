"""Attributes are parsed once for all offers that say the same; no document is taken for another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from suanli_market.admission import papers
from suanli_market.admission.checks import MarketTerms, doubts_of_offer
from suanli_market.admission.papers import KNOWN_CHARACTERS_MAX, KNOWN_MAX, read_offer
from suanli_protocol import wire
from suanli_protocol.errors import ProtocolError
from suanli_protocol.log import ReasonCode
from support.builders import NOW, a_domain, an_offer, market, provider, some_attributes


@pytest.fixture(autouse=True)
def known() -> Iterator[Any]:
    papers._known_attributes.cache_clear()
    yield papers._known_attributes
    papers._known_attributes.cache_clear()


def posted(document: wire.Json, **fields: Any) -> wire.SignedOffer:
    offer = an_offer(**fields)
    return wire.SignedOffer(
        offer=wire.paper_to_json(offer),
        signature=wire.to_hex(provider().sign(a_domain(), offer)),
        attributes=document,
    )


def test_the_same_document_is_parsed_once(known: Any) -> None:
    document = some_attributes().to_json()
    first, second = (read_offer(posted(json.loads(json.dumps(document)), counter=n)) for n in range(2))
    assert first.attributes is second.attributes
    assert first.document == second.document == some_attributes().canonical()
    assert (known.cache_info().misses, known.cache_info().hits) == (1, 1)


def test_another_document_is_another(known: Any) -> None:
    document = some_attributes().to_json()
    other = some_attributes(region="DE").to_json()
    assert read_offer(posted(document)).attributes.region == some_attributes().region
    assert read_offer(posted(other)).attributes.region == "DE"
    reordered = dict(reversed(document.items()))
    assert read_offer(posted(reordered)).document == some_attributes().canonical(), "the order says nothing"
    assert known.cache_info().hits == 0


def test_a_known_document_under_an_offer_that_names_another_is_refused() -> None:
    read_offer(posted(some_attributes().to_json()))
    terms = MarketTerms(market().address, a_domain(), 50, 0, 10)
    paper = read_offer(posted(some_attributes().to_json(), attributes=some_attributes(region="DE").digest()))
    reasons = [doubt.code for doubt in doubts_of_offer(paper, terms, NOW)]
    assert reasons == [ReasonCode.ATTRIBUTES]


def test_what_is_no_document_is_refused_each_time_and_not_kept(known: Any) -> None:
    wrong = some_attributes().to_json() | {"colour": "red"}
    for _ in range(2):
        with pytest.raises(ProtocolError, match="colour"):
            read_offer(posted(wrong))
    assert known.cache_info().currsize == 0


def test_a_long_document_is_read_and_not_kept(known: Any) -> None:
    pythons = [f"3.{n}" for n in range(KNOWN_CHARACTERS_MAX // 4)]
    long = some_attributes().to_json() | {"pythons": pythons}
    assert len(json.dumps(long)) > KNOWN_CHARACTERS_MAX
    assert read_offer(posted(long)).attributes.pythons == tuple(pythons)
    assert known.cache_info().currsize == 0


def test_so_many_are_kept_and_no_more(known: Any) -> None:
    assert known.cache_info().maxsize == KNOWN_MAX
