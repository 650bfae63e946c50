"""Who runs what when several workers share the tests: the longest files first, and the very long ones in parts.

A file stays on one worker, because its tests share a chain, a market and a node; each part of a file has its own.
"""

from __future__ import annotations

from math import ceil
from zlib import crc32

from xdist.scheduler.loadscope import LoadScopeScheduling

PART_S = 90
SECONDS = {  # measured on two cores with three workers; a file that is not named takes a few
    "tests/e2e/test_client_cli.py": 250,
    "tests/e2e/test_node_daemon.py": 165,
    "tests/e2e/test_crashes.py": 130,
    "tests/e2e/test_node_retry.py": 70,
    "tests/e2e/market/test_market_ways_out.py": 65,
    "tests/e2e/market/test_market_life.py": 65,
    "tests/e2e/test_demo.py": 60,
    "tests/e2e/test_node_executor.py": 50,
    "tests/e2e/test_hostile_jobs.py": 40,
    "tests/e2e/test_audit.py": 35,
    "tests/contract/test_bytecode.py": 33,
    "tests/e2e/test_market_dies.py": 30,
    "tests/e2e/test_hardhat_node.py": 25,
    "tests/e2e/test_accelerators.py": 25,
    "tests/e2e/test_behind_proxy.py": 24,
    "tests/e2e/market/test_market_papers.py": 16,
    "tests/unit/test_client_jobfile.py": 15,
    "tests/e2e/market/test_market_opening.py": 12,
}


def seconds(nodeid: str) -> int:
    """About how long the file of a test takes."""
    return SECONDS.get(nodeid.partition("::")[0], 5)


def share(nodeid: str) -> str:
    """The name of the share that a test belongs to: its file, or a part of it."""
    file, _, name = nodeid.partition("::")
    return f"{file}#{crc32(name.encode()) % ceil(seconds(nodeid) / PART_S)}"


class Shares(LoadScopeScheduling):
    """Gives each worker one share after the other, in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        return share(nodeid)
