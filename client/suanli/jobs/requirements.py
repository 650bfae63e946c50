"""The requirements file of a job, held against what a provider will install before anything is signed."""

from __future__ import annotations

from pathlib import Path

from suanli_protocol.errors import NotFoundError, ProtocolError, UsageError
from suanli_protocol.requirements import read_requirements


def read_hashed(path: Path) -> bytes:
    """The file's bytes; UsageError names the first line that is not a pinned, hashed package."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"there is no requirements file {path}", hint="check python.requirements") from None
    try:
        packages = read_requirements(data.decode())
    except UnicodeDecodeError:
        raise _refused(path, "it is not UTF-8 text", "") from None
    except ProtocolError as error:
        raise _refused(path, error.detail, error.hint) from None
    if not packages:
        raise _refused(path, "it names no package", "leave python.requirements out")
    return data


def _refused(path: Path, detail: str, hint: str) -> UsageError:
    return UsageError(f"{path}: {detail}", hint=hint, code="requirements")
