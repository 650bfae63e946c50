"""Units: what a person writes and reads, and the integers that everything else works with.

CPU in milli-cores, memory and disk in MiB, time in whole seconds, money in base units of the token. Money is never
a float: text goes to integers exactly.
"""

from __future__ import annotations

import re
from decimal import Decimal

from suanli_protocol.errors import UsageError

MILLI = 1000
MIB_PER_GIB = 1024
SECONDS_PER_HOUR = 3600
BPS = 10_000

_DECIMAL = re.compile(r"([0-9]{1,60})(?:\.([0-9]{1,60}))?")
_SIZE = re.compile(r"\s*([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([KMGT]i?B?|B)?\s*", re.IGNORECASE)
_BYTES = {
    "B": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "KI": 2**10,
    "MI": 2**20,
    "GI": 2**30,
    "TI": 2**40,
}
_DURATION = re.compile(r"([0-9]{1,12})\s*(d|h|m|s)")
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def ceil_div(dividend: int, divisor: int) -> int:
    """The quotient rounded up; both operands non-negative, the divisor positive."""
    return -(-dividend // divisor)


def parse_money(text: str | int, decimals: int, *, name: str = "amount") -> int:
    """Base units from decimal text such as "0.50"; UsageError if it is no such text or too fine for the token."""
    match = _DECIMAL.fullmatch(str(text).strip())
    if match is None:
        raise UsageError(f"{name}: {text!r} is not an amount", hint='write decimal text such as "0.50"')
    fraction = (match[2] or "").rstrip("0")
    if len(fraction) > decimals:
        raise UsageError(f"{name}: {text!r} is finer than the token's {decimals} decimals", hint="round it")
    return int(match[1] + fraction.ljust(decimals, "0"))


def format_money(amount: int, decimals: int, *, places: int | None = None) -> str:
    """Exact decimal text of base units, trailing zeros cut to `places` (default 2) at the least."""
    sign = "-" if amount < 0 else ""
    whole, part = divmod(abs(amount), 10**decimals)
    fraction = str(part).rjust(decimals, "0") if decimals else ""
    least = min(2 if places is None else places, decimals)
    fraction = fraction[:least] + fraction[least:].rstrip("0")
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"


def parse_mib(text: str | int, *, name: str = "size") -> int:
    """MiB, rounded up, from "8GB", "512MiB"; a bare number is refused (of what?). UsageError otherwise."""
    match = _SIZE.fullmatch(str(text))
    if match is None or not match[2]:
        raise UsageError(f"{name}: {text!r} is not a size", hint="write a number with a unit, such as 8GB or 512MiB")
    unit = match[2].upper()
    unit = unit if unit == "B" else unit.removesuffix("B")
    size = Decimal(match[1]) * _BYTES[unit]
    return ceil_div(int(size.to_integral_value(rounding="ROUND_CEILING")), 2**20)


def format_mib(mib: int) -> str:
    """MiB as a person reads them."""
    return f"{mib} MiB" if mib < MIB_PER_GIB else f"{mib / MIB_PER_GIB:.1f} GiB".replace(".0 ", " ")


def format_bytes(size: int) -> str:
    """A count of bytes as a person reads it."""
    value = float(size)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.2f} GiB"


def parse_duration(text: str | int, *, name: str = "duration") -> int:
    """Whole seconds from "2h", "1h30m", "90s" or a bare count of seconds. UsageError otherwise."""
    compact = str(text).strip().lower()
    if re.fullmatch(r"[0-9]{1,12}", compact):
        return int(compact)
    parts = _DURATION.findall(compact)
    if not parts or "".join(f"{count}{unit}" for count, unit in parts) != compact.replace(" ", ""):
        raise UsageError(f"{name}: {text!r} is not a duration", hint="write 90s, 10m, 2h or 1h30m")
    return sum(int(count) * _SECONDS[unit] for count, unit in parts)


def format_duration(seconds: int) -> str:
    """Seconds as a person reads them: "2 h 5 m", "12 s"."""
    if seconds < 60:
        return f"{seconds} s"
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    parts = [
        f"{hours} h" if hours else "",
        f"{minutes} m" if minutes else "",
        f"{left} s" if left and not hours else "",
    ]
    return " ".join(part for part in parts if part)


def parse_cores(text: str | int | float, *, name: str = "cpus") -> int:
    """Milli-cores from a count of cores such as 4 or "0.5". UsageError otherwise."""
    match = _DECIMAL.fullmatch(str(text).strip())
    fraction = (match[2] or "").rstrip("0") if match else ""
    milli = int(match[1] + fraction.ljust(3, "0")) if match and len(fraction) <= 3 else 0
    if milli <= 0:
        raise UsageError(f"{name}: {text!r} is not a number of cores", hint="write 4, 0.5 or, at least, 0.001")
    return milli


def format_cores(milli: int) -> str:
    """Milli-cores as a person reads them."""
    return f"{milli / MILLI:g}"
