"""Funds: the account must hold enough free money for the bonds of all that it offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from suanli_protocol.errors import FundsError
from suanli_protocol.signing import Signer


class Token(Protocol):
    """What is read of the settlement token."""

    symbol: str

    def balance_of(self, address: str) -> int:
        """Base units in an address's wallet."""


class Ledger(Protocol):
    """What is read and written of the escrow here."""

    @property
    def token(self) -> Token:
        """The settlement token."""

    def free_of(self, account: str) -> int:
        """Base units of an account's free money."""

    def deposit(self, signer: Signer, account: str, amount: int) -> object:
        """Move tokens from the signer's wallet to the account's free money, and wait for it."""


@dataclass(frozen=True)
class Funding:
    """What the account holds against what its offers may need, in base units."""

    free: int
    needed: int
    deposited: int = 0

    @property
    def enough(self) -> bool:
        """Whether all capacity can be leased at once for the longest time."""
        return self.free >= self.needed


def fund_bonds(ledger: Ledger, signer: Signer, needed: int) -> Funding:
    """Deposit what is missing as far as the wallet holds it; FundsError if then there is no free money at all."""
    free = ledger.free_of(signer.address)
    missing = max(0, needed - free)
    deposited = min(missing, ledger.token.balance_of(signer.address)) if missing else 0
    if deposited:
        ledger.deposit(signer, signer.address, deposited)
    if needed and not free + deposited:
        raise FundsError(
            f"account {signer.address} has no free money for the provider's bond (up to {needed} base units)",
            hint=f"send it {ledger.token.symbol} and gas, or deposit to its account in the escrow",
        )
    return Funding(free + deposited, needed, deposited)
