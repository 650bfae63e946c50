"""Generated requests, signed and not, against a node's own counter with a real lease on its shelf.

Whatever comes: no answer is a server's error, and each error is a problem document. SUANLI_API_CASES says how many.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from suanli_node.direct import limits
from suanli_node.direct.api import DirectApi
from suanli_node.direct.desk import DirectDesk, Streams
from suanli_node.direct.limits import LimitedApp, RatedGate
from suanli_node.direct.relay import DirectRelay
from suanli_node.direct.server import DirectServer, bind, url_of
from suanli_node.direct.shelf import Shelf
from suanli_protocol import wire
from suanli_protocol.gate import Gate
from suanli_protocol.lease_history import LeaseHistory
from suanli_protocol.messages import ZERO_ADDRESS, Receipt
from suanli_protocol.signing import Signer
from support import builders
from support.api_cases import OPERATIONS, Known, a_request, check, sign
from support.leases import an_opened_lease
from support.places import OnePlace

CASES = int(os.environ.get("SUANLI_API_CASES", "150"))
TIMEOUT_S = 30
SERVED = [operation for operation in OPERATIONS if operation.path.startswith(("/v1/leases", "/v1/events"))]
SERVED += [operation for operation in OPERATIONS if operation.label in ("GET /v1/market", "GET /v1/offers")]


@dataclass
class Scene:
    """A counter that serves, the keys that ask it, and what it answered."""

    known: Known
    signers: tuple[Signer, ...]
    statuses: Counter[int] = field(default_factory=Counter)
    behind: Counter[str] = field(default_factory=Counter)  # signed requests that were answered past the gate


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(limits, "PER_S", 10**6)
    opened, signer, domain = an_opened_lease(), builders.provider(), builders.a_domain()
    taken = wire.TakenLease.model_validate({name: getattr(opened.view, name) for name in wire.TakenLease.model_fields})
    streams = Streams()
    relay = DirectRelay(Shelf(tmp_path / "direct"), info, signer, domain, lambda *_: LeaseHistory(), streams.tell)
    desk = DirectDesk(relay, OnePlace(opened), lambda _: None)
    desk.take(builders.consumer().address, taken)
    receipt = Receipt(opened.id, 5, 1, bytes(32))
    signed = wire.SignedReceipt(
        receipt=wire.paper_to_json(receipt), signature=wire.to_hex(signer.sign(domain, receipt)), evidence={}
    )
    relay.post_receipt(opened.id, signed)
    seal = wire.to_hex(builders.consumer().sign(domain, receipt))
    bodies = {
        "/v1/leases": [taken.to_json()],
        "/v1/leases/{lease}/countersignature": [
            wire.Countersignature(receipt=signed.receipt, signature=seal).to_json()
        ],
    }
    listener = bind("127.0.0.1:0")
    app = DirectApi(desk, RatedGate(Gate(domain, signer.address)), streams, list).app()
    server = DirectServer(LimitedApp(app), listener)
    server.start()
    try:
        known = Known(url_of(listener), opened.view.id, [opened.view.id], bodies)
        yield Scene(known, (builders.consumer(), builders.consumer(), builders.a_signer(77)))
    finally:
        server.close()


def info() -> wire.MarketInfo:
    """Who the node is."""
    return wire.MarketInfo(
        name="heron", version="0", address=builders.provider().address, chain_id=1, genesis="0x" + "00" * 32,
        escrow=ZERO_ADDRESS, code_hash="0x" + "00" * 32, token=ZERO_ADDRESS, symbol="T", decimals=6, fee_bps=0,
        min_fee="0", min_window=10, confirmations=0, round_ms=0, blob_bytes_max=1, chunk_bytes_max=1,
        time=int(time.time() * 1000),
    )  # fmt: skip


def ask(session: requests.Session, data: st.DataObject, scene: Scene) -> None:
    label, request = a_request(data, SERVED, scene.known)
    is_signed = data.draw(st.sampled_from([True, True, True, False]))
    if is_signed:
        signer = data.draw(st.sampled_from(scene.signers))
        sign(request, signer, builders.a_domain(), builders.provider().address)
    with session.send(request, timeout=TIMEOUT_S, stream=True, allow_redirects=False) as answer:
        scene.statuses[answer.status_code] += 1
        if is_signed and answer.status_code != 401:
            scene.behind[label] += 1
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            return
        check(label, request, answer)


def test_no_request_breaks_the_counter(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    session = requests.Session()
    session.trust_env = False

    @settings(
        max_examples=CASES, deadline=None, database=None, phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck), print_blob=True,
    )  # fmt: skip
    @given(data=st.data())
    def cases(data: st.DataObject) -> None:
        ask(session, data, scene)

    cases()
    total = scene.statuses.total()
    with capsys.disabled():
        print(f"\n{total} API cases of a counter: {dict(sorted(scene.statuses.items()))}")
    assert total >= CASES * 9 // 10
    assert scene.statuses[200] > 0
    assert len(scene.behind) >= len(SERVED) * 3 // 4
