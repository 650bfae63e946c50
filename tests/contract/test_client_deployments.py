"""Since when an escrow is there, by a real chain: events are read from there on, and a wrong memory misleads nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from suanli import deployments
from suanli.audit import audit_lease
from suanli.deployments import first_block
from suanli_protocol import chain, devnet, lease_lookup
from suanli_protocol.chain import Chain
from suanli_protocol.deployment import deployment_block
from suanli_protocol.errors import ChainUnavailableError, NotFoundError
from suanli_protocol.escrow import Escrow
from suanli_protocol.lease_lookup import find_lease
from support.consumer_desk import an_open_lease
from support.devnet import Anvil, start_anvil
from support.market import World, a_world

Answer = dict[str, Any]
SPAN_BLOCKS = 50  # in place of thousands, which a devnet is slow to mine


@pytest.fixture(autouse=True)
def short_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (chain, lease_lookup, deployments):
        monkeypatch.setattr(module, "LOG_SPAN_BLOCKS", SPAN_BLOCKS)


@pytest.fixture(scope="module")
def old_chain() -> Iterator[Anvil]:
    """A devnet that had many blocks before there was any escrow."""
    with start_anvil() as anvil:
        with Chain(anvil.url) as endpoint:
            devnet.mine(endpoint, 2 * SPAN_BLOCKS)
        yield anvil


@pytest.fixture(scope="module")
def world(old_chain: Anvil) -> World:
    return a_world(old_chain)


class Endpoint(httpx.BaseTransport):
    """The world's chain, but for what it says of code in blocks before `pruned`; counts the questions for code."""

    def __init__(self, url: str, pruned: int = 0, answer: Answer | None = None) -> None:
        self._real, self._url, self._pruned, self._answer = httpx.HTTPTransport(), url, pruned, answer
        self.asked = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        body = request.read()
        question = json.loads(body)
        if question["method"] == "eth_getCode" and question["params"][1] != "latest":
            self.asked += 1
            if self._answer is not None and int(question["params"][1], 16) < self._pruned:
                return httpx.Response(200, json={"jsonrpc": "2.0", "id": question["id"], **self._answer})
        return self._real.handle_request(
            httpx.Request("POST", self._url, content=body, headers={"Content-Type": "application/json"})
        )


def through(world: World, endpoint: Endpoint) -> Escrow:
    return Escrow(Chain(world.url, transport=endpoint), world.escrow.address)


def deployed(world: World) -> int:
    """By looking at each block from the newest back."""
    block = world.chain.block().number
    while world.chain.code(world.escrow.address, block=block - 1):
        block -= 1
    return block


def test_it_is_found_by_halving(world: World) -> None:
    endpoint = Endpoint(world.url)
    head = world.chain.block().number
    assert deployment_block(through(world, endpoint), head) == deployed(world) > 2 * SPAN_BLOCKS
    assert endpoint.asked <= head.bit_length() + 1


@pytest.mark.parametrize(
    "answer",
    [
        {"error": {"code": -32000, "message": "missing trie node 00 (path )"}},
        {"error": {"code": -32000, "message": "this request needs an archive"}},
        {"result": "0x"},
    ],
    ids=["lacking", "refusing", "silent"],
)
def test_an_endpoint_without_old_states_is_asked_for_all(world: World, answer: Answer, tmp_path: Path) -> None:
    devnet.mine(world.chain, 10)
    head = world.chain.block().number
    for pruned in (head, deployed(world)):
        escrow = through(world, Endpoint(world.url, pruned, answer))
        assert deployment_block(escrow, head) == 0
        assert first_block(escrow, tmp_path / "memory") == 0
    assert not (tmp_path / "memory").exists()


def test_one_that_is_away_is_no_answer(world: World) -> None:
    with pytest.raises(ChainUnavailableError):
        deployment_block(through(world, Endpoint("http://127.0.0.1:9")), 10)


def test_it_is_remembered_while_its_block_is_the_chains(world: World, tmp_path: Path) -> None:
    endpoint, memory = Endpoint(world.url), tmp_path / "home" / "memory"
    escrow, wanted = through(world, endpoint), deployed(world)
    assert first_block(escrow, memory) == wanted
    asked = endpoint.asked
    assert first_block(escrow, memory) == wanted
    assert endpoint.asked == asked
    known = json.loads(memory.read_bytes())
    ((key, kept),) = known.items()
    lies: list[Any] = [{**kept, "block": wanted + 1}, {**kept, "block": 10**6}, {"block": "1"}, 7, None]
    for lie in lies:
        memory.write_text(json.dumps({key: lie, "other": kept}))
        assert first_block(escrow, memory) == wanted
        assert json.loads(memory.read_bytes()) == {key: kept, "other": kept}
    for text in ("", "[]", "nonsense"):
        memory.write_text(text)
        assert first_block(escrow, memory) == wanted
    (tmp_path / "file").touch()
    assert first_block(escrow, tmp_path / "file" / "memory") == wanted  # where nothing can be written


def test_a_young_chain_is_not_asked(tmp_path: Path) -> None:
    with start_anvil() as young:
        world = a_world(young)
        endpoint = Endpoint(world.url)
        assert first_block(through(world, endpoint), tmp_path / "memory") == 0
    assert endpoint.asked == 0


def test_leases_are_looked_for_from_there_on(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = deployed(world)
    views = [an_open_lease(world)[0] for _ in range(3)]
    devnet.mine(world.chain, SPAN_BLOCKS)
    spans: list[tuple[int, int]] = []
    rpc = Chain.rpc

    def counted(endpoint: Chain, method: str, *params: Any) -> Any:
        if method == "eth_getLogs":
            spans.append((int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)))
        return rpc(endpoint, method, *params)

    monkeypatch.setattr(Chain, "rpc", counted)
    for which in ("2", views[1].id[:20], views[1].id):
        found = find_lease(world.escrow, which, first=first)
        assert "0x" + found.id.hex() == views[1].id
    for unknown in ("4", "0x" + "ab" * 4, "0x" + "ab" * 32):
        with pytest.raises(NotFoundError):
            find_lease(world.escrow, unknown, first=first)
    report = audit_lease(world.url, world.escrow.address, "2", memory=tmp_path / "memory")
    assert report.leases[0].to_json()["id"] == views[1].id
    assert report.to_json() == audit_lease(world.url, world.escrow.address, "2").to_json()
    assert min(start for start, _ in spans) == first
    assert max(end - start for start, end in spans) < SPAN_BLOCKS
