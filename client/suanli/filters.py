"""Filters of offers: terms such as `cpus>=8 price<0.5 region=CN`, all of which must hold."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from suanli.session.agreement import is_within
from suanli.terminal.spelling import suggestion
from suanli_protocol import units, wire
from suanli_protocol.capacity import Lanes, Prices
from suanli_protocol.errors import UsageError

_TERM = re.compile(r"^([a-z]+)\s*(>=|<=|!=|==|=|>|<)\s*(.+)$")
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "==": operator.eq,
    "=": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_WORDS = ("region", "name", "arch", "provider", "tier")
NAMES = ("cpus", "memory", "disk", "price", *_WORDS)


@dataclass(frozen=True)
class Facts:
    """What a filter looks at: free capacity, the price of one core an hour in base units, and what the machine is."""

    free: Lanes
    prices: Prices
    texts: dict[str, str]


def facts_of(view: wire.OfferView) -> Facts:
    """The facts of an offer of the book."""
    free = Lanes(*(int(view.free.get(key, 0)) for key in ("cpuMilli", "memoryMib", "acceleratorMilli", "diskMib")))
    prices = Prices.unpack(int(view.offer["prices"]))
    attributes = view.attributes
    texts = {
        "region": str(attributes.get("region", "")),
        "name": str(attributes.get("name", "")),
        "arch": str(attributes.get("arch", "")),
        "tier": str(attributes.get("sandbox", "")),
        "provider": str(view.offer.get("provider", "")).lower(),
    }
    return Facts(free, prices, texts)


Test = Callable[[Facts], bool]


def parse(text: str, decimals: int) -> Test:
    """The test that all terms of the text make; UsageError names the term that is wrong."""
    tests = [_term(part, decimals) for part in re.sub(r"\s*(>=|<=|!=|==|=|>|<)\s*", r"\1", text).split()]
    return lambda facts: all(test(facts) for test in tests)


def _term(part: str, decimals: int) -> Test:
    found = _TERM.match(part)
    if found is None:
        raise UsageError(f"filter: {part!r} is no condition", hint="write terms such as cpus>=8 price<0.5 region=CN")
    name, sign, value = found[1], found[2], found[3]
    if name not in NAMES:
        raise UsageError(f"filter: there is no {name!r}", hint=suggestion(name, NAMES))
    compare = _OPERATORS[sign]
    if name in _WORDS:
        return _word(name, sign, value)
    wanted = _number(name, value, decimals)
    return lambda facts: compare(_value(name, facts), wanted)


def _word(name: str, sign: str, value: str) -> Test:
    if sign not in ("=", "==", "!="):
        raise UsageError(f"filter: {name} knows = and != only", hint=f"write {name}={value}")
    wanted = value.lower() if name == "provider" else value
    is_equal: Callable[[str], bool] = (lambda text: is_within(text, wanted)) if name == "region" else wanted.__eq__
    return lambda facts: is_equal(facts.texts[name]) == (sign != "!=")


def _number(name: str, value: str, decimals: int) -> int:
    if name == "cpus":
        return units.parse_cores(value, name="filter: cpus")
    if name == "price":
        return units.parse_money(value, decimals, name="filter: price")
    return units.parse_mib(value, name=f"filter: {name}")


def _value(name: str, facts: Facts) -> int:
    amounts = {
        "cpus": facts.free.cpu_milli,
        "memory": facts.free.memory_mib,
        "disk": facts.free.disk_mib,
        "price": facts.prices.core,
    }
    return amounts[name]
