"""The market's events as a person reads them: local time, the job, what happened, in a line that steers no terminal."""

from __future__ import annotations

import time
from typing import Any

from suanli.jobs.record import Record
from suanli.session.outcome import words
from suanli.terminal.plain import one_line
from suanli_protocol import wire
from suanli_protocol.units import format_money

KINDS: dict[object, str] = {0: "interim", 1: "done", 2: "failed"}  # of receipts and claims


def line(event: wire.Event, record: Record | None) -> str:
    """One aligned line."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at / 1000))
    place = record.short if record is not None else (event.bid or event.lease or "–")[:10]
    text = one_line(describe(event, record))
    return f"{at}  {place:<10}  {event.kind:<20}  {text}".rstrip()


def describe(event: wire.Event, record: Record | None) -> str:
    """What the event's data say, in words."""
    data = event.data
    if event.kind == "bid.unmatched":
        return unmatched(data)
    if event.kind == "lease.phase":
        reason = str(data.get("reason", ""))
        return f"{data.get('phase', '')}{': ' + words(reason) if reason else ''}"
    shown = [(name, value) for name, value in data.items() if _is_short(value)]
    shown.sort(key=lambda item: str(item[1]).startswith("0x"))  # what is long comes last
    return ", ".join(f"{name} {_value(name, value, record)}" for name, value in shown)


def unmatched(data: dict[str, Any]) -> str:
    """Which condition rejects how many offers: counts, of all that were considered."""
    found = data.get("rejections")
    considered = data.get("considered")
    if not isinstance(found, list) or not found:
        return "the market has no open offer" if considered == 0 else "no offer fits"
    whole = f" of {considered}" if isinstance(considered, int) else ""
    parts = [
        f"{item.get('offers', '?')}{whole} {item.get('detail') or item.get('condition', '')}"
        for item in found
        if isinstance(item, dict)
    ]
    return "; ".join(parts)


def _is_short(value: object) -> bool:
    return isinstance(value, str | int) and value != "" and len(str(value)) <= 80


def _value(name: str, value: object, record: Record | None) -> str:
    is_money = name in ("paid", "fee", "amount", "penalty", "price", "deposit", "rate")
    if record is not None and is_money and str(value).isdigit():
        return f"{format_money(int(str(value)), record.decimals)} {record.symbol}"
    if name == "kind" and value in KINDS:
        return KINDS[value]
    if name == "clock" and isinstance(value, int):
        return time.strftime("%H:%M:%S", time.localtime(value))
    return str(value)
