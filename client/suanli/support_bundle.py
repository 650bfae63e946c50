"""What helps somebody else to find a fault: one JSON file with the findings of `doctor`, and no secret in it.

In it: versions, the platform, settings with their origins (addresses without names, passwords and queries; of key and
password file only whether they are there), the checks, and of the newest jobs ids, phases, reasons and times. Never:
keys, passwords, commands, variables, files, logs, outputs, signatures.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from suanli.config import PATHS, Config
from suanli.doctor import Finding, to_json
from suanli.files import shorten_home, write_atomically
from suanli.jobs.record import Record
from suanli_protocol.errors import UsageError

JOBS_MAX = 20
PACKAGES = ("suanli", "click", "coincurve", "cryptography", "eth-account", "httpx", "pydantic", "rich", "web3")
VERSION = 1


def write(path: Path, config: Config, findings: Iterable[Finding], records: Iterable[Record]) -> None:
    """Writes the bundle; UsageError if there is something at the path already."""
    if path.exists():
        raise UsageError(f"{path} is there already", hint="name another file", code="exists")
    content = gather(config, list(findings), list(records)[:JOBS_MAX])
    write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n")


def gather(config: Config, findings: list[Finding], records: list[Record]) -> dict[str, Any]:
    """The bundle's content."""
    return {
        "version": VERSION,
        "writtenAt": int(time.time()),
        "platform": {"system": platform.platform(), "machine": platform.machine(), "python": sys.version.split()[0]},
        "packages": {name: _version(name) for name in PACKAGES},
        "settings": {name: _setting(config, name) for name in config.settings},
        "checks": [_without_secrets(item, config) for item in to_json(findings)],
        "jobs": [_job(record) for record in records],
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _setting(config: Config, name: str) -> dict[str, object]:
    value, origin = config.get(name) or "", config.origin(name)
    if name in PATHS:
        return {"isThere": Path(value).expanduser().is_file(), "origin": origin}
    return {"value": bare_address(value), "origin": origin}


def bare_address(text: str) -> str:
    """A server's address without user, password, path, query and fragment: access keys often stand there."""
    parts = urlsplit(text)
    if not parts.hostname:
        return text
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    return urlunsplit((parts.scheme, host + port, "", "", ""))


def _without_secrets(check: dict[str, Any], config: Config) -> dict[str, Any]:
    """A check's words with addresses made bare, and homes shortened."""
    found = dict(check)
    for name in ("detail", "fix"):
        words = str(found[name])
        for setting in config.settings.values():
            if setting.value and setting.name not in PATHS:
                words = words.replace(setting.value.rstrip("/"), bare_address(setting.value))
            elif setting.value:
                words = words.replace(setting.value, f"({setting.name})")
                words = words.replace(shorten_home(setting.value), f"({setting.name})")
        found[name] = words.replace(str(Path.home()), "~")
    return found


def _job(record: Record) -> dict[str, Any]:
    return {
        "job": record.id,
        "phase": record.phase,
        "reason": record.reason,
        "createdAt": record.created_at,
        "lease": record.lease or None,
        "number": record.number or None,
        "provider": record.provider or None,
        "chainId": record.chain_id,
        "escrow": record.escrow,
        "delivered": list(record.delivered),
        "hasReceipt": record.receipt is not None,
        "isSigned": bool(record.countersignature),
        "exitCode": record.exit_code,
        "unchecked": list(record.unchecked),
    }
