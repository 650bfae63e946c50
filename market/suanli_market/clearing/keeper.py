"""The keeper holds the book beside the chain facts, and hands out consistent views of both."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence

from suanli_market.chain.accounts import Accounts
from suanli_market.clearing.book import Book, Change, Proposed, View
from suanli_market.clearing.conditions import Facts
from suanli_protocol.errors import SuanliError
from suanli_protocol.escrow import Block
from suanli_protocol.lease import Account


class Keeper:
    """One lock over the book; `changed` is set whenever a clearing could have a new outcome."""

    def __init__(self, accounts: Accounts, market: str, *, min_fee: int = 0) -> None:
        self.accounts = accounts
        self.changed = threading.Event()
        self.halted: SuanliError | None = None
        self._market, self._min_fee = market, min_fee
        self._lock = threading.Lock()
        self._book = Book()
        self._chain_version = 0
        self._block, self._block_hash, self._block_time = 0, bytes(32), 0
        self._last_seq = 0

    def now(self) -> int:
        """Seconds of Unix UTC, never behind the known block's time: only block time moves money."""
        return max(int(time.time()), self._block_time)

    def apply(self, changes: Sequence[Change], *, last_seq: int = 0) -> None:
        """Folds changes in; `last_seq` is the line of the log up to which the book now stands, if it moved."""
        with self._lock:
            self._last_seq = max(self._last_seq, last_seq)
            news = [change for change in changes if not isinstance(change, Proposed)]
            self._book.apply_all(changes)
        if news:
            self.changed.set()

    def replace(self, changes: Sequence[Change], *, last_seq: int) -> None:
        """Puts a new book in place of the old one."""
        with self._lock:
            self._book = Book()
            self._last_seq = max(self._last_seq, last_seq)
            self._chain_version += 1
            self._book.apply_all(changes)
        self.changed.set()

    def advance(
        self,
        block: Block,
        touched: set[str] | None,
        changes: Iterable[Change],
        read: Mapping[str, Account] | None = None,
    ) -> None:
        """Folds a step of the chain in: its changes and the accounts that it touched, at once; some may be `read`."""
        with self._lock:
            self._chain_version += 1
            self._block, self._block_hash, self._block_time = block.number, block.hash, block.timestamp
            self._book.apply_all(changes)
            self._book.touch(touched)
            self.accounts.advance(block.number, touched, read)
        if touched is None or touched:
            self.changed.set()

    def idle(self) -> bool:
        """Whether no bid waits."""
        with self._lock:
            return len(self._book.bids) == len(self._book.pending)

    def expired(self) -> tuple[list[bytes], list[bytes]]:
        """The offers and the waiting bids whose time is over."""
        with self._lock:
            return self._book.expired(self.now())

    def view(self, parties: Sequence[str] = ()) -> View:
        """A consistent view; `parties` are accounts to read beside those of the book."""
        while True:
            with self._lock:
                version = self._chain_version
                wanted = self._book.stale.union(parties)
            read = self.accounts.get(wanted)
            with self._lock:
                if version != self._chain_version:
                    continue
                self._book.settle(read)
                if self._book.stale:  # papers of other accounts entered meanwhile
                    continue
                accounts = self._book.accounts({party: read[party] for party in parties})
                facts = Facts(self.now(), self._market, accounts, min_fee=self._min_fee)
                place = self._last_seq, self._block, self._block_hash
                return View(self._book.index, self._book.waiting(), facts, *place)

    def block(self) -> tuple[int, bytes]:
        """Number and hash of the known block."""
        with self._lock:
            return self._block, self._block_hash

    def open_offers(self) -> int:
        """How many offers are open."""
        with self._lock:
            return len(self._book.offers)

    def least_worth(self, count: int, below: int) -> list[bytes]:
        """See Book.least_worth."""
        with self._lock:
            return self._book.least_worth(count, below)

    def count(self, party: str) -> tuple[int, int]:
        """How many papers are open: by the party, in all."""
        with self._lock:
            return self._book.count(party)
