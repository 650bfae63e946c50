"""Why a contract reverted: its own error from the bytes of the answer, and what to change."""

from __future__ import annotations

from suanli_protocol.errors import ChainRevertedError, ProtocolError
from suanli_protocol.signing import checksum_address

HINTS = {
    "LeaseEscrow_NotAuthorized": "use the key of this account, or of its owner",
    "LeaseEscrow_ZeroAddress": "name an account",
    "LeaseEscrow_AmountMismatch": "this token takes a fee on transfer or rebases; the escrow refuses such tokens",
    "LeaseEscrow_AmountTooLarge": "deposit less",
    "LeaseEscrow_InsufficientFree": "ask for at most the free money; what is locked in leases comes free at settlement",
    "LeaseEscrow_TransferFailed": "does the sender hold the tokens, and has it approved the escrow?",
    "LeaseEscrow_BadSignature": "sign with the key of the named party, for this chain and escrow",
    "LeaseEscrow_SeatTaken": "the seat was used or cancelled; a new job takes a new seat",
    "LeaseEscrow_TooEarly": "wait until the block time has come",
    "LeaseEscrow_TooLate": "the window is over; see which ways are open now",
    "LeaseEscrow_AmountOutside": "take an amount from the least to the most",
    "LeaseEscrow_WrongKind": "a claim is done (1) or failed (2)",
    "LeaseEscrow_NoArbiter": "the two papers named no arbiter, so that the claim stands; settle if both sides agree",
    "LeaseEscrow_UnknownLease": "the lease moved on or is closed; read its state again",
    "LeaseEscrow_WrongPhase": "the lease is in another phase; read its state again",
    "ERC20InsufficientBalance": "the sender holds too few tokens; on a devnet the faucet gives some",
    "ERC20InsufficientAllowance": "approve the escrow for the amount first",
    "ERC2612ExpiredSignature": "the permit expired; try again",
    "DevCredit_NotADevnet": "the faucet works on devnets only",
}
_STRING = bytes.fromhex("08c379a0")  # Error(string)
_PANIC = bytes.fromhex("4e487b71")  # Panic(uint256)


def reverted(data: bytes, message: str = "") -> ChainRevertedError:
    """The error for revert data; without data, or if it is unknown, it carries the endpoint's message."""
    from suanli_protocol.contract_abi import contract_abi

    if data[:4] == _STRING and len(data) >= 68:
        size = int.from_bytes(data[36:68], "big")
        return ChainRevertedError("Error", (data[68 : 68 + min(size, 300)].decode("utf-8", "replace"),))
    if data[:4] == _PANIC:
        return ChainRevertedError("Panic", (int.from_bytes(data[4:36], "big"),))
    for contract in ("LeaseEscrow", "DevCredit") if len(data) >= 4 else ():
        try:
            found = contract_abi(contract).error(data)
        except ProtocolError:
            found = None
        if found is not None:
            name, arguments = found
            return ChainRevertedError(name, tuple(map(_readable, arguments)), hint=HINTS.get(name, ""))
    return ChainRevertedError("Reverted", (f"0x{data.hex()}" if data else message,))


def _readable(value: object) -> object:
    """Bytes as hex, addresses checksummed."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, str) and value.startswith("0x") and len(value) == 42:
        return checksum_address(bytes.fromhex(value[2:]))
    return value
