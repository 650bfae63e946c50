"""Bonds are funded from the wallet, but never with what the operator has withdrawn into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from suanli_node.leases.hands import Hands
from suanli_node.supply.funds import Funding, fund_bonds
from suanli_node.supply.offers import Terms, bond_needed_up
from suanli_node.supply.purse import Purse
from suanli_protocol.capacity import Lanes
from suanli_protocol.chain_records import TxReceipt
from suanli_protocol.errors import ChainRevertedError, FundsError, TimedOutError
from suanli_protocol.escrow import Account
from suanli_protocol.messages import ZERO_ADDRESS
from support import builders

TERMS = Terms(builders.some_prices(), min_seconds=1, max_seconds=3600, bond_bps=1000, max_window=600)
CAPACITY = builders.a_capacity()
NEEDED = bond_needed_up(CAPACITY, TERMS)
MINED = TxReceipt(bytes(32), 1, 40_000, 2, 7, bytes(32), "", ())


@dataclass
class Money:
    """Escrow, token and ledger of one account: what is free, and what its wallet holds."""

    free: int = 0
    wallet: int = 0
    owner: str = ZERO_ADDRESS
    failure: Exception | None = None
    symbol: str = "CREDIT"

    @property
    def token(self) -> Money:
        return self

    def balance_of(self, _: str) -> int:
        return self.wallet

    def account(self, _: str) -> Account:
        return Account(self.free, 0, Lanes())

    def deposit(self, _: object, __: str, amount: int) -> None:
        assert 0 < amount <= self.wallet
        self.wallet, self.free = self.wallet - amount, self.free + amount


@dataclass
class Book:
    """The ledger over that money."""

    money: Money
    alone_now: bool = False

    def free(self) -> int:
        return self.money.free

    @property
    def has_owner(self) -> bool:
        return self.money.owner != ZERO_ADDRESS

    @contextmanager
    def alone(self) -> Iterator[None]:
        self.alone_now = True
        yield
        self.alone_now = False

    def withdraw(self, amount: int) -> TxReceipt:
        assert self.alone_now, "no deposit comes between"
        if self.money.failure is not None:
            raise self.money.failure
        self.money.free -= amount
        if not self.has_owner:
            self.money.wallet += amount
        return MINED


@pytest.fixture
def purse(tmp_path: Path) -> Purse:
    return Purse(tmp_path / "purse.json")


def fund(money: Money, purse: Purse) -> Funding:
    escrow: Any = money
    return fund_bonds(escrow, builders.provider(), CAPACITY, TERMS, purse)


def withdraw(money: Money, purse: Purse, amount: int | None = None) -> None:
    ledger: Any = Book(money)
    closer: Any = None
    Hands(closer, ledger, lambda: [], purse).handle({"what": "withdraw", "amount": amount})


def test_the_wallet_is_deposited_as_far_as_bonds_need_it(purse: Purse) -> None:
    money = Money(free=10, wallet=2 * NEEDED)
    assert fund(money, purse) == Funding(NEEDED, NEEDED, NEEDED - 10)
    assert fund(money, purse).deposited == 0


def test_what_was_withdrawn_is_not_deposited_again(purse: Purse) -> None:
    money = Money(wallet=2 * NEEDED)
    fund(money, purse)
    kept = money.wallet
    withdraw(money, purse, NEEDED // 2)
    assert fund(money, purse).deposited == NEEDED // 2, "with what was sent to the wallet for bonds"
    assert money.wallet == kept
    withdraw(money, purse)
    assert (money.free, money.wallet) == (0, kept + NEEDED)
    assert fund(money, purse).deposited == kept - NEEDED // 2
    withdraw(money, purse)
    with pytest.raises(FundsError, match="no free money") as caught:
        fund(money, purse)
    assert f"{money.wallet} base units that were withdrawn" in caught.value.hint


def test_what_left_the_wallet_is_no_longer_aside(purse: Purse) -> None:
    money = Money(free=NEEDED)
    withdraw(money, purse)
    money.wallet = 0  # sent on to a safe place
    with pytest.raises(FundsError):
        fund(money, purse)
    money.wallet = NEEDED  # and this was sent to it
    assert fund(money, purse).deposited == NEEDED


def test_an_owner_is_paid_and_the_wallet_stays_for_bonds(purse: Purse) -> None:
    money = Money(free=NEEDED, wallet=NEEDED, owner=builders.a_signer(8).address)
    withdraw(money, purse)
    assert purse.aside == 0
    assert fund(money, purse).deposited == NEEDED


@pytest.mark.parametrize(
    ("failure", "aside"), [(ChainRevertedError("no"), 0), (TimedOutError("it may still be mined"), 7)]
)
def test_a_withdrawal_that_the_chain_refuses_puts_nothing_aside(purse: Purse, failure: Exception, aside: int) -> None:
    money = Money(free=NEEDED, failure=failure)
    with pytest.raises(type(failure)):
        withdraw(money, purse, 7)
    assert purse.aside == aside
