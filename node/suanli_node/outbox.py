"""The outbox: each transaction of this node is written down before it is sent, and followed until the chain answers.

One at a time and with its own nonce, so a killed daemon can neither lose one nor send it twice (`letters`). One that
has become void (the chain would refuse it now) is given up.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from suanli_node.engine.runs import write_json
from suanli_protocol import faults, letters, wire
from suanli_protocol.chain import Chain
from suanli_protocol.chain_records import TxReceipt
from suanli_protocol.errors import ChainRevertedError, SuanliError
from suanli_protocol.escrow import Escrow
from suanli_protocol.letters import MINED_S, Carrier, NonceTakenError
from suanli_protocol.signing import Signer

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Letter(letters.Letter):
    """A transaction under way."""

    what: str  # the escrow's function
    lease: str  # 0x and hex; empty for what is of no lease


class Outbox:
    """The one sender of a node's key. Thread-safe; a call waits for the one before."""

    def __init__(self, chain: Chain, signer: Signer, path: Path, ledger: Path, *, mined_s: float = MINED_S) -> None:
        self._chain, self._signer, self._path, self._ledger = chain, signer, path, ledger
        self._carrier = Carrier[Letter](chain, signer, keep=self._keep, on_sent=_sent, mined_s=mined_s)
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
            return self._carry(
                Letter(what=what, lease=lease, to=to, data=wire.to_hex(data), nonce=nonce, gas=gas, fee=fee, tip=tip)
            )

    def settle(self) -> None:
        """Bring to an end what a former process, or a call that timed out, has left. Does nothing otherwise."""
        with self._lock:
            letter = self._left()
            if letter is None:
                return
            log.info("%s %s was under way and is taken up", letter.what, letter.lease)
            try:
                if not self._carrier.is_gone(letter) and self._carrier.answer(letter) is None:
                    self._chain.estimate({"from": self._signer.address, "to": letter.to, "data": letter.data})
                self._carry(letter)
            except (ChainRevertedError, NonceTakenError) as error:
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

    def _keep(self, letter: Letter) -> None:
        write_json(self._path, asdict(letter))
        faults.reach("node.transaction.recorded")

    def _carry(self, letter: Letter) -> TxReceipt:
        try:
            receipt = self._carrier.carry(letter)
        except NonceTakenError:
            self._path.unlink(missing_ok=True)
            raise
        except SuanliError:
            if not letter.hashes:
                self._path.unlink(missing_ok=True)  # the endpoint refused it: it is nowhere
            raise
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


def _sent(_: Letter) -> None:
    faults.reach("node.transaction.sent")


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
