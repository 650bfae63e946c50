"""Letters: transactions that are brought to the chain's answer at one nonce, however often that takes.

A letter is written down before each of its versions is sent, so whoever is killed can neither lose one nor have it
mined twice: what is written down was sent or can be sent again, and only one version of a nonce is ever mined. Signing
is deterministic: the same fields give the same transaction. One that is stuck is replaced at a higher fee, up to a
bound that restarts do not move; beyond it only the chain's own fee is followed. One that the endpoint refuses, and
holds no version of, leaves its nonce to a transaction that does nothing; so does one that was mined once and that a
reorganisation took, if it is not carried again while another waits behind it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from suanli_protocol import wire
from suanli_protocol.chain import Chain
from suanli_protocol.chain_records import TxReceipt
from suanli_protocol.errors import ChainError, ChainUnavailableError, FundsError, SuanliError, TimedOutError
from suanli_protocol.rpc_errors import LackingError
from suanli_protocol.signing import Signer

MINED_S = 45.0  # a version is given so long before it is replaced
LOOK_S = 1.0  # the longest pause between two looks
GAP_S = 20.0  # so long a nonce before a letter's may be held by nothing before it is used up
GONE_S = 15.0  # so long a nonce may be used before the receipt of what used it is told
RAISE = (5, 4)
RAISES_MAX = 6  # in a letter's life. 1.25^6: at most 3.8 times the highest fee that the chain itself asked for
REPLACES = (11, 10)  # what a pool wants of a version that takes the place of another
log = logging.getLogger(__name__)


class NonceTakenError(ChainError):
    """Another transaction of the key used the letter's nonce: the letter can never be mined."""

    code = "nonce"


@dataclass(kw_only=True)
class Letter:
    """A transaction under way. Fees in wei per gas; `hashes` are those of all its versions, the last sent last."""

    to: str
    data: str  # 0x and hex
    nonce: int
    gas: int
    fee: int
    tip: int
    raises: int = 0
    hashes: list[str] = field(default_factory=list)

    def raised(self, fees: tuple[int, int]) -> bool:
        """Offers more than before, and the chain's `fees` at least; False at the bound."""
        if self.raises < RAISES_MAX:
            step, self.raises = RAISE, self.raises + 1
        elif fees[0] * REPLACES[1] >= self.fee * REPLACES[0]:
            step = REPLACES
        else:
            return False
        self.fee, self.tip = max(fees[0], _up(self.fee, step)), max(fees[1], _up(self.tip, step))
        return True


L = TypeVar("L", bound=Letter)


class Carrier(Generic[L]):
    """Carries the letters of one key, one at a time. `keep` writes a letter down: it is told before each sending."""

    def __init__(
        self,
        chain: Chain,
        signer: Signer,
        *,
        keep: Callable[[L], None],
        on_sent: Callable[[L], None] = lambda _: None,
        is_ended: Callable[[], bool] = lambda: False,
        mined_s: float = MINED_S,
    ) -> None:
        self._chain, self._signer = chain, signer
        self._keep, self._on_sent, self._is_ended, self._mined_s = keep, on_sent, is_ended, mined_s
        self._gap_since: float | None = None  # (monotonic)

    def carry(self, letter: L) -> TxReceipt:
        """The receipt once a version is mined; it may say that it reverted.

        NonceTakenError; TimedOutError if it is not mined even at the highest fee, or `is_ended`: carry it again. With
        `hashes` left empty any other error is the endpoint's refusal: the letter is nowhere.
        """
        receipt = self.answer(letter)
        if receipt is not None:
            return receipt
        self._require_nonce(letter)
        self._gap_since = None
        while True:
            self._post(letter)
            receipt = self._wait(letter)
            if receipt is not None:
                return receipt
            if not letter.raised(self._chain.fees()):
                raise TimedOutError(
                    f"the transaction with nonce {letter.nonce} is not mined at {letter.fee} wei a gas",
                    hint="the chain is busy or the endpoint drops transactions; it is tried again",
                )
            log.warning("nonce %d is not mined yet; it is sent again at %d wei a gas", letter.nonce, letter.fee)

    def answer(self, letter: L) -> TxReceipt | None:
        """The receipt of whichever version was mined; None while none is."""
        found = (self._chain.receipt(wire.from_hex(version)) for version in reversed(letter.hashes))
        return next((receipt for receipt in found if receipt is not None), None)

    def is_gone(self, letter: L) -> bool:
        """Whether none of the versions used the nonce. An endpoint may know of a nonce before its receipt is there."""
        deadline = time.monotonic() + GONE_S
        while self._chain.nonce(self._signer.address, "latest") > letter.nonce and self.answer(letter) is None:
            if time.monotonic() >= deadline:
                return True
            time.sleep(0.05)
        return False

    def _post(self, letter: L) -> None:
        """Sends a version, new or the last one again, once it is written down."""
        former = replace(letter, hashes=list(letter.hashes))
        signed = self._chain.sign(
            self._signer, wire.from_hex(letter.data), to=letter.to, gas=letter.gas, nonce=letter.nonce,
            fees=(letter.fee, letter.tip),
        )  # fmt: skip
        version = wire.to_hex(signed.hash)
        letter.hashes = [*(known for known in letter.hashes if known != version), version]
        self._keep(letter)
        try:
            self._chain.submit(signed.raw)
        except ChainUnavailableError:
            raise  # it may have been taken: what is written down says so
        except SuanliError as error:
            if error.code != "nonce":  # with it, it is mined, or another holds the nonce: waiting tells
                self._refused(letter, former, error)
        self._on_sent(letter)

    def _refused(self, letter: L, former: L, error: SuanliError) -> None:
        """The endpoint took no such version: it is nowhere. Those before it can still be mined, and stay known."""
        letter.hashes, letter.fee, letter.tip = former.hashes, former.fee, former.tip
        if not letter.hashes:
            raise error
        log.warning("nonce %d is refused: %s", letter.nonce, error.detail)
        self._keep(letter)
        if not isinstance(error, FundsError) and not self._is_known(letter):
            self._fill(letter)

    def _is_known(self, letter: L) -> bool:
        """Whether the endpoint holds any version."""
        for version in letter.hashes:
            with suppress(LackingError):
                self._chain.transaction(wire.from_hex(version))
                return True
        return False

    def _fill(self, letter: L) -> None:
        """Sends a transaction that does nothing at the letter's nonce: what nobody takes must hold up no other.

        Nothing is written down for it: whichever of them is mined, the letter's own receipt tells.
        """
        self._use_up(letter.nonce, (_up(letter.fee, RAISE), _up(letter.tip, RAISE)), "no version of it is taken")

    def _close_gap(self, letter: L) -> None:
        """Uses up the nonces before the letter's that nothing holds any more, once that has been so for GAP_S.

        A transaction that was mined there was lost with its block, and no pool has it. What it was for shows on the
        chain, and is looked after as if it had never been sent.
        """
        free = self._chain.nonce(self._signer.address, "pending")
        now = time.monotonic()
        if free >= letter.nonce:
            self._gap_since = None
        elif self._gap_since is None:
            self._gap_since = now
        elif now - self._gap_since >= GAP_S:
            self._gap_since = None
            for nonce in range(free, letter.nonce):
                self._use_up(nonce, (letter.fee, letter.tip), f"nonce {letter.nonce} waits behind it")

    def _use_up(self, nonce: int, fees: tuple[int, int], why: str) -> None:
        """Sends a transaction that does nothing, at these fees or the chain's own if they are higher."""
        own = self._signer.address
        gas = self._chain.estimate({"from": own, "to": own, "data": "0x"})
        fee, tip = (max(pair) for pair in zip(self._chain.fees(), fees, strict=True))
        signed = self._chain.sign(self._signer, b"", to=own, gas=gas, nonce=nonce, fees=(fee, tip))
        log.warning("nonce %d goes to a transaction that does nothing: %s", nonce, why)
        try:
            self._chain.submit(signed.raw)
        except ChainUnavailableError:
            raise
        except SuanliError as error:
            log.warning("nor is that taken: %s", error.detail)

    def _wait(self, letter: L) -> TxReceipt | None:
        """The receipt; None if it is not mined in time."""
        deadline, pause = time.monotonic() + self._mined_s, 0.005
        while not self._is_ended():
            is_over = time.monotonic() > deadline
            with suppress(LackingError):  # an endpoint that still indexes says so instead of "not mined"
                receipt = self.answer(letter)
                if receipt is not None:
                    return receipt
                if is_over or pause >= LOOK_S:
                    self._require_nonce(letter)
                    self._close_gap(letter)
            if is_over:
                return None
            time.sleep(pause)
            pause = min(LOOK_S, 2 * pause)
        raise TimedOutError(
            f"the transaction with nonce {letter.nonce} is waited for no longer", hint="it goes on later"
        )

    def _require_nonce(self, letter: L) -> None:
        if letter.hashes and self.is_gone(letter):
            raise NonceTakenError(
                f"another transaction of {self._signer.address} took nonce {letter.nonce}",
                hint="let one program alone use a key",
            )


def _up(amount: int, times: tuple[int, int]) -> int:
    return amount * times[0] // times[1] + 1
