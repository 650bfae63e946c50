"""Requests that a generator makes of the OpenAPI document, signed and not, against a real market with a real lease.

Whatever comes: no answer is a server's error, and each error is a problem document. SUANLI_API_CASES says how many.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from suanli_protocol import wire
from support.api_cases import OPERATIONS, Known, a_request, check, sign
from support.market import Party
from support.market_scene import Market, a_pair, countersigned, opened_lease, signed_receipt

pytestmark = pytest.mark.e2e

CASES = int(os.environ.get("SUANLI_API_CASES", "250"))
TIMEOUT_S = 30


@dataclass
class Scene:
    """A market, the two parties of a lease in it, and bodies that it would take."""

    market: Market
    parties: tuple[Party, Party]
    known: Known
    statuses: Counter[int] = field(default_factory=Counter)
    behind: Counter[str] = field(default_factory=Counter)  # signed requests that were answered past the gate


@pytest.fixture(scope="module")
def scene(market: Market) -> Scene:
    provider, consumer = market.world.party(), market.world.party()
    lease = opened_lease(market, provider, consumer)
    offer, bid = a_pair(market, provider, consumer)
    receipt = signed_receipt(market, provider, lease)
    market.client(provider).post_receipt(wire.from_hex(lease.id), receipt)
    seal = countersigned(market, consumer, receipt.receipt)
    log = wire.LogPage(chunks=[wire.LogChunk(seq=0, data="0xabcd")])
    bodies: dict[str, list[wire.Json]] = {
        "/v1/offers": [offer.to_json()],
        "/v1/bids": [bid.to_json()],
        "/v1/quotes": [{"bid": bid.bid, "constraints": bid.constraints}],
        "/v1/leases/{lease}/logs": [log.to_json()],
        "/v1/leases/{lease}/phase": [wire.Report(phase="running").to_json()],
        "/v1/leases/{lease}/receipt": [receipt.to_json()],
        "/v1/leases/{lease}/countersignature": [seal.to_json()],
    }
    ids = [lease.id, *(view.id for view in market.client().offers())]
    return Scene(market, (consumer, provider), Known(market.process.url, lease.id, ids, bodies))


def ask(session: requests.Session, data: st.DataObject, scene: Scene) -> None:
    label, request = a_request(data, OPERATIONS, scene.known)
    signed = data.draw(st.sampled_from([True, True, True, False]))
    if signed:
        signer = data.draw(st.sampled_from(scene.parties)).signer
        sign(request, signer, scene.market.world.escrow.domain, scene.market.process.address)
    request.headers["X-Forwarded-For"] = data.draw(st.ip_addresses(v=4).map(str))  # a refusal counts for its sender
    with session.send(request, timeout=TIMEOUT_S, stream=True, allow_redirects=False) as answer:
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            scene.statuses[answer.status_code] += 1
            return
        check(label, request, answer)
    scene.statuses[answer.status_code] += 1
    if signed and answer.status_code != 401:
        scene.behind[label] += 1


def run(scene: Scene, cases: int) -> Callable[[], None]:
    session = requests.Session()
    session.trust_env = False

    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(data=st.data())
    def cases_of(data: st.DataObject) -> None:
        ask(session, data, scene)

    return cases_of


def test_no_request_breaks_the_market(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    run(scene, CASES)()
    total = sum(scene.statuses.values())
    with capsys.disabled():
        print(f"\n{total} API cases: {dict(sorted(scene.statuses.items()))}")
    assert total >= CASES * 9 // 10
    assert scene.statuses[200] > 0
    signed = {operation.label for operation in OPERATIONS if operation.definition.raw.get("security")}
    reached = signed & scene.behind.keys()
    assert len(reached) >= len(signed) * 3 // 4, f"never past the gate: {signed - reached}"
    assert scene.market.client(scene.parties[0]).lease(wire.from_hex(scene.known.lease)).id == scene.known.lease
