"""Figures as people read them."""

from __future__ import annotations

from bench.rows import Beside, Row, Spread, Target


def number(value: float | None) -> str:
    """Three significant digits below a hundred, whole above, thousands apart."""
    if value is None:
        return "–"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def spread(found: Spread | None) -> str:
    """min … p90 … max of how many."""
    if found is None or found.count < 2:
        return ""
    return f"{number(found.low)} … p90 {number(found.p90)} … {number(found.high)} ({found.count})"


def beside(one: Beside) -> str:
    """Name and figure, and where it was measured if not here."""
    where = f", {one.source}" if one.source else ""
    return f"{one.name} {number(one.value)}{where}"


def bound(target: Target | None, which: str) -> str:
    """A target's bound with its sense; a ratio has a ×."""
    limit = getattr(target, which) if target is not None else None
    if target is None or limit is None:
        return "–"
    sign = "≤" if target.sense == "at most" else "≥"
    return f"{sign} {number(limit)}{' ×' if target.of == 'ratio' else ''}"


def verdict(row: Row) -> str:
    """Which of the bounds are met."""
    first, goal = row.meets("first"), row.meets("goal")
    if goal:
        return "goal"
    if first or (first is None and row.value is not None and row.target is None):
        return "first" if first else ""
    return "no" if first is False or (first is None and goal is False) else ""
