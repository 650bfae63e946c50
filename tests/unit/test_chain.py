"""The chain endpoint as an enemy: whatever it answers, the error says what to do."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import pytest

from suanli_protocol.abi import artifact
from suanli_protocol.chain import GAS_MAX, Chain
from suanli_protocol.errors import ChainError, ChainRevertedError, ChainUnavailableError, FundsError, NotFoundError
from suanli_protocol.reverts import HINTS, reverted
from support import builders

ACCOUNT = "0x" + "11" * 20
WORD = "0x" + "11" * 32
BLOCK = {"number": "0x5", "hash": WORD, "parentHash": WORD, "timestamp": "0x10", "baseFeePerGas": "0x7"}


def answering(**results: Any) -> Chain:
    """A chain that answers each method with a result, or with an error where the result has a message."""

    def answer(request: httpx.Request) -> httpx.Response:
        result = results[json.loads(request.content)["method"]]
        if isinstance(result, dict) and "message" in result:
            return httpx.Response(200, json={"jsonrpc": "2.0", "id": 1, "error": result})
        return httpx.Response(200, json={"jsonrpc": "2.0", "id": 1, "result": result})

    return Chain("http://chain.test", transport=httpx.MockTransport(answer))


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"id": 1}),
        httpx.Response(500, json={"result": "0x1"}),
        httpx.Response(301, headers={"Location": "http://elsewhere.test"}),
        httpx.Response(200, json={"result": None}),
        httpx.Response(200, json={"result": "1e9"}),
        httpx.Response(200, json={"result": {"a": 1}}),
        httpx.Response(200, json={"result": ["0x1"]}),
    ],
)
def test_nonsense_is_an_endpoint_that_cannot_be_used(response: httpx.Response) -> None:
    chain = Chain("http://chain.test", transport=httpx.MockTransport(lambda request: response))
    with pytest.raises(ChainUnavailableError) as unavailable:
        chain.chain_id()
    assert "SUANLI_CHAIN" in unavailable.value.hint


def test_a_no_under_a_bad_request_is_the_endpoints_answer() -> None:
    told = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32003, "message": "transaction rejected"}}
    chain = Chain("http://chain.test", transport=httpx.MockTransport(lambda _: httpx.Response(400, json=told)))
    with pytest.raises(ChainError, match="transaction rejected") as rejected:
        chain.submit(b"\x02")
    assert not isinstance(rejected.value, ChainUnavailableError)


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500])
def test_a_status_without_an_answer_is_an_endpoint_that_cannot_be_used(status: int) -> None:
    for content in (b"", b"<html>", b"[]", b'{"error": "over quota"}'):
        response = httpx.Response(status, content=content)
        chain = Chain("http://chain.test", transport=httpx.MockTransport(lambda _, found=response: found))
        with pytest.raises(ChainUnavailableError):
            chain.submit(b"\x02")


def test_one_request_that_is_too_large_is_refused_for_good() -> None:
    chain = Chain("http://chain.test", transport=httpx.MockTransport(lambda _: httpx.Response(413)))
    with pytest.raises(ChainError, match="too large") as refused:
        chain.submit(b"\x02")
    assert not isinstance(refused.value, ChainUnavailableError)


def test_a_timeout_is_an_endpoint_that_cannot_be_used() -> None:
    def late(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("late", request=request)

    with pytest.raises(ChainUnavailableError, match="late"):
        Chain("http://chain.test", transport=httpx.MockTransport(late)).block()


def test_a_whole_block() -> None:
    block = answering(eth_getBlockByNumber=BLOCK).block()
    assert (block.number, block.hash, block.timestamp, block.base_fee) == (5, b"\x11" * 32, 16, 7)


@pytest.mark.parametrize("broken", [{"number": None}, {"hash": "0x11"}, {"timestamp": 16}, {"parentHash": "11" * 32}])
def test_a_malformed_block_is_said(broken: dict[str, Any]) -> None:
    with pytest.raises(ChainUnavailableError, match="malformed"):
        answering(eth_getBlockByNumber=BLOCK | broken).block()


def test_what_the_chain_does_not_know() -> None:
    chain = answering(eth_getBlockByNumber=None, eth_getTransactionByHash=None, eth_getTransactionReceipt=None)
    with pytest.raises(NotFoundError):
        chain.block(7)
    with pytest.raises(NotFoundError):
        chain.transaction(bytes(32))
    assert chain.receipt(bytes(32)) is None


LACKING = [  # what a chain client answers for a block ahead of it, or for what it has pruned
    ("anvil", -32602, "BlockOutOfRangeError: block height is 0 but requested was 153"),
    ("anvil by hash", -32001, "Resource not found"),
    ("anvil", -32603, "Required data unavailable"),
    ("hardhat", -32000, "Received invalid block tag 153. Latest block number is 0"),
    ("geth", -32000, "header not found"),
    ("geth by hash", -32000, "header for hash not found"),
    ("geth logs by hash", -32000, "unknown block"),
    ("geth logs", -32602, "block range extends beyond current head block"),
    ("geth logs", -32602, "invalid block range params"),
    ("geth", -39001, "finalized block not found"),
    ("geth", -32000, "missing trie node 5c0ee7 (path ) state 0x5c is not available"),
    ("geth", -32000, "historical state 0x5c is not available"),
    ("geth", -32000, "state histories haven't been fully indexed yet"),
    ("geth", -32000, "transaction indexing is in progress"),
    ("geth", 4444, "pruned history unavailable"),
    ("erigon", -32000, "block not found: 153"),
    ("erigon", -32000, "old data not available due to pruning"),
    ("nethermind", -32001, "153 could not be found"),
    ("nethermind", -32002, "No state available for block 153 (0x12)"),
    ("reth", -32001, "block not found: hash 0x12"),
    ("reth", -32000, "state at block #153 is pruned"),
    ("besu", -32000, "World state unavailable"),
    ("besu", -39001, "Unknown block"),
]


@pytest.mark.parametrize(("client", "code", "message"), LACKING)
def test_a_block_or_state_that_the_endpoint_lacks_is_waited_for(client: str, code: int, message: str) -> None:
    chain = answering(eth_call={"code": code, "message": message})
    with pytest.raises(ChainUnavailableError, match=re.escape(message)) as lacking:
        chain.call(ACCOUNT, b"", block=153)
    assert lacking.value.retryable, client


@pytest.mark.parametrize(
    ("code", "message"),
    [(-32601, "Method not found"), (-32601, "the method eth_x does not exist/is not available"), (-32000, "gas limit")],
)
def test_what_no_other_endpoint_would_answer_is_final(code: int, message: str) -> None:
    with pytest.raises(ChainError) as final:
        answering(eth_call={"code": code, "message": message}).call(ACCOUNT, b"")
    assert not final.value.retryable


def test_what_the_endpoint_does_not_know_it_may_know_later() -> None:
    chain = answering(eth_getBlockByNumber=None, eth_getTransactionByHash=None)
    for ask in (lambda: chain.block(7), lambda: chain.transaction(bytes(32))):
        with pytest.raises(NotFoundError) as lacking:
            ask()
        assert lacking.value.retryable
        assert (lacking.value.code, lacking.value.exit_status) == ("chain_unavailable", 6)


def test_why_it_reverted_is_unknown_where_the_state_is_gone() -> None:
    mined = {
        "transactionHash": WORD, "blockNumber": "0x5", "blockHash": WORD, "status": "0x0", "gasUsed": "0x1",
        "from": ACCOUNT, "to": ACCOUNT, "contractAddress": None, "logs": [],
        "transactionIndex": "0x0", "effectiveGasPrice": "0x1",
    }  # fmt: skip
    chain = answering(eth_getTransactionReceipt=mined, eth_getTransactionByHash=None)
    with pytest.raises(ChainRevertedError, match="reverted"):
        chain.wait(b"\x11" * 32)


def test_gas_has_a_fifth_to_spare_and_an_end() -> None:
    assert answering(eth_estimateGas=hex(100_000)).estimate({}) == 120_000
    assert answering(eth_estimateGas=hex(GAS_MAX - 1)).estimate({}) == GAS_MAX
    with pytest.raises(ChainError, match="one may use") as large:
        answering(eth_estimateGas=hex(GAS_MAX + 1)).estimate({})
    assert large.value.hint == "send smaller batches"


def test_fees_leave_room_for_the_base_fee_to_double() -> None:
    assert answering(eth_getBlockByNumber=BLOCK, eth_maxPriorityFeePerGas="0x3").fees() == (17, 3)
    old = answering(eth_getBlockByNumber=BLOCK, eth_maxPriorityFeePerGas={"code": -32601, "message": "no such method"})
    assert old.fees() == (14 + 10**9, 10**9)


@pytest.mark.parametrize(
    ("message", "kind", "code"),
    [
        ("nonce too low", ChainError, "nonce"),
        ("replacement transaction underpriced", ChainError, "nonce"),
        ("insufficient funds for gas * price + value", FundsError, "funds"),
        ("intrinsic gas too low", ChainError, "chain"),
    ],
)
def test_why_a_transaction_was_not_taken(message: str, kind: type[ChainError], code: str) -> None:
    chain = answering(
        eth_chainId="0x7a69",
        eth_getBlockByNumber=BLOCK,
        eth_maxPriorityFeePerGas="0x1",
        eth_sendRawTransaction={"code": -32000, "message": message},
    )
    with pytest.raises(kind) as refused:
        chain.send(builders.consumer(), b"", to=builders.ESCROW, gas=21_000, nonce=0)
    assert refused.value.code == code


def test_a_transaction_that_is_known_already_was_sent() -> None:
    chain = answering(
        eth_chainId="0x7a69",
        eth_getBlockByNumber=BLOCK,
        eth_maxPriorityFeePerGas="0x1",
        eth_sendRawTransaction={"code": -32000, "message": "already known"},
    )
    assert len(chain.send(builders.consumer(), b"", to=builders.ESCROW, gas=21_000, nonce=0)) == 32


@pytest.mark.parametrize("nested", [False, True])
def test_a_revert_is_decoded_where_clients_put_it(nested: bool) -> None:
    data: Any = "0x08c379a0" + "20".rjust(64, "0") + "02".rjust(64, "0") + "6e6f".ljust(64, "0")
    error = {"code": 3, "message": "execution reverted", "data": {"data": data} if nested else data}
    with pytest.raises(ChainRevertedError) as refused:
        answering(eth_call=error).call(builders.ESCROW, b"")
    assert (refused.value.name, refused.value.arguments) == ("Error", ("no",))


@pytest.mark.parametrize("data", [b"", b"\x01", b"\xff" * 4, b"\xff" * 99, bytes.fromhex("4e487b71") + bytes(32)])
def test_any_revert_data_gives_an_error(data: bytes) -> None:
    assert isinstance(reverted(data, "why"), ChainRevertedError)


def test_every_error_of_the_escrow_has_a_hint() -> None:
    declared = {item["name"] for item in artifact("LeaseEscrow")["abi"] if item["type"] == "error"}
    assert {name for name in declared if name.startswith("LeaseEscrow_")} <= set(HINTS)


def batching(requests: list[Any], *, refusal: int = 0) -> Chain:
    """A chain that answers each call with its own data, batches in the reverse order."""

    def result(question: Any) -> Any:
        return {"jsonrpc": "2.0", "id": question["id"], "result": question["params"][0]["data"]}

    def answer(request: httpx.Request) -> httpx.Response:
        question = json.loads(request.content)
        requests.append(question)
        if isinstance(question, list):
            return httpx.Response(refusal) if refusal else httpx.Response(200, json=[*map(result, reversed(question))])
        return httpx.Response(200, json=result(question))

    return Chain("http://chain.test", transport=httpx.MockTransport(answer))


def test_many_calls_are_few_requests() -> None:
    requests: list[Any] = []
    data = [bytes([n, 1]) for n in range(250)]
    assert batching(requests).call_all(ACCOUNT, data, block=7) == data
    assert [len(request) for request in requests] == [100, 100, 50]
    assert {question["params"][1] for request in requests for question in request} == {"0x7"}


@pytest.mark.parametrize("refusal", [400, 413])
def test_an_endpoint_without_batches_is_asked_one_by_one(refusal: int) -> None:
    requests: list[Any] = []
    assert batching(requests, refusal=refusal).call_all(ACCOUNT, [b"a", b"b"]) == [b"a", b"b"]
    assert len(requests) == 3


def test_a_call_that_fails_among_many_fails_them() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        first, second = json.loads(request.content)
        return httpx.Response(
            200, json=[{"id": first["id"], "result": "0x"}, {"id": second["id"], "error": {"code": 3, "message": "no"}}]
        )

    with pytest.raises(ChainError, match="no"):
        Chain("http://chain.test", transport=httpx.MockTransport(answer)).call_all(ACCOUNT, [b"a", b"b"])
