"""Pinning: the code at an escrow's address is this version's escrow, settled at deployment and nothing else.

A market that names a contract of its own making could take every deposit with it, so each party looks for itself.
"""

from __future__ import annotations

from suanli_protocol.abi import artifact
from suanli_protocol.chain import Chain
from suanli_protocol.errors import ConfigurationError
from suanli_protocol.signing import NAME, VERSION, Domain, address_bytes, keccak256

_PUSH32 = b"\x7f"
_HOLE = bytes(32)  # where the compiler leaves room for an immutable


def check_escrow_code(chain: Chain, address: str) -> bytes:
    """The hash of the code at `address`; ConfigurationError `no_escrow` or `wrong_escrow` unless it is the escrow's."""
    code = chain.code(address)
    if not code:
        raise ConfigurationError(
            f"there is no contract at {address} on the chain at {chain.url}",
            hint="check --escrow and --chain (SUANLI_ESCROW, SUANLI_CHAIN); a devnet that was reset has lost it",
            code="no_escrow",
        )
    if not is_escrow_code(code, Domain(chain.chain_id(), address)):
        raise ConfigurationError(
            f"the contract at {address} is not the escrow of this version",
            hint="name the escrow that this version deployed, or install the version that fits it",
            code="wrong_escrow",
        )
    return keccak256(code)


def is_escrow_code(code: bytes, domain: Domain) -> bool:
    """Whether runtime code is the compiled escrow, its immutables filled with this domain and one token's address."""
    values = immutables_of(code, compiled_escrow())
    if values is None:
        return False
    tokens = set(values) - known_values(domain)
    return len(tokens) == 1 and all(value[:12] == bytes(12) for value in tokens)


def immutables_of(code: bytes, compiled: bytes) -> list[bytes] | None:
    """What fills the holes of the compiled code, in their order; None if the code differs elsewhere too."""
    if len(code) != len(compiled):
        return None
    values, filled, at = [], bytearray(compiled), 0
    while (at := compiled.find(_PUSH32 + _HOLE, at)) >= 0:
        value = code[at + 1 : at + 33]
        filled[at + 1 : at + 33] = value
        values.append(value)
        at += 33
    return values if bytes(filled) == code else None


def known_values(domain: Domain) -> set[bytes]:
    """What an escrow remembers of its own domain (EIP-712): every immutable of it but the token."""
    texts = (NAME.encode(), VERSION.encode())
    return {
        domain.separator,
        domain.chain_id.to_bytes(32, "big"),
        address_bytes(domain.escrow).rjust(32, b"\0"),
        *map(keccak256, texts),
        *(text.ljust(31, b"\0") + bytes([len(text)]) for text in texts),  # OpenZeppelin's ShortString
    }


def compiled_escrow() -> bytes:
    """The runtime code that was compiled, with its holes."""
    return bytes.fromhex(artifact("LeaseEscrow")["deployedBytecode"].removeprefix("0x"))
