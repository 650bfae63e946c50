"""Any message verifies under its signer, domain and content, and under nothing else."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from suanli_protocol.errors import SignatureError
from suanli_protocol.messages import Bid, Link, Message, Offer, Receipt, Request
from suanli_protocol.signing import Domain, Signer, struct_hash, verify
from support import builders
from support.strategies import ADDRESSES, structs, uints

KEYS = st.integers(1, 2**255).map(lambda n: Signer(n.to_bytes(32, "big")))
DOMAINS = st.builds(Domain, uints(64), ADDRESSES)
MESSAGES = st.one_of(structs(Offer), structs(Bid), structs(Receipt), structs(Link), structs(Request))
MANY = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def holds(domain: Domain, message: Message, signature: bytes, signer: str) -> bool:
    try:
        verify(domain, message, signature, signer)
    except SignatureError:
        return False
    return True


@MANY
@given(signer=KEYS, domain=DOMAINS, message=MESSAGES)
def test_what_is_signed_verifies(signer: Signer, domain: Domain, message: Message) -> None:
    signature = signer.sign(domain, message)
    assert len(signature) == 64
    assert holds(domain, message, signature, signer.address)
    assert signature == signer.sign(domain, message)


@MANY
@given(signer=KEYS, domain=DOMAINS, other=DOMAINS, message=MESSAGES)
def test_a_signature_is_good_on_one_escrow(signer: Signer, domain: Domain, other: Domain, message: Message) -> None:
    assert holds(other, message, signer.sign(domain, message), signer.address) == (domain == other)


@MANY
@given(message=MESSAGES, other=MESSAGES)
def test_a_signature_is_good_for_one_message_alone(message: Message, other: Message) -> None:
    signer, domain = builders.consumer(), builders.a_domain()
    assert (struct_hash(message) == struct_hash(other)) == (message == other)
    assert holds(domain, other, signer.sign(domain, message), signer.address) == (message == other)


@MANY
@given(at=st.integers(0, 511), receipt=structs(Receipt))
def test_no_flipped_bit_verifies(at: int, receipt: Receipt) -> None:
    signer, domain = builders.consumer(), builders.a_domain()
    signature = bytearray(signer.sign(domain, receipt))
    signature[at // 8] ^= 1 << at % 8
    assert not holds(domain, receipt, bytes(signature), signer.address)
    assert not holds(domain, replace(receipt, kind=receipt.kind ^ 1), signer.sign(domain, receipt), signer.address)


@MANY
@given(noise=st.binary(max_size=70))
def test_noise_is_no_signature(noise: bytes) -> None:
    assert not holds(builders.a_domain(), builders.a_bid(), noise, builders.consumer().address)
