"""How many refusals one sender may put into the log: a bucket for each, so that bad papers cannot fill the disk."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

from suanli_protocol.errors import SuanliError

BURST = 200
PER_SECOND = 1.0
SENDERS_MAX = 10_000
_IPV6_NETWORK_BITS = 64  # what one customer of a network gets


class TooManyRefusedError(SuanliError):
    """The sender's papers were refused too often; this one was refused as well, and is not in the log."""

    code, title, http_status, retryable = "too_many_refused", "Too many papers were refused", 429, True


class Refusals:
    """The buckets of all senders, those seen last kept. Of one thread; time is an argument, in seconds."""

    def __init__(self, *, burst: int = BURST, per_second: float = PER_SECOND, senders_max: int = SENDERS_MAX) -> None:
        self._burst, self._per_second, self._senders_max = burst, per_second, senders_max
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, at what time

    def take(self, sender: str, now: float) -> bool:
        """Whether one more refusal of the sender may be logged; counts it if so."""
        key = _network(sender)
        tokens, at = self._held.pop(key, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - at) * self._per_second)
        taken = tokens >= 1
        self._held[key] = (tokens - 1 if taken else tokens, now)
        if len(self._held) > self._senders_max:
            self._held.popitem(last=False)
        return taken


def _network(sender: str) -> str:
    """An IPv4 address as it is, an IPv6 address as its network."""
    try:
        address = ipaddress.ip_address(sender)
    except ValueError:
        return sender
    if address.version == 4:
        return sender
    return str(ipaddress.ip_network((int(address), _IPV6_NETWORK_BITS), strict=False))
