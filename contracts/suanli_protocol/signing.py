"""EIP-712 hashing and signing on libsecp256k1 (coincurve).

Signatures are 64 bytes, compact (EIP-2098): r ‖ (y-parity << 255 | s), s in the lower half. Sources: EIP-712,
EIP-2098, EIP-2 (low s).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING

import coincurve

from suanli_protocol.errors import SignatureError
from suanli_protocol.messages import Message, Struct, solidity_fields, type_string
from suanli_protocol.recursion import limit_kept

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from eth_account.signers.local import LocalAccount

NAME = "Suanli"
VERSION = "1"
HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_PARITY = 1 << 255
_DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"


def _fastest_keccak() -> Callable[[bytes], bytes]:
    """The C extension, where it is installed, hashes eight times as fast as what eth-hash picks."""
    try:
        from sha3 import keccak_256  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError:
        from eth_hash.auto import keccak

        return keccak

    def hashed(data: bytes) -> bytes:
        digest: bytes = keccak_256(data).digest()
        return digest

    return hashed


keccak = _fastest_keccak()


def keccak256(data: bytes) -> bytes:
    """Keccak-256 as Ethereum uses it."""
    return keccak(data)


_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")


@lru_cache(maxsize=8192)
def address_bytes(address: str) -> bytes:
    """The 20 bytes of a hex address; SignatureError if it is none."""
    if _ADDRESS.fullmatch(address) is None:
        raise SignatureError(f"{address!r:.80} is not an address", hint="addresses are 0x and 40 hex digits")
    return bytes.fromhex(address[2:])


@lru_cache(maxsize=8192)
def checksum_address(raw: bytes) -> str:
    """The EIP-55 text of 20 bytes."""
    text = raw.hex()
    mask = keccak(text.encode()).hex()
    return "0x" + "".join(c.upper() if int(m, 16) >= 8 else c for c, m in zip(text, mask, strict=False))


def _address_word(value: object) -> bytes:
    return bytes(12) + address_bytes(str(value))


def _string_word(value: object) -> bytes:
    return keccak(str(value).encode())


def _bytes32_word(value: object) -> bytes:
    if not isinstance(value, bytes) or len(value) != 32:
        raise ValueError(f"{value!r} is not 32 bytes")
    return value


def _uint_word(bits: int) -> Callable[[object], bytes]:
    def encode(value: object) -> bytes:
        if not isinstance(value, int) or not 0 <= value < 1 << bits:
            raise ValueError(f"{value!r} does not fit in {bits} bits")
        return int.to_bytes(value, 32, "big")

    return encode


def _encoder(solidity: str) -> Callable[[object], bytes]:
    match solidity:
        case "address":
            return _address_word
        case "string":
            return _string_word
        case "bytes32":
            return _bytes32_word
        case "bool":
            return _uint_word(1)
        case _:
            return _uint_word(int(solidity.removeprefix("uint")))


_ENCODERS: dict[type[Struct], tuple[Callable[[Struct], tuple[object, ...]], tuple[Callable[[object], bytes], ...]]] = {}
_TYPE_HASHES: dict[type[Message], bytes] = {}


def words(struct: Struct) -> bytes:
    """abi.encode of the struct's fields, strings hashed as EIP-712 asks; ValueError if one does not fit its type."""
    kind = type(struct)
    found = _ENCODERS.get(kind)
    if found is None:
        names, solidities = zip(*solidity_fields(kind), strict=True)
        found = _ENCODERS[kind] = (attrgetter(*names), tuple(map(_encoder, solidities)))
    values, encoders = found
    return b"".join([encode(value) for encode, value in zip(encoders, values(struct), strict=True)])


def type_hash(kind: type[Message]) -> bytes:
    """EIP-712 typeHash of a message class."""
    found = _TYPE_HASHES.get(kind)
    if found is None:
        found = _TYPE_HASHES[kind] = keccak(type_string(kind).encode())
    return found


def struct_hash(message: Message) -> bytes:
    """EIP-712 hashStruct; ValueError if a field does not fit its type."""
    return keccak(type_hash(type(message)) + words(message))


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
            + self.chain_id.to_bytes(32, "big")
            + _address_word(self.escrow)
        )

    @cached_property
    def _prefix(self) -> bytes:
        return b"\x19\x01" + self.separator

    def digest(self, message: Message) -> bytes:
        """The 32 bytes that are signed."""
        return self.digest_of(struct_hash(message))

    def digest_of(self, hashed: bytes) -> bytes:
        """The 32 bytes that are signed for a message whose struct hash is known."""
        return keccak(self._prefix + hashed)


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
        return self.sign_digest(domain.digest(message))

    def sign_digest(self, digest: bytes) -> bytes:
        """A 64-byte compact signature of an EIP-712 digest that the caller has made itself."""
        signature = self._key.sign_recoverable(digest, hasher=None)
        s = int.from_bytes(signature[32:64], "big")
        return signature[:32] + (s | (_PARITY if signature[64] else 0)).to_bytes(32, "big")

    @cached_property
    def account(self) -> LocalAccount:
        """The same key as eth-account's, for signing transactions (imported late: it costs a second)."""
        with limit_kept():
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
    return checksum_address(_recover(digest, signature))


def _recover(digest: bytes, signature: bytes) -> bytes:
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
    return keccak(key.format(compressed=False)[1:])[12:]


def verify(domain: Domain, message: Message, signature: bytes, signer: str) -> None:
    """SignatureError unless `signer` signed the message under the domain."""
    verify_hashed(domain, type(message).__name__, struct_hash(message), signature, signer)


def verify_hashed(domain: Domain, name: str, hashed: bytes, signature: bytes, signer: str) -> None:
    """SignatureError unless `signer` signed the message of this struct hash; `name` is its type's, for the words."""
    found = _recover(domain.digest_of(hashed), signature)
    if found != address_bytes(signer):
        raise SignatureError(
            f"{name} is signed by {checksum_address(found)}, not by {signer}",
            hint="sign with the key of the named party, for this chain and escrow",
        )
