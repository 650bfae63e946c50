"""One chain endpoint, spoken to in plain JSON-RPC over HTTP: reads, fees, transactions, and what went wrong.

Every request has a timeout as a whole, every answer a largest size. What cannot be reached or answers nonsense is a
ChainUnavailableError, and so is a block or a state that the endpoint lacks (LackingError); what the chain refuses is a
ChainError, or a ChainRevertedError with the contract's own error.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from suanli_protocol.answers import AnswerError, Patience, streaming, whole
from suanli_protocol.chain_records import (
    Block,
    Log,
    Transaction,
    TxReceipt,
    read_block,
    read_data,
    read_logs,
    read_number,
    read_receipt,
    read_transaction,
)
from suanli_protocol.errors import ChainError, ChainUnavailableError, FundsError, TimedOutError
from suanli_protocol.plain_http import PlainHttp
from suanli_protocol.reverts import reverted
from suanli_protocol.rpc_errors import LackingError, refused
from suanli_protocol.signing import Signer, keccak256
from suanli_protocol.tls import trusted

if TYPE_CHECKING:
    import httpx

__all__ = ["Block", "BlockId", "Chain", "Log", "Transaction", "TxReceipt"]

T = TypeVar("T")
BlockId = int | str | bytes  # a number, "latest" or "finalized", or a block's hash
CALL_TIMEOUT_S = 10.0
WAIT_TIMEOUT_S = 60.0
GAS_MAX = 16_777_216  # of one transaction (EIP-7825)
GAS_MARGIN = (6, 5)  # the estimate times 1.2
TIP_FALLBACK_WEI = 10**9
LOG_SPAN_BLOCKS = 2_000
HTTP_BAD_REQUEST, HTTP_TOO_LARGE = 400, 413  # of one request: an endpoint may send its error with the first
BATCH_MAX = 100  # questions in one request; endpoints have limits of their own
_POLL_S = (0.002, 0.5)


class SignedTransaction(NamedTuple):
    """A transaction that only needs to be sent."""

    hash: bytes
    raw: bytes


class Chain:
    """A chain endpoint by its URL. Thread-safe; close it, or use it as a context."""

    def __init__(
        self, url: str, *, timeout_s: float = CALL_TIMEOUT_S, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.url = url
        self._transport = transport
        self._timeout_s = timeout_s
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        self._plain = PlainHttp.of(url, timeout_s=timeout_s) if transport is None else None

    def close(self) -> None:
        """Closes the connections."""
        if self._plain is not None:
            self._plain.close()
        if self._client is not None:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Reads

    def chain_id(self) -> int:
        """The chain's id."""
        return self._chain_id

    @cached_property
    def _chain_id(self) -> int:
        return self._read("eth_chainId", [], read_number)

    def genesis(self) -> bytes:
        """The hash of block 0: it tells a reset devnet from the one before."""
        return self.block(0).hash

    def block(self, block: BlockId = "latest") -> Block:
        """A block; LackingError if the endpoint has none such."""
        by_hash = isinstance(block, bytes)
        named = "0x" + block.hex() if isinstance(block, bytes) else _block_id(block)
        answer = self.rpc("eth_getBlockByHash" if by_hash else "eth_getBlockByNumber", named, False)
        if answer is None:
            raise LackingError(f"the chain at {self.url} has no block {named}")
        return self._understand("a block", lambda: read_block(answer))

    def balance_wei(self, address: str) -> int:
        """The native coin that an address has for gas."""
        return self._read("eth_getBalance", [address, "latest"], read_number)

    def nonce(self, address: str, block: BlockId = "pending") -> int:
        """The next nonce of an address."""
        return self._read("eth_getTransactionCount", [address, _block_id(block)], read_number)

    def code(self, address: str, *, block: BlockId = "latest") -> bytes:
        """The code at an address; empty if there is no contract."""
        return self._read("eth_getCode", [address, _block_id(block)], read_data)

    def code_hash(self, address: str) -> bytes:
        """keccak256 of the code at an address; of nothing if there is none."""
        return keccak256(self.code(address))

    def has_code(self, address: str) -> bool:
        """Whether a contract is there."""
        return self.code(address) != b""

    def call(self, to: str, data: bytes, *, block: BlockId = "latest", sender: str | None = None) -> bytes:
        """The answer of a contract's view; ChainRevertedError if it reverts."""
        request = {"to": to, "data": "0x" + data.hex()} | ({"from": sender} if sender else {})
        return self._read("eth_call", [request, _block_id(block)], read_data)

    def call_all(self, to: str, data: Sequence[bytes], *, block: BlockId = "latest") -> list[bytes]:
        """The answers of a contract's view to several calls, BATCH_MAX in one request; ChainError if one fails."""
        questions = [[{"to": to, "data": "0x" + one.hex()}, _block_id(block)] for one in data]
        found: list[bytes] = []
        for start in range(0, len(questions), BATCH_MAX):
            answers = self._rpc_all("eth_call", questions[start : start + BATCH_MAX])
            found += [self._understand("eth_call", partial(read_data, answer)) for answer in answers]
        return found

    def logs(self, address: str, first: int, last: int, *, topics: Sequence[bytes | None] = ()) -> list[Log]:
        """The events of a contract in blocks first..last, in order: those with these topics, None being any."""
        wanted = [None if topic is None else "0x" + topic.hex() for topic in topics]
        found: list[Log] = []
        for start in range(first, last + 1, LOG_SPAN_BLOCKS):
            end = min(last, start + LOG_SPAN_BLOCKS - 1)
            query = {"address": address, "fromBlock": hex(start), "toBlock": hex(end)} | (
                {"topics": wanted} if wanted else {}
            )
            found += self._read("eth_getLogs", [query], read_logs)
        return sorted(found, key=lambda log: (log.block, log.log_index))

    def transaction(self, transaction: bytes) -> Transaction:
        """A transaction by its hash; LackingError if the endpoint does not know it."""
        answer = self.rpc("eth_getTransactionByHash", "0x" + transaction.hex())
        if answer is None:
            raise LackingError(f"the chain at {self.url} has no transaction 0x{transaction.hex()}")
        return self._understand("a transaction", lambda: read_transaction(answer))

    def receipt(self, transaction: bytes) -> TxReceipt | None:
        """What became of a transaction; None while it is not mined."""
        answer = self.rpc("eth_getTransactionReceipt", "0x" + transaction.hex())
        return None if answer is None else self._understand("a receipt", lambda: read_receipt(answer))

    # Transactions

    def send(
        self,
        signer: Signer,
        data: bytes,
        *,
        to: str | None,
        gas: int | None = None,
        nonce: int | None = None,
        fees: tuple[int, int] | None = None,
    ) -> bytes:
        """Signs and sends a transaction and returns its hash; it is not mined yet.

        Without `gas` it is estimated, which finds a revert before anything is spent. ChainRevertedError, FundsError
        (no coin for gas), ChainError with code "nonce" (another transaction took it).
        """
        request: dict[str, Any] = {"from": signer.address, "data": "0x" + data.hex()}
        if to is not None:
            request["to"] = to
        limit = self.estimate(request) if gas is None else gas
        taken = self.nonce(signer.address) if nonce is None else nonce
        signed = self.sign(signer, data, to=to, gas=limit, nonce=taken, fees=fees or self.fees())
        self.submit(signed.raw)
        return signed.hash

    def sign(
        self, signer: Signer, data: bytes, *, to: str | None, gas: int, nonce: int, fees: tuple[int, int]
    ) -> SignedTransaction:
        """A transaction that can be sent as often as need be; `fees` as `fees` gives them."""
        request: dict[str, Any] = {"to": to} if to is not None else {}
        signed = signer.account.sign_transaction(
            request
            | {
                "type": 2,
                "data": "0x" + data.hex(),
                "chainId": self.chain_id(),
                "nonce": nonce,
                "gas": gas,
                "maxFeePerGas": fees[0],
                "maxPriorityFeePerGas": fees[1],
                "value": 0,
            }
        )
        return SignedTransaction(bytes(signed.hash), bytes(signed.raw_transaction))

    def estimate(self, request: dict[str, Any]) -> int:
        """Gas for a transaction with a fifth to spare; ChainError if it is more than one transaction may use."""
        used = self._read("eth_estimateGas", [request], read_number)
        if used > GAS_MAX:
            raise ChainError(f"the transaction needs {used} gas, one may use {GAS_MAX}", hint="send smaller batches")
        return min(GAS_MAX, used * GAS_MARGIN[0] // GAS_MARGIN[1])

    def fees(self) -> tuple[int, int]:
        """(highest fee, tip) per gas in wei: room for the base fee to double."""
        try:
            tip = self._read("eth_maxPriorityFeePerGas", [], read_number)
        except ChainUnavailableError:
            raise
        except ChainError:
            tip = TIP_FALLBACK_WEI
        return 2 * self.block("latest").base_fee + tip, tip

    def wait(self, transaction: bytes, timeout_s: float = WAIT_TIMEOUT_S) -> TxReceipt:
        """The receipt once it is mined. ChainRevertedError if it reverted, TimedOutError if it is not mined in time."""
        deadline, pause = time.monotonic() + timeout_s, _POLL_S[0]
        while (receipt := self._receipt_if_there(transaction)) is None:
            if time.monotonic() > deadline:
                raise TimedOutError(
                    f"transaction 0x{transaction.hex()} is not mined after {timeout_s:g} s",
                    hint="it may still be; look again before you send another",
                )
            time.sleep(pause)
            pause = min(2 * pause, _POLL_S[1])
        if receipt.status != 1:
            self._explain(receipt)
        return receipt

    def _receipt_if_there(self, transaction: bytes) -> TxReceipt | None:
        try:
            return self.receipt(transaction)
        except LackingError:  # an endpoint that still indexes says so instead of "not mined"
            return None

    def _explain(self, receipt: TxReceipt) -> None:
        """Raises why a mined transaction reverted, found by asking for it again on the state that it met."""
        with suppress(LackingError):  # that it reverted stands; why stays unknown here
            sent = self.transaction(receipt.transaction)
            self.call(sent.to, sent.data, block=receipt.block, sender=sent.sender)
        raise reverted(b"", f"transaction 0x{receipt.transaction.hex()} reverted")

    def submit(self, raw: bytes) -> None:
        """Sends a signed transaction; that it is there already is no error. See `send` for those that are."""
        try:
            self.rpc("eth_sendRawTransaction", "0x" + raw.hex())
        except ChainError as error:
            text = error.detail.lower()
            if "already known" in text or "already imported" in text:
                return
            if "insufficient funds" in text or "doesn't have enough funds" in text:
                raise FundsError(
                    f"no coin for gas: {error.detail}", hint="send the chain's native coin to the key's address"
                ) from None
            if "nonce" in text or "underpriced" in text:
                raise ChainError(
                    error.detail, hint="another transaction of this key came between", code="nonce"
                ) from None
            raise

    # The machinery

    def rpc(self, method: str, *params: object) -> Any:
        """The result of one JSON-RPC request."""
        return self._result(method, self._post(self._question(method, params)))

    def _rpc_all(self, method: str, params: Sequence[Sequence[object]]) -> list[Any]:
        """The results of several requests in one; one after the other where the endpoint takes no such."""
        if len(params) > 1:
            questions = [self._question(method, one) for one in params]
            with suppress(ChainUnavailableError):
                answer = self._post(questions)
                if isinstance(answer, list) and len(answer) == len(questions):
                    found = {str(item.get("id")): item for item in answer if isinstance(item, dict)}
                    return [self._result(method, found.get(str(one["id"]))) for one in questions]
        return [self.rpc(method, *one) for one in params]

    def _question(self, method: str, params: Sequence[object]) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}

    def _result(self, method: str, answer: Any) -> Any:
        if not isinstance(answer, dict) or ("result" not in answer and "error" not in answer):
            raise self._unavailable(f"it answered {method} with no JSON-RPC")
        if answer.get("error") is not None:
            raise refused(method, answer["error"])
        return answer["result"]

    def _post(self, body: dict[str, Any] | list[dict[str, Any]]) -> Any:
        status, answer = self._exchange(json.dumps(body, separators=(",", ":")).encode())
        if status == HTTP_TOO_LARGE and isinstance(body, dict):
            raise ChainError(f"the chain at {self.url}: {body['method']} is too large for it", hint="send less at once")
        if not 200 <= status < 300 and status != HTTP_BAD_REQUEST:
            raise self._unavailable(f"it answered with HTTP {status}")
        try:
            found = json.loads(answer)
        except (ValueError, RecursionError) as error:
            what = f"with HTTP {status}" if status == HTTP_BAD_REQUEST else "no JSON"
            raise self._unavailable(f"it answered {what}") from error
        if status == HTTP_BAD_REQUEST and not (isinstance(found, dict) and isinstance(found.get("error"), dict)):
            raise self._unavailable(f"it answered with HTTP {status}")
        return found

    def _exchange(self, body: bytes) -> tuple[int, bytes]:
        if self._plain is None:
            return self._exchange_by_client(body)
        try:
            return self._plain.post_json(body)
        except AnswerError as error:
            raise self._unavailable(str(error)) from error

    def _exchange_by_client(self, body: bytes) -> tuple[int, bytes]:
        import httpx

        try:
            patience, headers = Patience(self._timeout_s, len(body)), {"Content-Type": "application/json"}
            with streaming(self._http(), "POST", self.url, patience, content=body, headers=headers) as answer:
                return answer.status_code, whole(answer, patience)
        except (httpx.HTTPError, httpx.InvalidURL, AnswerError) as error:
            raise self._unavailable(str(error) or type(error).__name__) from error

    def _http(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._client is None:
                self._client = httpx.Client(
                    timeout=self._timeout_s,
                    transport=self._transport,
                    verify=trusted(),
                    trust_env=False,
                    follow_redirects=False,
                )
            return self._client

    def _read(self, method: str, params: list[Any], parse: Callable[[Any], T]) -> T:
        answer = self.rpc(method, *params)
        return self._understand(method, lambda: parse(answer))

    def _understand(self, what: str, parse: Callable[[], T]) -> T:
        try:
            return parse()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._unavailable(f"{what} is malformed: {error!r:.200}") from error

    def _unavailable(self, why: str) -> ChainUnavailableError:
        return ChainUnavailableError(
            f"the chain at {self.url} cannot be used: {why}",
            hint="is it running, and is its address (SUANLI_CHAIN) right?",
        )


def _block_id(block: BlockId) -> Any:
    match block:
        case bytes():
            return {"blockHash": "0x" + block.hex()}
        case int():
            return hex(block)
        case _:
            return block
