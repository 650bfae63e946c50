"""Accounts over accounts: what differs for a while, before what is known. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping

from suanli_protocol.lease import Account

EMPTY = Account()
TOP_MAX = 1000  # changes that each view copies, before all accounts are copied once


class Overlay(MutableMapping[str, Account]):
    """The known accounts, which stay as they are, with changes of its own on top; nothing can be taken out."""

    __slots__ = ("_base", "_top")

    def __init__(self, base: Mapping[str, Account], top: dict[str, Account] | None = None) -> None:
        self._base = base
        self._top = {} if top is None else top  # its own from now on

    def __getitem__(self, address: str) -> Account:
        found = self._top.get(address)
        return self._base[address] if found is None else found

    def get(self, address: str, default: Account | None = None) -> Account | None:  # type: ignore[override]
        """Without the detour of Mapping.get, which costs an exception for each unknown account."""
        found = self._top.get(address)
        return self._base.get(address, default) if found is None else found

    def __setitem__(self, address: str, account: Account) -> None:
        self._top[address] = account

    def __delitem__(self, address: str) -> None:
        raise TypeError("an account cannot be taken out of an overlay")

    def __iter__(self) -> Iterator[str]:
        yield from self._top
        yield from (address for address in self._base if address not in self._top)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Ledger:
    """Accounts that change, and views of them that do not. An account that is not known is empty."""

    def __init__(self) -> None:
        self._base: dict[str, Account] = {}  # lent to views: replaced, never changed
        self._top: dict[str, Account] = {}

    def __getitem__(self, address: str) -> Account:
        found = self._top.get(address)
        return self._base.get(address, EMPTY) if found is None else found

    def update(self, accounts: Mapping[str, Account]) -> None:
        """Changes some accounts; an empty one is forgotten in time."""
        self._top.update(accounts)
        if len(self._top) > TOP_MAX:
            self._base = self._base | self._top
            for address, account in self._top.items():
                if account == EMPTY:
                    del self._base[address]
            self._top = {}

    def view(self, others: Mapping[str, Account]) -> Overlay:
        """The accounts as they are now, and others in place of some of them."""
        return Overlay(self._base, {**self._top, **others})
