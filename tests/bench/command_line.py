"""How long a person waits for a command that does nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

from bench.rows import Row, Target, beside, measured

RUNS = 9
FRAMES = ("suanli.cli", "suanli_node.cli", "suanli_market.cli")


def measure() -> Iterator[Row]:
    """`--help` of the three commands, beside an interpreter that does nothing."""
    bare = [seconds("-c", "pass") for _ in range(RUNS)]
    for module in FRAMES:
        seconds("-m", module, "--help")
        taken = [seconds("-m", module, "--help") for _ in range(RUNS)]
        target = Target("at most", 0.3, 0.15) if module == FRAMES[0] else None
        name = module.removesuffix(".cli").replace("_", "-")
        yield measured(f"`{name} --help`", "s", taken, beside=(beside("`python -c pass`", bare),), target=target)


def seconds(*arguments: str) -> float:
    """Of one start of the interpreter to its end."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, timeout=30)
    return time.perf_counter() - begun
