"""Events of the escrow as an endpoint tells them: decoded, passed over, or refused; never a surprise."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode

from suanli_protocol.chain_records import Log
from suanli_protocol.errors import ProtocolError
from suanli_protocol.events import Refused, decode_event
from suanli_protocol.lease import Refusal
from suanli_protocol.signing import keccak256

SEAT = b"\x07" * 32


def refused(code: int, signature: bytes = b"Refused(bytes32,uint16,uint8)") -> Log:
    """A log that says that an opening was left out."""
    topics = (keccak256(signature), SEAT)
    return Log("0x" + "11" * 20, topics, encode(["uint16", "uint8"], [0, code]), 5, bytes(32), bytes(32), 0)


def test_a_refusal_is_decoded() -> None:
    event = decode_event(refused(Refusal.CAPACITY))
    assert isinstance(event, Refused)
    assert (event.seat, event.refusal, event.block) == (SEAT, Refusal.CAPACITY, 5)


def test_a_code_that_no_escrow_gives_is_malformed() -> None:
    with pytest.raises(ProtocolError):
        decode_event(refused(200))


def test_an_event_that_is_not_the_escrows_is_passed_over() -> None:
    assert decode_event(refused(0, b"Transfer(address,address,uint256)")) is None
