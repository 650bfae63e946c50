"""How many refusals one sender may put into the log: a bucket for each, so that bad papers cannot fill the disk."""

from __future__ import annotations

from suanli_protocol.buckets import HOLDERS_MAX, Buckets, network
from suanli_protocol.errors import SuanliError

BURST = 200
PER_SECOND = 1.0


class TooManyRefusedError(SuanliError):
    """The sender's papers were refused too often; this one was refused as well, and is not in the log."""

    code, title, http_status, retryable = "too_many_refused", "Too many papers were refused", 429, True


class Refusals:
    """The buckets of all senders. Time is an argument, in seconds."""

    def __init__(self, *, burst: int = BURST, per_second: float = PER_SECOND, senders_max: int = HOLDERS_MAX) -> None:
        self._buckets = Buckets(burst=burst, per_second=per_second, holders_max=senders_max)

    def take(self, sender: str, now: float) -> bool:
        """Whether one more refusal of the sender may be logged; counts it if so."""
        return self._buckets.take(network(sender), now) == 0
