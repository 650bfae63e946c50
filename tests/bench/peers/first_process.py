"""The first process of fresh namespaces: arranges them as the node's Ray host does, then runs a module's `main`."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

from suanli_node.engine.namespace import StateFolder, enter

if __name__ == "__main__":
    state = StateFolder(Path(sys.argv[1]) / "state")
    state.create()
    enter(state, [])
    home = Path("/run/home")
    home.mkdir()
    os.environ.update(HOME=str(home), RAY_USAGE_STATS_ENABLED="0")
    answer = importlib.import_module(sys.argv[2]).main(*sys.argv[3:])
    sys.stdout.write(f"\n{json.dumps(answer)}\n")
    sys.stdout.flush()
    os._exit(0)  # pid 1: the kernel ends everything else
