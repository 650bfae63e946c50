"""The outbox: each transaction of this node is written down before it is sent, and followed until the chain answers.

One at a time and with its own nonce, so a killed daemon can neither lose one nor send it twice: whatever stands in the
file was sent or can be sent again, and only one of its versions is ever mined. A transaction that is stuck is sent
again at a higher fee, within a bound; one that has become void (the chain would refuse it now) is given up.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from suanli_node.engine.runs import write_json
from suanli_protocol import faults, wire
from suanli_protocol.chain import Chain
from suanli_protocol.chain_records import TxReceipt
from suanli_protocol.errors import ChainError, ChainRevertedError, ChainUnavailableError, SuanliError, TimedOutError
from suanli_protocol.escrow import Escrow
from suanli_protocol.signing import Signer

MINED_S = 45.0  # a version is given so long before the next is sent at a higher fee
GONE_S = 15.0  # so long a nonce may be used before the receipt of what used it is told
RAISE = (5, 4)
RAISES_MAX = 6  # in a transaction's life. 1.25^6: at most 3.8 times the highest fee that the chain itself asked for
REPLACES = (11, 10)  # what a pool wants of a version that takes the place of another
log = logging.getLogger(__name__)


@dataclass
class Letter:
    """A transaction under way. `hashes` are those of all its versions, the last sent last."""

    what: str  # the escrow's function
    lease: str  # 0x and hex; empty for what is of no lease
    to: str
    data: str
    nonce: int
    gas: int
    fee: int
    tip: int
    raises: int = 0
    hashes: list[str] = field(default_factory=list)


class Outbox:
    """The one sender of a node's key. Thread-safe; a call waits for the one before."""

    def __init__(self, chain: Chain, signer: Signer, path: Path, ledger: Path, *, mined_s: float = MINED_S) -> None:
        self._chain, self._signer, self._path, self._ledger, self._mined_s = chain, signer, path, ledger, mined_s
        self._lock = threading.RLock()

    def send(self, to: str, data: bytes, *, what: str, lease: str = "") -> TxReceipt:
        """The receipt once it is mined.

        ChainRevertedError if the chain refuses it, before or after; TimedOutError if it is not mined even at the
        highest fee: it stays in the outbox and goes on with the next call.
        """
        with self._lock:
            self.settle()
            gas = self._chain.estimate({"from": self._signer.address, "to": to, "data": wire.to_hex(data)})
            fee, tip = self._chain.fees()
            nonce = self._chain.nonce(self._signer.address)
            letter = Letter(what, lease, to, wire.to_hex(data), nonce, gas, fee, tip)
            return self._carry(letter)

    def settle(self) -> None:
        """Bring to an end what a former process, or a call that timed out, has left. Does nothing otherwise."""
        with self._lock:
            letter = self._left()
            if letter is None:
                return
            log.info("%s %s was under way and is taken up", letter.what, letter.lease)
            try:
                is_gone = self._is_gone(letter)
                receipt = self._answer(letter)
                if receipt is not None:
                    self._conclude(letter, receipt)
                elif not is_gone:
                    self._chain.estimate({"from": self._signer.address, "to": letter.to, "data": letter.data})
                    self._carry(letter)
            except ChainRevertedError as error:
                log.info("%s %s is void by now: %s", letter.what, letter.lease, error.detail)
            self._path.unlink(missing_ok=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nothing else of this key is sent meanwhile: for calls that send by themselves."""
        with self._lock:
            self.settle()
            yield

    def _left(self) -> Letter | None:
        try:
            return Letter(**json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return None

    def _carry(self, letter: Letter) -> TxReceipt:
        for _ in range(RAISES_MAX + 1):
            is_last = bool(letter.hashes) and not self._raise(letter)
            receipt = self._post(letter)
            if receipt is not None:
                return self._conclude(letter, receipt)
            if is_last:
                break
        raise TimedOutError(
            f"{letter.what}: the transaction with nonce {letter.nonce} is not mined at {letter.fee} wei a gas",
            hint="the chain is busy or the endpoint drops transactions; it is tried again",
        )

    def _post(self, letter: Letter) -> TxReceipt | None:
        """One version, new or the last one again: written down, sent, waited for; None if it is not mined in time."""
        former = replace(letter, hashes=list(letter.hashes))
        signed = self._chain.sign(
            self._signer, wire.from_hex(letter.data), to=letter.to, gas=letter.gas, nonce=letter.nonce,
            fees=(letter.fee, letter.tip),
        )  # fmt: skip
        version = wire.to_hex(signed.hash)
        letter.hashes = [*(known for known in letter.hashes if known != version), version]
        write_json(self._path, asdict(letter))
        faults.reach("node.transaction.recorded")
        try:
            self._chain.submit(signed.raw)
        except ChainUnavailableError:
            raise  # it may have been taken: the file says so
        except SuanliError as error:
            if error.code != "nonce":
                self._refused(letter, former, error)
        faults.reach("node.transaction.sent")
        return self._wait(letter)

    def _refused(self, letter: Letter, former: Letter, error: SuanliError) -> None:
        """The endpoint took no such version: it is nowhere. Those before it can still be mined, and stay known."""
        if not former.hashes:
            self._path.unlink(missing_ok=True)
            raise error
        log.warning("%s at %d wei a gas is refused: %s", letter.what, letter.fee, error.detail)
        letter.hashes, letter.fee, letter.tip = former.hashes, former.fee, former.tip
        write_json(self._path, asdict(letter))

    def _wait(self, letter: Letter) -> TxReceipt | None:
        deadline, pause = time.monotonic() + self._mined_s, 0.005
        while (receipt := self._answer(letter)) is None:
            if self._is_gone(letter):
                self._path.unlink(missing_ok=True)
                raise ChainError(
                    f"{letter.what}: another transaction of {self._signer.address} took nonce {letter.nonce}",
                    hint="let one program alone use a node's key", code="nonce",
                )  # fmt: skip
            if time.monotonic() > deadline:
                return None
            time.sleep(pause)
            pause = min(1.0, 2 * pause)
        return receipt

    def _answer(self, letter: Letter) -> TxReceipt | None:
        found = (self._chain.receipt(wire.from_hex(version)) for version in reversed(letter.hashes))
        return next((receipt for receipt in found if receipt is not None), None)

    def _is_gone(self, letter: Letter) -> bool:
        """Whether none of the versions used the nonce. An endpoint may know of a nonce before its receipt is there."""
        deadline = time.monotonic() + GONE_S
        while self._chain.nonce(self._signer.address, "latest") > letter.nonce and self._answer(letter) is None:
            if time.monotonic() >= deadline:
                return True
            time.sleep(0.05)
        return False

    def _raise(self, letter: Letter) -> bool:
        """Offer more than before; False at the bound, beyond which only the chain's own fee is followed."""
        fee, tip = self._chain.fees()
        if letter.raises < RAISES_MAX:
            step, letter.raises = RAISE, letter.raises + 1
        elif fee * REPLACES[1] >= letter.fee * REPLACES[0]:
            step = REPLACES
        else:
            return False
        letter.fee = max(fee, letter.fee * step[0] // step[1] + 1)
        letter.tip = max(tip, letter.tip * step[0] // step[1] + 1)
        log.warning("%s is not mined yet; it is sent again at %d wei a gas", letter.what, letter.fee)
        return True

    def _conclude(self, letter: Letter, receipt: TxReceipt) -> TxReceipt:
        self.note(receipt, what=letter.what, lease=letter.lease)
        self._path.unlink(missing_ok=True)
        faults.reach("node.transaction.mined")
        return self._chain.wait(receipt.transaction)  # raises what it reverted with

    def note(self, receipt: TxReceipt, *, what: str, lease: str = "") -> None:
        """Write down what a transaction cost."""
        line: dict[str, Any] = {
            "at": int(time.time()), "what": what, "lease": lease, "transaction": wire.to_hex(receipt.transaction),
            "gasUsed": receipt.gas_used, "wei": str(receipt.cost_wei),
        }  # fmt: skip
        with self._ledger.open("a", encoding="ascii") as file:
            file.write(json.dumps(line) + "\n")


class OutboxEscrow(Escrow):
    """An escrow all of whose transactions by the node's key go through the outbox."""

    def __init__(self, chain: Chain, address: str, outbox: Outbox) -> None:
        super().__init__(chain, address)
        self.outbox = outbox
        self._purpose = threading.local()

    @contextmanager
    def purpose(self, what: str, lease: str = "") -> Iterator[None]:
        """What the transactions of this thread are for."""
        self._purpose.said = (what, lease)
        try:
            yield
        finally:
            self._purpose.said = ("", "")

    def _transact(self, signer: Signer, data: bytes) -> TxReceipt:  # noqa: ARG002 (the outbox has the one key)
        what, lease = getattr(self._purpose, "said", ("", ""))
        return self.outbox.send(self.address, data, what=what or "call", lease=lease)
