"""EIP-712 hashing and signing on libsecp256k1 (coincurve).

Signatures are 64 bytes, compact (EIP-2098): r ‖ (y-parity << 255 | s), s in the lower half. Sources: EIP-712,
EIP-2098, EIP-2 (low s).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

import coincurve
from eth_hash.auto import keccak

from suanli_protocol.errors import SignatureError
from suanli_protocol.messages import Message, solidity_fields, type_string

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from eth_account.signers.local import LocalAccount

NAME = "Suanli"
VERSION = "1"
HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_PARITY = 1 << 255
_DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"


def keccak256(data: bytes) -> bytes:
    """Keccak-256 as Ethereum uses it."""
    return keccak(data)


def address_bytes(address: str) -> bytes:
    """The 20 bytes of a hex address; SignatureError if it is none."""
    try:
        raw = bytes.fromhex(address.removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) != 20:
        raise SignatureError(f"{address!r} is not an address", hint="addresses are 0x and 40 hex digits")
    return raw


def checksum_address(raw: bytes) -> str:
    """The EIP-55 text of 20 bytes."""
    text = raw.hex()
    mask = keccak(text.encode()).hex()
    return "0x" + "".join(c.upper() if int(m, 16) >= 8 else c for c, m in zip(text, mask, strict=False))


@cache
def type_hash(kind: type) -> bytes:
    """EIP-712 typeHash of a message class."""
    return keccak(type_string(kind).encode())


def _encode(solidity: str, value: object) -> bytes:
    if solidity == "address":
        return bytes(12) + address_bytes(str(value))
    if solidity == "string":
        return keccak(str(value).encode())
    if solidity == "bytes32":
        if not isinstance(value, bytes) or len(value) != 32:
            raise ValueError(f"{value!r} is not 32 bytes")
        return value
    number = int(value)  # type: ignore[call-overload]
    limit = 2 if solidity == "bool" else 1 << int(solidity.removeprefix("uint"))
    if not 0 <= number < limit:
        raise ValueError(f"{number} does not fit in {solidity}")
    return int.to_bytes(number, 32, "big")


def struct_hash(message: Message) -> bytes:
    """EIP-712 hashStruct; ValueError if a field does not fit its type."""
    kind = type(message)
    words = [_encode(solidity, getattr(message, name)) for name, solidity in solidity_fields(kind)]
    return keccak(type_hash(kind) + b"".join(words))


@dataclass(frozen=True)
class Domain:
    """Where a signature is good: one escrow on one chain."""

    chain_id: int
    escrow: str

    @cached_property
    def separator(self) -> bytes:
        """EIP-712 domainSeparator."""
        return keccak(
            keccak(_DOMAIN_TYPE.encode())
            + keccak(NAME.encode())
            + keccak(VERSION.encode())
            + _encode("uint256", self.chain_id)
            + _encode("address", self.escrow)
        )

    def digest(self, message: Message) -> bytes:
        """The 32 bytes that are signed."""
        return keccak(b"\x19\x01" + self.separator + struct_hash(message))


class Signer:
    """A party's key. It never prints, pickles or hands out the secret but to the transaction signer."""

    def __init__(self, secret: bytes) -> None:
        self._key = coincurve.PrivateKey(secret)
        self.address = checksum_address(keccak(self._key.public_key.format(compressed=False)[1:])[12:])

    def __repr__(self) -> str:
        return f"Signer({self.address})"

    def __reduce__(self) -> str:
        raise TypeError("a key is never pickled")

    def sign(self, domain: Domain, message: Message) -> bytes:
        """A 64-byte compact signature of the message under the domain."""
        signature = self._key.sign_recoverable(domain.digest(message), hasher=None)
        s = int.from_bytes(signature[32:64], "big")
        return signature[:32] + (s | (_PARITY if signature[64] else 0)).to_bytes(32, "big")

    @cached_property
    def account(self) -> LocalAccount:
        """The same key as eth-account's, for signing transactions (imported late: it costs a second)."""
        from eth_account import Account

        account: LocalAccount = Account.from_key(self._key.secret)
        return account

    @cached_property
    def encryption_key(self) -> X25519PrivateKey:
        """The X25519 key derived from this key by HKDF-SHA256, to which data for this party is sealed."""
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        derived = HKDF(SHA256(), 32, salt=None, info=b"suanli encryption key 1").derive(self._key.secret)
        return X25519PrivateKey.from_private_bytes(derived)

    @property
    def encryption_public(self) -> bytes:
        """The 32 bytes of the public encryption key, as they stand in signed documents."""
        return self.encryption_key.public_key().public_bytes_raw()


def recover(digest: bytes, signature: bytes) -> str:
    """The address that signed the digest; SignatureError if the signature is malformed or not canonical."""
    if len(signature) != 64:
        raise SignatureError(f"a signature has 64 bytes, this one {len(signature)}")
    vs = int.from_bytes(signature[32:], "big")
    s, parity = vs & (_PARITY - 1), vs >> 255
    if not 0 < s <= HALF_ORDER:
        raise SignatureError("the signature's s is zero or in the upper half of the order")
    try:
        raw = signature[:32] + s.to_bytes(32, "big") + bytes([parity])
        key = coincurve.PublicKey.from_signature_and_message(raw, digest, hasher=None)
    except Exception as error:  # coincurve raises ValueError or bare Exception for input that recovers to no key
        raise SignatureError("the signature recovers to no key") from error
    return checksum_address(keccak(key.format(compressed=False)[1:])[12:])


def verify(domain: Domain, message: Message, signature: bytes, signer: str) -> None:
    """SignatureError unless `signer` signed the message under the domain."""
    found = recover(domain.digest(message), signature)
    if found.lower() != signer.lower():
        raise SignatureError(
            f"{type(message).__name__} is signed by {found}, not by {signer}",
            hint="sign with the key of the named party, for this chain and escrow",
        )
