"""How long the sandbox takes to start and end `true`, beside bubblewrap alone with the same namespaces.

Measured within namespaces like the Ray host's, where the node starts its sandboxes.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.inside import run_inside
from bench.rows import Row, Target, beside, measured


def measure() -> Iterator[Row]:
    """Tier B."""
    found = run_inside("bench.sandbox_starts", limit_s=50)
    yield measured("tier B, until the job begins", "ms", found["begun"], target=Target("at most", goal=10),
                   note="Namespaces, mounts, call filter, limits, control groups, a user of its own.")  # fmt: skip
    peers = beside("bubblewrap alone", found["bare"]), beside("no sandbox", found["unconfined"])
    yield measured("tier B, `true` from start to reaped", "ms", found["whole"], beside=peers)
