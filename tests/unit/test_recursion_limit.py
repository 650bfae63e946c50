"""No library that we import may raise the limit on recursion: nested JSON of a stranger would end the process."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
import json, sys, tempfile
from pathlib import Path
limit = sys.getrecursionlimit()
from suanli_protocol import contract_abi, keystore
path = Path(tempfile.mkdtemp()) / "key"
keystore.create(path, "secret", scrypt_n=2)
keystore.load(path, "secret").account
contract_abi.contract_abi("LeaseEscrow")
{more}
assert sys.getrecursionlimit() == limit, sys.getrecursionlimit()
try:
    json.loads("[" * 100_000)
except RecursionError:
    print("held")
"""


@pytest.mark.parametrize(
    "more",
    [
        "",
        "import suanli_market.bootstrap, suanli_market.api.server",
        "import suanli_node.startup",
        "import suanli.client",
    ],
    ids=["protocol", "market", "node", "client"],
)
def test_nested_json_stays_an_error(more: str) -> None:
    script = textwrap.dedent(SCRIPT).format(more=more)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "held", done.stderr[-2000:] or f"ended with {done.returncode}"
