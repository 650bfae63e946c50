"""Every field of every signed message, changed; every signature, bent; every domain but the right one; every replay.

None may be accepted. SUANLI_FORGERIES says how many are tried, SUANLI_FUZZ_SEED which.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest

from suanli_protocol import messages
from suanli_protocol.errors import SignatureError
from suanli_protocol.gate import Gate
from suanli_protocol.market_client import signed_headers
from suanli_protocol.messages import Message, solidity_fields
from suanli_protocol.signing import Domain, Signer, checksum_address, verify
from support import builders

FORGERIES = int(os.environ.get("SUANLI_FORGERIES", "5000"))
SEED = int(os.environ.get("SUANLI_FUZZ_SEED", "1"))
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
PARITY = 1 << 255
KINDS = sorted(
    (kind for kind in vars(messages).values() if isinstance(kind, type) and issubclass(kind, Message)),
    key=lambda kind: kind.__name__,
)
KINDS.remove(Message)


def a_value(random: Random, solidity: str) -> Any:
    """Any value of a type; the ends of its range as often as what lies between."""
    match solidity:
        case "address":
            return checksum_address(random.randbytes(20))
        case "bytes32":
            return random.randbytes(32)
        case "bool":
            return random.random() < 0.5
        case "string":
            return "".join(chr(random.randrange(32, 0x3000)) for _ in range(random.randrange(40)))
    top = 2 ** int(solidity.removeprefix("uint")) - 1
    return random.choice([random.randrange(min(top, 100) + 1), top, random.randrange(top + 1)])


def another(random: Random, solidity: str, value: Any) -> Any:
    """Another value of the type: near it, or any."""
    near: Any
    match solidity:
        case "address":
            near = checksum_address(flipped(random, bytes.fromhex(value[2:])))
        case "bytes32":
            near = flipped(random, value)
        case "bool":
            near = not value
        case "string":
            near = random.choice([value + "\0", value + " ", value[1:], value[:-1], value.swapcase(), value[::-1]])
        case _:
            near = value ^ 1 << random.randrange(int(solidity.removeprefix("uint")))
    found = near if random.random() < 0.5 else a_value(random, solidity)
    return another(random, solidity, value) if found == value else found


def flipped(random: Random, data: bytes) -> bytes:
    """With one bit the other way."""
    bit = random.randrange(8 * len(data))
    return (int.from_bytes(data) ^ 1 << bit).to_bytes(len(data))


def bent(random: Random, signature: bytes) -> Iterator[tuple[str, bytes]]:
    """A good signature in every other form that a careless reader takes for as good."""
    r, packed = signature[:32], int.from_bytes(signature[32:])
    s, parity = packed & (PARITY - 1), packed >> 255
    high = ORDER - s
    yield "bit", flipped(random, signature)
    yield "other parity", r + (packed ^ PARITY).to_bytes(32)
    yield "high s", r + high.to_bytes(32)
    if high < PARITY:
        yield "high s, other parity", r + (high | (1 - parity) * PARITY).to_bytes(32)
    yield "65 bytes", r + s.to_bytes(32) + bytes([27 + parity])
    yield "65 bytes, v 0 or 1", r + s.to_bytes(32) + bytes([parity])
    yield "trailing byte", signature + b"\0"
    yield "cut", signature[:-1]
    yield "empty", b""
    yield "zero r", bytes(32) + signature[32:]
    yield "zero s", r + bytes(32)
    yield "r beyond the order", (ORDER + int.from_bytes(r) % 2**100).to_bytes(32) + signature[32:]
    yield "swapped", signature[32:] + r
    yield "noise", random.randbytes(64)


@dataclass
class Tally:
    """What was tried, by kind and by way, and what was wrongly accepted."""

    tried: Counter[str] = field(default_factory=Counter)
    accepted: list[str] = field(default_factory=list)

    def forge(self, way: str, domain: Domain, message: Message, signature: bytes, signer: str) -> None:
        """One forgery."""
        self.tried[way] += 1
        try:
            verify(domain, message, signature, signer)
        except SignatureError:
            return
        self.accepted.append(f"{way}: {message!r} {signature.hex()} {signer}")


def forgeries(random: Random, tally: Tally) -> None:
    """All forgeries of one message of each kind."""
    signer, other = (Signer(random.randbytes(32)) for _ in range(2))
    domain = builders.a_domain()
    escrow = checksum_address(flipped(random, bytes.fromhex(domain.escrow[2:])))
    foreign = [replace(domain, chain_id=domain.chain_id ^ 1 << random.randrange(64)), replace(domain, escrow=escrow)]
    for kind in KINDS:
        types = dict(solidity_fields(kind))
        message = kind(**{name: a_value(random, solidity) for name, solidity in types.items()})
        signature = signer.sign(domain, message)
        verify(domain, message, signature, signer.address)
        for name, solidity in types.items():
            changed = replace(message, **{name: another(random, solidity, getattr(message, name))})
            tally.forge(f"{kind.__name__}.{name}", domain, changed, signature, signer.address)
        for way, bad in bent(random, signature):
            tally.forge(way, domain, message, bad, signer.address)
        for abroad in foreign:
            tally.forge("foreign", abroad, message, signature, signer.address)
        tally.forge("another's", domain, message, signature, other.address)
        tally.forge("another's signature", domain, message, other.sign(domain, message), signer.address)
        for of in KINDS:  # the same signature under a message of another kind with the same values where they fit
            if of is not kind and dict(solidity_fields(of)).values() == types.values():
                tally.forge("another kind", domain, of(*vars(message).values()), signature, signer.address)


def test_no_forged_message_is_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    random, tally = Random(SEED), Tally()
    while tally.tried.total() < FORGERIES:
        forgeries(random, tally)
    with capsys.disabled():
        print(f"\n{tally.tried.total()} forged messages of {len(KINDS)} kinds: {len(tally.accepted)} accepted")
    assert tally.accepted == []
    fields_of_all = {f"{kind.__name__}.{name}" for kind in KINDS for name, _ in solidity_fields(kind)}
    assert fields_of_all <= tally.tried.keys(), "each field of each kind was changed"
    assert len({min(tally.tried[name], 10**9) for name in fields_of_all}) == 1


def test_no_request_is_accepted_twice_late_or_for_another_service(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    random, accepted, tried = Random(SEED), [], 0
    domain, here, there = builders.a_domain(), builders.market().address, builders.a_signer(9).address
    gate, abroad = Gate(domain, here), Gate(replace(domain, chain_id=domain.chain_id + 1), here)
    elsewhere, clock = Gate(domain, there), time.time

    def refused(at: Gate, *request: Any) -> None:
        nonlocal tried
        tried += 1
        try:
            at.check(*request)
        except SignatureError:
            return
        accepted.append(request)

    while tried < FORGERIES // 5:
        signer, body = Signer(random.randbytes(32)), random.randbytes(random.randrange(40))
        method, target = random.choice(["GET", "POST", "PUT"]), f"/v1/leases/{random.randrange(1000)}?after=1"
        headers = {name.lower(): value for name, value in
                   signed_headers(signer, domain, here, method, target, body).items()}  # fmt: skip
        for place in (abroad, elsewhere):
            refused(place, method, target, body, headers)
        refused(gate, "DELETE", target, body, headers)
        refused(gate, method, target + "0", body, headers)
        refused(gate, method, target, body + b"\0", headers)
        for name in headers:
            refused(gate, method, target, body, {**headers, name: ""})
        with monkeypatch.context() as patched:
            patched.setattr(time, "time", lambda: clock() + random.choice([-3600, -63, 63, 3600]))
            refused(gate, method, target, body, headers)
        assert gate.check(method, target, body, headers) == signer.address
        refused(gate, method, target, body, headers)
    with capsys.disabled():
        print(f"\n{tried} replayed or bent requests: {len(accepted)} accepted")
    assert accepted == []
