"""What a client writes to the book, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from suanli_market.admission.checks import Doubt
from suanli_market.admission.log import Line
from suanli_market.admission.papers import BidPaper, OfferPaper
from suanli_protocol import wire
from suanli_protocol.errors import SuanliError


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A party takes its own paper off the book."""

    kind: Literal["offer", "bid"]
    id: bytes
    party: str


@dataclass(frozen=True, slots=True)
class RefusedReceipt:
    """A receipt that was refused at the door; the log keeps why."""

    line: Line
    doubt: Doubt
    party: str

    @property
    def id(self) -> bytes:
        """Struct hash of the receipt."""
        return self.line.paper


Submission = OfferPaper | BidPaper | Withdrawal | RefusedReceipt


class RefusedError(Exception):
    """The market logged a refusal; carries the error to tell and the signed acknowledgement of the refusal."""

    def __init__(self, error: SuanliError, reason: str, acknowledgement: wire.Json) -> None:
        super().__init__(error.detail)
        self.error = error
        self.reason = reason
        self.acknowledgement = acknowledgement


Outcome = wire.Json | Exception
