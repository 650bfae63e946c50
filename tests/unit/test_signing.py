"""Signing against eth_account, a second and independent maker of EIP-712 signatures; and what is no signature."""

from __future__ import annotations

import copy
import pickle

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from web3 import Web3

from suanli_protocol.errors import SignatureError
from suanli_protocol.messages import Bid, Delivered, Message, Offer, Request, solidity_fields, to_camel
from suanli_protocol.signing import (
    HALF_ORDER,
    Domain,
    Signer,
    address_bytes,
    checksum_address,
    keccak256,
    recover,
    struct_hash,
    verify,
)
from support import builders

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
PARITY = 1 << 255

MESSAGES = [
    builders.an_offer(),
    builders.a_bid(),
    builders.a_receipt(),
    Request(builders.consumer().address, builders.market().address, "GET", "/v1/é?x=1", bytes(32), 7, b"\x01" * 32),
    Delivered(builders.market().address, b"\x01" * 32, "job", b"\x02" * 32, 2**64 - 1, 5),
]


def signable(domain: Domain, message: Message) -> object:
    """eth_account's form of the same message."""
    kind = type(message)
    names = {"name": "Suanli", "version": "1", "chainId": domain.chain_id, "verifyingContract": domain.escrow}
    types = {kind.__name__: [{"name": to_camel(name), "type": solidity} for name, solidity in solidity_fields(kind)]}
    values = {to_camel(name): getattr(message, name) for name, _ in solidity_fields(kind)}
    return encode_typed_data(names, types, values)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_signatures_are_those_of_eth_account(message: Message) -> None:
    signer, domain = builders.consumer(), builders.a_domain()
    theirs = Account.sign_message(signable(domain, message), signer.account.key)
    ours = signer.sign(domain, message)
    assert ours[:32] == theirs.r.to_bytes(32, "big")
    assert int.from_bytes(ours[32:], "big") == theirs.s | (PARITY if theirs.v == 28 else 0)
    assert signer.account.address == signer.address
    verify(domain, message, ours, signer.address.lower())


def test_another_party_chain_or_escrow_does_not_verify() -> None:
    signer, domain, bid = builders.consumer(), builders.a_domain(), builders.a_bid()
    signature = signer.sign(domain, bid)
    with pytest.raises(SignatureError, match="not by"):
        verify(domain, bid, signature, builders.provider().address)
    for other in (builders.a_domain(chain_id=1), builders.a_domain(escrow=builders.market().address)):
        with pytest.raises(SignatureError):
            verify(other, bid, signature, signer.address)
    with pytest.raises(SignatureError):
        verify(domain, builders.a_bid(budget=1), signature, signer.address)


def test_only_one_form_of_a_signature_is_taken() -> None:
    signer, domain, bid = builders.consumer(), builders.a_domain(), builders.a_bid()
    signature = signer.sign(domain, bid)
    vs = int.from_bytes(signature[32:], "big")
    s, parity = vs & PARITY - 1, vs >> 255
    assert 0 < s <= HALF_ORDER
    high = (ORDER - s) | (0 if parity else PARITY)
    for forged in (
        b"",
        signature[:-1],
        signature + b"\0",
        bytes(64),
        signature[:32] + bytes(32),
        bytes(32) + signature[32:],
        b"\xff" * 64,
        signature[:32] + high.to_bytes(33, "big")[-32:],
        signature[:32] + s.to_bytes(32, "big") + bytes([27 + parity]),
    ):
        with pytest.raises(SignatureError):
            verify(domain, bid, forged, signer.address)
    with pytest.raises(SignatureError):
        verify(domain, bid, signature[:32] + (vs ^ PARITY).to_bytes(32, "big"), signer.address)


@pytest.mark.parametrize(
    "text",
    ["", "0x", "0x" + "0" * 39, "0x" + "0" * 41, "0" * 40, "0x" + "g" * 40, "0x" + "00 " * 14, "0x" + "0" * 40 + "\n"],
)
def test_texts_that_are_no_address(text: str) -> None:
    with pytest.raises(SignatureError):
        address_bytes(text)


def test_checksums_are_those_of_eip_55() -> None:
    for text in ("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb"):
        assert checksum_address(address_bytes(text.lower())) == text


@pytest.mark.parametrize(
    "fields",
    [
        {"need": 2**128},
        {"need": -1},
        {"seat": b"\0" * 31},
        {"seat": "0x"},
        {"count": 2**16},
        {"need": 1.0},
        {"gang": 2},
    ],
)
def test_a_field_that_does_not_fit_is_never_hashed(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"fit|32 bytes"):
        struct_hash(builders.a_bid(**fields))


def test_a_key_stays_inside() -> None:
    signer = builders.consumer()
    secret = signer.account.key.hex()
    assert secret not in repr(signer) + str(signer)
    for copier in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            copier(signer)


def test_the_encryption_key_follows_from_the_key() -> None:
    again = Signer(bytes(builders.consumer().account.key))
    assert again.encryption_public == builders.consumer().encryption_public != builders.provider().encryption_public
    assert len(again.encryption_public) == 32


def test_types_of_papers_differ_even_where_values_agree() -> None:
    assert struct_hash(builders.an_offer()) != struct_hash(builders.a_bid())
    assert {Offer, Bid} < set(Message.__subclasses__())


def test_keccak_is_ethereums_and_not_the_later_standard() -> None:
    assert keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak256(b"x" * 200) == Web3.keccak(b"x" * 200)


def test_recover_names_the_signer() -> None:
    digest = b"\x09" * 32
    assert recover(digest, builders.market().sign_digest(digest)) == builders.market().address
