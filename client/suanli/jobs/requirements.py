"""The requirements file of a job: every line pins one package by version and hash, so that it names one environment."""

from __future__ import annotations

import re
from pathlib import Path

from suanli_protocol.errors import NotFoundError, UsageError

FILE_BYTES_MAX = 4 * 1024 * 1024
_PIN = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._,\s-]*\])?\s*==\s*[A-Za-z0-9.!+_-]+\s*(;[^#]*)?$")
_HASH = re.compile(r"\s--hash=sha256:[0-9a-f]{64}(?=\s|$)")


def read_hashed(path: Path) -> bytes:
    """The file's bytes; UsageError names the first line that is not a pinned, hashed package."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"there is no requirements file {path}", hint="check python.requirements") from None
    if len(data) > FILE_BYTES_MAX:
        raise _refused(path, f"it is longer than {FILE_BYTES_MAX} bytes", "")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise _refused(path, "it is not UTF-8 text", "") from None
    count = 0
    for number, line in _logical_lines(text):
        _check(path, number, line)
        count += 1
    if not count:
        raise _refused(path, "it names no package", "leave python.requirements out")
    return data


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """(first line's number, line without comment) with continued lines joined."""
    joined: list[tuple[int, str]] = []
    pending, start = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*$", "", raw).strip()
        start = start or number
        if line.endswith("\\"):
            pending += line[:-1] + " "
            continue
        if whole := (pending + line).strip():
            joined.append((start, whole))
        pending, start = "", 0
    if pending.strip():
        joined.append((start, pending.strip()))
    return joined


def _check(path: Path, number: int, line: str) -> None:
    if line.startswith("-"):
        raise _refused(path, f"line {number} is an option: {line[:60]}", "write packages only (--no-emit-index-url)")
    if not _HASH.search(line):
        raise _refused(path, f"line {number} has no hash: {line[:60]}", "uv pip compile --generate-hashes makes them")
    if not _PIN.match(_HASH.sub("", line).strip()):
        raise _refused(path, f"line {number} is not NAME==VERSION: {line[:60]}", "no addresses, paths or ranges")


def _refused(path: Path, detail: str, hint: str) -> UsageError:
    return UsageError(f"{path}: {detail}", hint=hint, code="requirements")
