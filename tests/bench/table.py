"""One subject's rows for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from bench import figures
from bench.rows import Result

MARKS = {"goal": "✓✓", "first": "✓", "no": "✗", "": " "}


def lines(result: Result) -> Iterator[str]:
    """The rows, each with what stands beside it."""
    yield f"\n{result.title} ({result.seconds:.0f} s)"
    for row in result.rows:
        if row.value is None:
            yield f"   {row.name}: not measured: {row.problem}"
            continue
        ratio = f", {figures.number(row.ratio)} × {row.beside[0].name}" if row.ratio is not None else ""
        yield f"{MARKS[figures.verdict(row)]:>2} {row.name}: {figures.number(row.value)} {row.unit}{ratio}"
        if spread := figures.spread(row.spread):
            yield f"      spread {spread}"
        for one in row.beside:
            yield f"      beside {figures.beside(one)}"
        if row.target is not None:
            yield f"      first {figures.bound(row.target, 'first')}, goal {figures.bound(row.target, 'goal')}"
        if row.problem:
            yield f"      {row.problem}"
