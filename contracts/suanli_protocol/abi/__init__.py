"""The compiled contracts: ABI and bytecode, written by contracts/compile.py."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any


@cache
def artifact(name: str) -> dict[str, Any]:
    """The artifact of a contract ("LeaseEscrow", "DevCredit"): contractName, abi, bytecode, deployedBytecode, compiler,
    and immutables: where in the deployed code each has its 32 bytes.

    The dictionary is shared: read it, never change it. FileNotFoundError for a name that is not shipped.
    """
    text = resources.files(__name__).joinpath(f"{name}.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded
