"""Figures as Prometheus reads them: counters that grow in this process, gauges that are read when asked for."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SERIES_MAX = 2_000  # of one counter; labels come from our own code, and a bug in it must not fill the memory
_PREFIX = "suanli_market_"

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Family:
    """One figure with its help and its series by labels."""

    name: str
    help: str
    kind: Literal["gauge", "counter"]
    series: Mapping[Labels, float]


def gauge(name: str, help_: str, value: float) -> Family:
    """A gauge without labels."""
    return Family(name, help_, "gauge", {(): value})


class Counters:
    """Sums since the process began, by name and labels. Thread-safe."""

    def __init__(self, helps: Mapping[str, str]) -> None:
        self._helps = helps
        self._lock = threading.Lock()
        self._sums: dict[str, Counter[Labels]] = {name: Counter() for name in helps}

    def add(self, name: str, value: float = 1, **labels: str) -> None:
        """Adds to one series of a counter that was declared."""
        key = tuple(labels.items())
        with self._lock:
            series = self._sums[name]
            if key in series or len(series) < SERIES_MAX:
                series[key] += value  # type: ignore[assignment]  # Counter holds any number

    def families(self) -> list[Family]:
        """All counters as they stand."""
        with self._lock:
            return [Family(name, self._helps[name], "counter", dict(sums)) for name, sums in self._sums.items()]


def exposition(families: Iterable[Family]) -> str:
    """The figures in Prometheus' text format."""
    lines: list[str] = []
    for family in families:
        name = _PREFIX + family.name
        lines += [f"# HELP {name} {_escaped(family.help)}", f"# TYPE {name} {family.kind}"]
        lines += [f"{name}{_labels(labels)} {value:.17g}" for labels, value in family.series.items()]
    return "\n".join(lines) + "\n"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    quoted = (f'{name}="{_escaped(value)}"' for name, value in labels)
    return "{" + ",".join(quoted).replace("\0", "") + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
