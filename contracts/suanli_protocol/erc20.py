"""The settlement token: what is asked of any ERC-20, permits where it knows them, and the devnet's faucet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from suanli_protocol.chain import BlockId, Chain
from suanli_protocol.chain_records import TxReceipt
from suanli_protocol.errors import ChainRevertedError, ChainUnavailableError
from suanli_protocol.messages import Message, typed
from suanli_protocol.signing import Signer, address_bytes, keccak256, struct_hash


@dataclass(frozen=True, slots=True)
class Permit(Message):
    """An ERC-2612 permit, signed under the token's own domain."""

    owner: str = typed("address")
    spender: str = typed("address")
    value: int = typed("uint256")
    nonce: int = typed("uint256")
    deadline: int = typed("uint256")


def word(value: str | int | bytes) -> bytes:
    """An address, a number or 32 bytes as one word of calldata."""
    match value:
        case str():
            return bytes(12) + address_bytes(value)
        case int():
            return value.to_bytes(32, "big")
        case _:
            return value


def view(chain: Chain, to: str, signature: str, *values: str | int | bytes, block: BlockId = "latest") -> list[int]:
    """Calls a view that takes and gives single words, without web3; the answer's words as integers."""
    return words(chain, to, signature, chain.call(to, calldata(signature, *values), block=block))


def words(chain: Chain, to: str, signature: str, answer: bytes) -> list[int]:
    """The words that a view answered; ChainUnavailableError if it answered nothing such."""
    if not answer or len(answer) % 32:
        raise ChainUnavailableError(
            f"{to} on {chain.url} does not answer {signature}", hint="is this the right chain and address?"
        )
    return [int.from_bytes(answer[at : at + 32], "big") for at in range(0, len(answer), 32)]


def calldata(signature: str, *values: str | int | bytes) -> bytes:
    """A call whose arguments are single words."""
    return keccak256(signature.encode())[:4] + b"".join(map(word, values))


class Token:
    """An ERC-20 token on a chain."""

    def __init__(self, chain: Chain, address: str) -> None:
        self.chain = chain
        self.address = address

    @cached_property
    def decimals(self) -> int:
        """How many decimals a person reads."""
        return view(self.chain, self.address, "decimals()")[0]

    @cached_property
    def symbol(self) -> str:
        """What a person calls it; control characters removed."""
        answer = self.chain.call(self.address, calldata("symbol()"))
        size = int.from_bytes(answer[32:64], "big")
        text = answer[64 : 64 + min(size, 32)].decode("utf-8", "replace")
        return "".join(letter for letter in text if letter.isprintable())

    def balance_of(self, account: str, *, block: BlockId = "latest") -> int:
        """Base units that an address holds."""
        return view(self.chain, self.address, "balanceOf(address)", account, block=block)[0]

    def allowance(self, owner: str, spender: str) -> int:
        """Base units that `spender` may take from `owner`."""
        return view(self.chain, self.address, "allowance(address,address)", owner, spender)[0]

    def approve(self, signer: Signer, spender: str, amount: int) -> TxReceipt:
        """Lets `spender` take `amount`."""
        return self._transact(signer, calldata("approve(address,uint256)", spender, amount))

    def faucet(self, signer: Signer, to: str, amount: int) -> TxReceipt:
        """Mints devnet money to an address; ChainRevertedError anywhere else."""
        return self._transact(signer, calldata("faucet(address,uint256)", to, amount))

    def permit(self, signer: Signer, spender: str, amount: int, deadline: int) -> bytes | None:
        """A 64-byte signature of a permit; None if the token knows no permits."""
        try:
            nonce = view(self.chain, self.address, "nonces(address)", signer.address)[0]
            separator = view(self.chain, self.address, "DOMAIN_SEPARATOR()")[0].to_bytes(32, "big")
        except (ChainRevertedError, ChainUnavailableError):
            return None
        permit = Permit(signer.address, spender, amount, nonce, deadline)
        return signer.sign_digest(keccak256(b"\x19\x01" + separator + struct_hash(permit)))

    def _transact(self, signer: Signer, data: bytes) -> TxReceipt:
        return self.chain.wait(self.chain.send(signer, data, to=self.address))
