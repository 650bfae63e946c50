"""The packaged Solidity compiler with the arguments of a native solc, for callers that expect one binary.

It resolves `contracts/…` from the repository's root and libraries from node_modules, and drops the lines that
solc.js mixes into its JSON.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence

import nodejs

SCRIPT = nodejs.ROOT / "node_modules" / "solc" / "solc.js"


def main(arguments: Sequence[str]) -> int:
    """Runs solc.js; its exit status is ours."""
    paths = ["--base-path", str(nodejs.ROOT), "--include-path", str(nodejs.ROOT / "node_modules")]
    command = [str(nodejs.NODE), str(SCRIPT), *arguments, *(paths if "--standard-json" in arguments else [])]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as answer:  # a pipe would be cut off: solc.js exits at once
        status = subprocess.run(command, stdout=answer, env=nodejs.environment(), check=False).returncode
        answer.seek(0)
        sys.stdout.writelines(line for line in answer if not line.startswith(">>>"))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
