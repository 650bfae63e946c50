"""Signature checks a second on one core: an EIP-712 offer hashed, its signer recovered and compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from eth_account import Account
from eth_account.messages import encode_typed_data

from bench.rows import Row, Target, beside, measured
from suanli_protocol.messages import Message, Offer, solidity_fields
from suanli_protocol.signing import verify
from support.builders import a_domain, an_offer, provider

CHECKS, ROUNDS = 300, 7


def measure() -> Iterator[Row]:
    """Ours beside eth-account, which recovers by the same libsecp256k1."""
    domain, signer = a_domain(), provider()
    offers = [an_offer(counter=number) for number in range(CHECKS)]
    signatures = [signer.sign(domain, offer) for offer in offers]
    typed = {"Offer": [{"name": _camel(name), "type": kind} for name, kind in solidity_fields(Offer)]}
    named = {"name": "Suanli", "version": "1", "chainId": domain.chain_id, "verifyingContract": domain.escrow}

    def ours() -> None:
        for offer, signature in zip(offers, signatures, strict=True):
            verify(domain, offer, signature, signer.address)

    full = [_long(signature) for signature in signatures]
    bodies = [_body(offer) for offer in offers]

    def theirs() -> None:
        for body, signature in zip(bodies, full, strict=True):
            signable = encode_typed_data(named, typed, body)
            assert Account.recover_message(signable, signature=signature) == signer.address

    own, other = rates(ours), rates(theirs)
    yield measured("offers checked", "/s", own, beside=(beside("eth-account with coincurve", other),),
                   target=Target("at least", 2_500, 12_000))  # fmt: skip


def rates(work: Callable[[], None]) -> list[float]:
    """Checks a second of each round, after one that warms up."""
    found = []
    for _ in range(ROUNDS + 1):
        begun = time.perf_counter()
        work()
        found.append(CHECKS / (time.perf_counter() - begun))
    return found[1:]


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.title() for word in rest)


def _body(message: Message) -> dict[str, Any]:
    return {_camel(name): getattr(message, name) for name, _ in solidity_fields(type(message))}


def _long(compact: bytes) -> bytes:
    """65 bytes r ‖ s ‖ v, as eth-account takes them."""
    vs = int.from_bytes(compact[32:], "big")
    s, parity = vs & ((1 << 255) - 1), vs >> 255
    return compact[:32] + s.to_bytes(32, "big") + bytes([27 + parity])
