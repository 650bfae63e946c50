"""Token buckets: how much each of many may do, at once and over time. Time is an argument, in seconds."""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict

HOLDERS_MAX = 10_000
_IPV6_NETWORK_BITS = 64  # what one customer of a network gets


class Buckets:
    """A bucket for each holder, those seen last kept. Thread-safe."""

    def __init__(self, *, burst: float, per_second: float, holders_max: int = HOLDERS_MAX) -> None:
        self._burst, self._per_second, self._holders_max = float(burst), float(per_second), holders_max
        self._lock = threading.Lock()
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, at what time

    def take(self, holder: str, now: float) -> float:
        """Takes one token and returns 0; or takes none, and returns after how many seconds there will be one."""
        with self._lock:
            tokens, at = self._held.pop(holder, (self._burst, now))
            tokens = min(self._burst, tokens + max(0.0, now - at) * self._per_second)
            taken = tokens >= 1
            self._held[holder] = (tokens - 1 if taken else tokens, now)
            if len(self._held) > self._holders_max:
                self._held.popitem(last=False)
        return 0.0 if taken else (1 - tokens) / self._per_second


def network(address: str) -> str:
    """Who counts as one: an IPv4 address as it is, an IPv6 address as its network."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((int(parsed), _IPV6_NETWORK_BITS), strict=False))


def is_this_machine(address: str) -> bool:
    """Whether it is a loopback address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
