"""The Ray host's own mounts: what it must not read is masked, or gone with what lay under /run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from suanli_node.engine.executor import namespaces

pytestmark = pytest.mark.e2e

ENTER = """
import json, sys
from pathlib import Path
from suanli_node.engine.namespace import StateFolder, enter
state, *mask = map(Path, sys.argv[1:])
StateFolder(state).create()
enter(StateFolder(state), mask)
print(json.dumps([path.read_text() if path.exists() else None for path in mask]))
"""


def test_a_credential_under_run_is_gone_and_a_key_elsewhere_is_empty(tmp_path: Path) -> None:
    """A service manager hands passwords over under /run, which the host sees as an empty folder of its own."""
    key, credential = tmp_path / "key.json", Path("/run/credentials/suanli-node.service/suanli-password")
    key.write_text("a secret key")
    command = [*namespaces(), sys.executable, "-c", ENTER, str(tmp_path / "state"), str(key), str(credential)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["", None]
    assert key.read_text() == "a secret key"
