"""docs/benchmarks.md out of the kept results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench import figures
from bench.rows import Result, Row

HEAD = """# Benchmarks

`make bench` measures all of this and writes this page; `make bench ONLY=gas,job` refreshes some of it. Alternatives are
measured in the same run on the same machine unless a source is named. On a small or busy machine times scatter: the
ratios count, and gas is exact.

A figure is the median; its spread is minimum … 90th percentile … maximum (count). *First* is what the first whole
version must show, *goal* where the project is going; × marks bounds of the ratio to the first alternative.
"""
COLUMNS = ("what", "measured", "spread", "beside it", "ratio", "first", "goal", "meets")


def markdown(results: Sequence[Result]) -> str:
    """The whole page."""
    parts = [HEAD]
    short = [f"- {row.name}: {_short(row)}" for result in results for row in result.rows if _falls_short(row)]
    if short:
        parts += ["## What falls short\n", *short, ""]
    for result in results:
        parts += _section(result)
    parts += _footer(results)
    return "\n".join(parts).rstrip() + "\n"


def _section(result: Result) -> Iterator[str]:
    yield f"## {result.title}\n"
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{'---|' * len(COLUMNS)}"
    yield from (f"| {' | '.join(_cells(row))} |" for row in result.rows)
    yield ""
    notes = [f"- {row.name}: {' '.join(filter(None, (row.note, row.problem)))}" for row in result.rows
             if row.note or (row.problem and row.value is not None)]  # fmt: skip
    if notes:
        yield from (*notes, "")
    yield f"{result.at} UTC, {result.seconds:.0f} s, `{result.command}`.\n"


def _cells(row: Row) -> tuple[str, ...]:
    if row.value is None:
        return row.name, f"not measured: {_one_line(row.problem)}", "", "", "", "", "", ""
    return (
        row.name,
        f"{figures.number(row.value)} {row.unit}",
        figures.spread(row.spread),
        "<br>".join(figures.beside(one) for one in row.beside) or "–",
        figures.number(row.ratio),
        figures.bound(row.target, "first"),
        figures.bound(row.target, "goal"),
        figures.verdict(row) or "–",
    )


def _falls_short(row: Row) -> bool:
    return row.value is None or row.meets("first") is False


def _short(row: Row) -> str:
    """Figure, bound and cause."""
    if row.value is None:
        return f"not measured: {_one_line(row.problem)}"
    target = row.target
    by_ratio = target is not None and target.of == "ratio"
    figure = (
        f"{figures.number(row.ratio)} × {row.beside[0].name}" if by_ratio else f"{figures.number(row.value)} {row.unit}"
    )
    return f"{figure}, first {figures.bound(target, 'first')}. {row.note}".rstrip()


def _footer(results: Sequence[Result]) -> Iterator[str]:
    """Machines and versions, each set of them once."""
    yield "## Measured on\n"
    for machine in dict.fromkeys(result.machine for result in results):
        names = ", ".join(result.subject for result in results if result.machine == machine)
        yield f"- {machine} ({names})"
    for versions in dict.fromkeys(tuple(result.versions.items()) for result in results):
        yield f"- {', '.join(f'{name} {value}' for name, value in versions)}"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
