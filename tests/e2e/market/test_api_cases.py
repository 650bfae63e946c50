"""Requests that a generator makes of the OpenAPI document, signed and not, against a real market with a real lease.

Whatever comes: no answer is a server's error, and each error is a problem document. SUANLI_API_CASES says how many.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from suanli_protocol import wire
from suanli_protocol.market_client import signed_headers
from support.market import Party
from support.market_scene import Market, a_pair, countersigned, opened_lease, signed_receipt

pytestmark = pytest.mark.e2e

CASES = int(os.environ.get("SUANLI_API_CASES", "250"))
DOCUMENT = Path(__file__).parents[3] / "docs" / "openapi.json"
TIMEOUT_S = 30
SCHEMA = schemathesis.openapi.from_path(DOCUMENT)
OPERATIONS = sorted((SCHEMA[path][method] for path in SCHEMA for method in SCHEMA[path]), key=lambda found: found.label)

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([0, -1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 2**96, 2**256, 10**400, 1.5, -0.0, 1e308])
    | st.sampled_from(["", "0", "-1", "0x", "0x" + "00" * 32, "0x" + "ff" * 20, str(2**63), str(2**256), "9" * 78])
    | st.text(st.characters(exclude_categories=()), max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=8,
)


@dataclass
class Scene:
    """A market, the two parties of a lease in it, and bodies that it would take."""

    market: Market
    parties: tuple[Party, Party]
    lease: str
    ids: list[str]
    bodies: dict[str, list[wire.Json]]
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
    return Scene(market, (consumer, provider), lease.id, ids, bodies)


def altered(data: st.DataObject, body: Any) -> Any:
    """The body with one of its members, at any depth, taken away or replaced."""
    if not isinstance(body, dict) or not body:
        return data.draw(JSON_VALUES)
    name = data.draw(st.sampled_from(sorted(body)))
    match data.draw(st.sampled_from(["inside", "inside", "value", "gone", "more"])):
        case "inside" if isinstance(body[name], dict):
            return {**body, name: altered(data, body[name])}
        case "gone":
            return {key: value for key, value in body.items() if key != name}
        case "more":
            return {**body, data.draw(st.text(max_size=8)): data.draw(JSON_VALUES)}
        case _:
            return {**body, name: data.draw(JSON_VALUES)}


def a_request(data: st.DataObject, scene: Scene) -> tuple[str, requests.PreparedRequest]:
    """One request: generated from the document, with real ids and real bodies put in now and then."""
    operation = data.draw(st.sampled_from(OPERATIONS))
    mode = data.draw(st.sampled_from(list(GenerationMode)))
    try:
        case = data.draw(operation.as_strategy(generation_mode=mode))
    except schemathesis.errors.SchemathesisError:
        case = data.draw(operation.as_strategy())  # nothing about this operation can be wrong
    if isinstance(case.path_parameters, dict) and data.draw(st.sampled_from([True, True, False])):
        for name in {"lease", "bid", "offer"} & case.path_parameters.keys():
            case.path_parameters[name] = scene.lease if name == "lease" else data.draw(st.sampled_from(scene.ids))
        if "slot" in case.path_parameters:
            case.path_parameters["slot"] = data.draw(st.sampled_from(wire.SLOTS))
    if isinstance(case.query, dict) and str(case.query.get("wait", "0")).isdecimal():
        case.query.pop("wait", None)  # it would be waited for
    kwargs = case.as_transport_kwargs(base_url=scene.market.process.url)
    known = scene.bodies.get(operation.path)
    if known and operation.method.upper() == "POST" and data.draw(st.sampled_from([True, True, False])):
        body = altered(data, data.draw(st.sampled_from(known)))
        kwargs.pop("json", None)
        kwargs["data"] = json.dumps(body).encode()
        kwargs["headers"] = {**dict(kwargs.get("headers") or {}), "Content-Type": "application/json"}
    kwargs.pop("cookies", None)
    wanted = {
        key: kwargs[key] for key in ("method", "url", "params", "headers", "json", "data", "files") if key in kwargs
    }
    return operation.label, requests.Request(**wanted).prepare()


def sign(scene: Scene, party: Party, request: requests.PreparedRequest) -> None:
    """Signs the request as it will be sent."""
    body = request.body or b""
    assert isinstance(body, str | bytes)
    raw = body.encode() if isinstance(body, str) else body
    domain, address = scene.market.world.escrow.domain, scene.market.process.address
    method, target = str(request.method), request.path_url
    request.headers.update(signed_headers(party.signer, domain, address, method, target, raw))


def check(label: str, request: requests.PreparedRequest, answer: requests.Response) -> None:
    """No server's error, and a problem for each error."""
    told = f"{label}: {request.method} {request.path_url} {request.body!r:.2000} -> {answer.status_code}"
    assert answer.status_code < 500, f"{told} {answer.text}"
    if answer.status_code < 400:
        return
    assert answer.headers["content-type"] == "application/problem+json", told
    problem = answer.json()
    assert {"type", "status", "code", "title", "detail", "hint", "retryable"} <= problem.keys(), told
    assert problem["status"] == answer.status_code, told
    assert len(answer.content) < 64_000, told


def ask(session: requests.Session, data: st.DataObject, scene: Scene) -> None:
    label, request = a_request(data, scene)
    signed = data.draw(st.sampled_from([True, True, True, False]))
    if signed:
        sign(scene, data.draw(st.sampled_from(scene.parties)), request)
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
    assert scene.market.client(scene.parties[0]).lease(wire.from_hex(scene.lease)).id == scene.lease
