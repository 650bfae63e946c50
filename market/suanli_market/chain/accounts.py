"""Accounts as the chain had them at the block up to which the market knows the chain.

Kept until an event touches them. Reading at the known block keeps accounts and pending matches consistent: what an
`Opened` event moved is never counted twice, nor missed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

from suanli_protocol.errors import ChainUnavailableError
from suanli_protocol.escrow import Escrow
from suanli_protocol.lease import Account

ACCOUNTS_MAX = 50_000  # kept; those of the book are in the book as well
_ATTEMPTS = 8


class Accounts:
    """A cache of account words, thread-safe; no lock is held while the chain is asked. The longest unused leave it."""

    def __init__(self, escrow: Escrow, *, accounts_max: int = ACCOUNTS_MAX) -> None:
        self._escrow, self._accounts_max = escrow, accounts_max
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Account] = OrderedDict()
        self._block = 0
        self._version = 0

    def read(self, addresses: Iterable[str], block: int) -> dict[str, Account]:
        """Those that are kept of the accounts, as a block that is about to be known has them."""
        with self._lock:
            kept = [address for address in addresses if address in self._known]
        return self._asked(kept, block)

    def advance(self, block: int, touched: Iterable[str] | None, read: Mapping[str, Account] | None = None) -> None:
        """The chain is known up to `block` now; the touched accounts (None: all) are read anew, or were `read`."""
        with self._lock:
            self._block = block
            if touched is None:
                self._known.clear()
                self._version += 1
                return
            for address in touched:
                self._known.pop(address, None)
                self._version += 1
            self._keep(read or {})

    def get(self, addresses: Iterable[str]) -> dict[str, Account]:
        """The accounts at the known block; ChainUnavailableError if one has to be read and cannot be."""
        wanted = dict.fromkeys(addresses)  # in the order of the call, so that the longest unused are the same each time
        for _ in range(_ATTEMPTS):
            with self._lock:
                kept = {address: self._known[address] for address in wanted if address in self._known}
                for address in kept:
                    self._known.move_to_end(address)
                version, block = self._version, self._block
            if len(kept) == len(wanted):
                return kept
            found = self._asked([address for address in wanted if address not in kept], block)
            with self._lock:
                if self._version == version:
                    self._keep(found)
                    return kept | found
        raise ChainUnavailableError("the chain moves faster than accounts can be read", hint="try again")

    def _asked(self, addresses: Sequence[str], block: int) -> dict[str, Account]:
        if len(addresses) == 1:
            return {addresses[0]: self._escrow.account(addresses[0], block=block)}
        return self._escrow.accounts(addresses, block=block) if addresses else {}

    def _keep(self, accounts: Mapping[str, Account]) -> None:
        self._known.update(accounts)
        while len(self._known) > self._accounts_max:
            self._known.popitem(last=False)
