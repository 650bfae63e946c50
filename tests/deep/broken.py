"""Broken controls: a market and a node that forget, when they start, what they had written down before acting.

python -m deep.broken market|node WORDS…: forgets, then is the real thing. Checks that such a one passes have no teeth.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
from contextlib import closing
from importlib import import_module
from pathlib import Path


def forget_intents(data: Path) -> None:
    """The market's transactions under way are known no more; what they carried still waits for them."""
    path = data / "market.sqlite"
    if path.exists():
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("DELETE FROM chain_transaction WHERE state = 'prepared'")


def forget_runs(state: Path) -> None:
    """The node has no record of its leases and of what it ran."""
    for folder in (state / "leases", state / "executor" / "runs"):
        for path in folder.iterdir() if folder.exists() else ():
            shutil.rmtree(path, ignore_errors=True)


def main() -> None:
    """Forgets, then serves."""
    role, *words = sys.argv[1:]
    sys.argv = [f"suanli-{role}", *words]
    if role == "market":
        forget_intents(Path(words[words.index("--data") + 1]))
        module = import_module("suanli_market.cli")
    else:
        forget_runs(Path(words[words.index("--state") + 1]))
        module = import_module("suanli_node.cli")
    module.main()


if __name__ == "__main__":
    main()
