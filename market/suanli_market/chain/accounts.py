"""Accounts as the chain had them at the block up to which the market knows the chain.

Kept until an event touches them. Reading at the known block keeps accounts and pending matches consistent: what an
`Opened` event moved is never counted twice, nor missed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from suanli_protocol.errors import ChainUnavailableError
from suanli_protocol.escrow import Escrow
from suanli_protocol.lease import Account

_ATTEMPTS = 8


class Accounts:
    """A cache of account words, thread-safe; no lock is held while the chain is asked."""

    def __init__(self, escrow: Escrow) -> None:
        self._escrow = escrow
        self._lock = threading.Lock()
        self._known: dict[str, Account] = {}
        self._block = 0
        self._version = 0

    def read(self, addresses: Iterable[str], block: int) -> dict[str, Account]:
        """Those that are kept of the accounts, as a block that is about to be known has them."""
        with self._lock:
            kept = [address for address in addresses if address in self._known]
        return {address: self._escrow.account(address, block=block) for address in kept}

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
            self._known.update(read or {})

    def get(self, addresses: Iterable[str]) -> dict[str, Account]:
        """The accounts at the known block; ChainUnavailableError if one has to be read and cannot be."""
        wanted = set(addresses)
        for _ in range(_ATTEMPTS):
            with self._lock:
                missing = wanted - self._known.keys()
                if not missing:
                    return {address: self._known[address] for address in wanted}
                version, block = self._version, self._block
            found = {address: self._escrow.account(address, block=block) for address in missing}
            with self._lock:
                if self._version == version:
                    self._known.update(found)
        raise ChainUnavailableError("the chain moves faster than accounts can be read", hint="try again")
