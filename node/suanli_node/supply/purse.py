"""The purse: what the operator took out of the escrow into the node's own wallet stays there, and is not put back.

A wallet without a cold owner gets both, what its operator withdraws and what was sent to it for bonds. Only the second
is for deposits; how much is the first is remembered, in a file, in base units of the token.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from suanli_node.engine.runs import write_json
from suanli_protocol.errors import SuanliError, TimedOutError


class Purse:
    """What is put aside in the wallet. Its caller holds the node's key for itself meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def aside(self) -> int:
        """Base units that are not to be deposited."""
        try:
            return int(json.loads(self._path.read_bytes())["aside"])
        except FileNotFoundError:
            return 0

    def for_deposits(self, balance: int) -> int:
        """What of the wallet's balance may be deposited. What has left the wallet is no longer aside."""
        if balance < self.aside:
            self._write(balance)
        return balance - self.aside

    @contextmanager
    def putting_aside(self, amount: int) -> Iterator[None]:
        """While a withdrawal is sent: known before it is, and taken back if the chain does not take it."""
        self._write(self.aside + amount)
        try:
            yield
        except TimedOutError:
            raise  # it can still be mined
        except SuanliError:
            self._write(max(0, self.aside - amount))
            raise

    def _write(self, aside: int) -> None:
        write_json(self._path, {"aside": aside})
