"""docs/reliability.md: what a deep run did and found, as a table beside the targets; one more section a run."""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from importlib import metadata
from pathlib import Path

from deep.points import POINTS
from deep.rounds import Tally

MARK = "<!-- runs -->"


def section(tally: Tally, *, command: str, seconds: float, seeds: range) -> str:
    """One run in Markdown."""
    kills, reorganisations = tally.kills.total(), tally.reorganisations.total()
    failed = f"{len(tally.failures)} ({', '.join(map(str, tally.failures))})" if tally.failures else "0"
    rows = [
        ("kill -9 at named points", "≥ 1,000 a deep run", str(kills)),
        ("reorganisations", "≥ 300 a deep run", f"{reorganisations} ({_depths(tally.reorganisations)})"),
        ("transactions taken out by them", "", str(tally.transactions_taken)),
        ("jobs", "", f"{tally.jobs.total()} ({_counts(tally.jobs)})"),
        ("rounds with anything lost, doubled, paid twice or left open", "0", failed),
    ]
    lines = [
        f"### {time.strftime('%Y-%m-%d', time.gmtime())}, seeds {seeds.start}–{seeds.stop - 1}",
        "",
        f"`{command}`, {seconds / 60:.1f} minutes, {tally.rounds} rounds; {machine()}.",
        "",
        "| what | goal | this run |",
        "|---|---|---|",
        *(f"| {what} | {goal} | {found} |" for what, goal, found in rows),
        "",
        "| killed | times, by point |",
        "|---|---|",
        *(f"| {role} | {_by_point(tally, points)} |" for role, points in POINTS.items()),
        f"| chain and engine | {_counts(Counter({name: tally.kills[name] for name in ('anvil', 'ray host')}))} |",
        "",
    ]
    for seed, wrong in tally.failures.items():
        lines += [f"Seed {seed}:", *(f"- {line.splitlines()[0][:300]}" for line in wrong[:8]), ""]
    return "\n".join(lines)


def append(path: Path, text: str) -> None:
    """The newest run comes first, below the mark."""
    head, mark, tail = path.read_text().partition(MARK)
    if not mark:
        raise ValueError(f"{path} has no line {MARK}")
    path.write_text(f"{head}{MARK}\n\n{text}{tail}")


def machine() -> str:
    """What it ran on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} processors ({platform.machine()}), {memory:.0f} GiB, Python {platform.python_version()}, "
        f"suanli {metadata.version('suanli')}, ray {metadata.version('ray')}"
    )


def _by_point(tally: Tally, points: tuple[str, ...]) -> str:
    reached = ", ".join(f"{_short(name)} {tally.kills[name]}" for name in points if tally.kills[name])
    idle = ", ".join(_short(name) for name in points if not tally.kills[name])
    return (reached or "none") + (f"; not reached: {idle}" if idle else "")


def _short(name: str) -> str:
    return name.partition(".")[2]


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def _depths(counts: Counter[int]) -> str:
    return ", ".join(f"depth {depth}: {count}" for depth, count in sorted(counts.items()))
