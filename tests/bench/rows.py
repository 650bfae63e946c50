"""What a benchmark says: rows with value, spread, alternatives beside it, the ratio, and the targets that it meets."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

Sense = Literal["at most", "at least"]
COMPARE: dict[str, Callable[[float, float], bool]] = {"at most": operator.le, "at least": operator.ge}


@dataclass(frozen=True)
class Spread:
    """How repeated measurements scatter, in the row's unit."""

    count: int
    low: float
    p50: float
    p90: float
    high: float


@dataclass(frozen=True)
class Beside:
    """An alternative's figure in the row's unit: measured in this run, or (`source`) elsewhere by somebody."""

    name: str
    value: float
    spread: Spread | None = None
    source: str = ""


@dataclass(frozen=True)
class Target:
    """What is aimed at: a bound of the value, or of the ratio to the first alternative. None: no figure was set."""

    sense: Sense
    first: float | None = None
    goal: float | None = None
    of: Literal["value", "ratio"] = "value"


@dataclass(frozen=True)
class Row:
    """One figure. `problem` says why there is none, or why an alternative is missing."""

    name: str
    unit: str
    value: float | None = None
    spread: Spread | None = None
    beside: tuple[Beside, ...] = ()
    target: Target | None = None
    note: str = ""
    problem: str = ""

    @property
    def ratio(self) -> float | None:
        """Value over the first alternative's, if that was measured here."""
        if self.value is None or not self.beside or self.beside[0].source or not self.beside[0].value:
            return None
        return self.value / self.beside[0].value

    @property
    def _aimed(self) -> float | None:
        return self.ratio if self.target is not None and self.target.of == "ratio" else self.value

    def meets(self, bound: Literal["first", "goal"]) -> bool | None:
        """Whether the bound is met; None without a bound or a figure."""
        limit = getattr(self.target, bound) if self.target is not None else None
        if self.target is None or limit is None or self._aimed is None:
            return None
        return COMPARE[self.target.sense](self._aimed, limit)

    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The row of its own JSON form."""
        beside = tuple(Beside(**{**one, "spread": _spread(one["spread"])}) for one in data["beside"])
        target = Target(**data["target"]) if data["target"] else None
        return cls(**{**data, "spread": _spread(data["spread"]), "beside": beside, "target": target})


@dataclass(frozen=True)
class Result:
    """What one subject measured, when, where and with what."""

    subject: str
    title: str
    rows: tuple[Row, ...]
    at: str  # UTC, to the minute
    seconds: float
    command: str
    machine: str
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """True if nothing is missing."""
        return bool(self.rows) and not any(row.problem for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The result of its own JSON form."""
        return cls(**{**data, "rows": tuple(Row.from_json(row) for row in data["rows"])})


def spread(values: Sequence[float]) -> Spread:
    """The spread of one or more measurements."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return Spread(len(ordered), ordered[0], ordered[last // 2], ordered[round(last * 0.9)], ordered[last])


def measured(name: str, unit: str, values: Sequence[float], **fields: Any) -> Row:
    """A row whose value is the median of its measurements."""
    found = spread(values)
    return Row(name, unit, found.p50, found, **fields)


def beside(name: str, values: Sequence[float]) -> Beside:
    """An alternative's median."""
    found = spread(values)
    return Beside(name, found.p50, found)


def missing(name: str, unit: str, why: str) -> Row:
    """A row without a figure."""
    return Row(name, unit, problem=why)


def _spread(data: dict[str, Any] | None) -> Spread | None:
    return Spread(**data) if data else None
