"""Funds: the account must hold enough free money for the bonds of all that it offers."""

from __future__ import annotations

from dataclasses import dataclass

from suanli_protocol.errors import FundsError
from suanli_protocol.escrow import Escrow
from suanli_protocol.signing import Signer


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


def fund_bonds(escrow: Escrow, signer: Signer, needed: int) -> Funding:
    """Deposit what is missing as far as the wallet holds it; FundsError if then there is no free money at all."""
    free = escrow.account(signer.address).free
    missing = max(0, needed - free)
    deposited = min(missing, escrow.token.balance_of(signer.address)) if missing else 0
    if deposited:
        escrow.deposit(signer, signer.address, deposited)
    if needed and not free + deposited:
        raise FundsError(
            f"account {signer.address} has no free money for the provider's bond (up to {needed} base units)",
            hint=f"send it {escrow.token.symbol} and coin for gas, or deposit to its account in the escrow",
        )
    return Funding(free + deposited, needed, deposited)
