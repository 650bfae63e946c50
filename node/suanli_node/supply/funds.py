"""Funds: the account must hold enough free money for the bonds of all that it offers."""

from __future__ import annotations

from dataclasses import dataclass

from suanli_node.supply.offers import Terms, bond_needed_up
from suanli_node.supply.purse import Purse
from suanli_protocol.capacity import Lanes
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


def unused(capacity: Lanes, used: Lanes) -> Lanes:
    """What of the capacity is not leased; a lane that is leased beyond it (the operator offered more before) is 0."""
    return Lanes(*(max(0, have - taken) for have, taken in zip(capacity.values, used.values, strict=True)))


def fund_bonds(escrow: Escrow, signer: Signer, capacity: Lanes, terms: Terms, purse: Purse) -> Funding:
    """Deposit what the bonds of all capacity that is not leased yet need, as far as the wallet holds it for that.

    FundsError if bonds are needed and then there is no free money at all.
    """
    account = escrow.account(signer.address)
    free, needed = account.free, bond_needed_up(unused(capacity, account.used), terms)
    missing = max(0, needed - free)
    deposited = min(missing, purse.for_deposits(escrow.token.balance_of(signer.address))) if missing else 0
    if deposited:
        escrow.deposit(signer, signer.address, deposited)
    if needed and not free + deposited:
        raise FundsError(
            f"account {signer.address} has no free money for the provider's bond (up to {needed} base units)",
            hint=f"send it {escrow.token.symbol} and coin for gas, or deposit to its account in the escrow; "
            f"{purse.aside} base units that were withdrawn stay in its wallet",
        )
    return Funding(free + deposited, needed, deposited)
