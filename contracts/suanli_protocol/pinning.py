"""Pinning: the code at an escrow's address is this version's escrow, settled at deployment and nothing else.

A market that names a contract of its own making could take every deposit with it, so each party looks for itself.
"""

from __future__ import annotations

from suanli_protocol.abi import artifact
from suanli_protocol.chain import Chain
from suanli_protocol.errors import ConfigurationError
from suanli_protocol.signing import NAME, VERSION, Domain, address_bytes, keccak256

WORD = 32


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
    compiled = compiled_escrow()
    places: dict[str, list[int]] = artifact("LeaseEscrow")["immutables"]
    token = code[places["token"][0] :][:WORD]
    if len(code) != len(compiled) or token[:12] != bytes(12):
        return False
    filled = bytearray(compiled)
    for name, value in {**domain_immutables(domain), "token": token}.items():
        for at in places[name]:
            filled[at : at + WORD] = value
    return bytes(filled) == code


def domain_immutables(domain: Domain) -> dict[str, bytes]:
    """What an escrow remembers of its own domain (OpenZeppelin's EIP712): every immutable of it but the token."""
    name, version = NAME.encode(), VERSION.encode()
    return {
        "_cachedDomainSeparator": domain.separator,
        "_cachedChainId": domain.chain_id.to_bytes(WORD, "big"),
        "_cachedThis": address_bytes(domain.escrow).rjust(WORD, b"\0"),
        "_hashedName": keccak256(name),
        "_hashedVersion": keccak256(version),
        "_name": _short_string(name),
        "_version": _short_string(version),
    }


def _short_string(text: bytes) -> bytes:
    """OpenZeppelin's ShortString: up to 31 bytes, and their number in the last."""
    return text.ljust(WORD - 1, b"\0") + bytes([len(text)])


def compiled_escrow() -> bytes:
    """The runtime code that was compiled; it has zeros where the immutables go."""
    return bytes.fromhex(artifact("LeaseEscrow")["deployedBytecode"].removeprefix("0x"))
