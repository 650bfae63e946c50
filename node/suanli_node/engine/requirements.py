"""What a job may ask to be installed: exact versions with SHA-256 digests, and nothing else."""

from __future__ import annotations

import re

from packaging.requirements import InvalidRequirement, Requirement

from suanli_protocol.errors import ExecutionError
from suanli_protocol.reasons import Reason

REQUIREMENTS_BYTES_MAX = 1024 * 1024
_HASH = re.compile(r"--hash[= ]sha256:([0-9a-f]{64})(?=\s|$)")
_COMMENT = re.compile(r"(^|\s)#.*$")


def check_requirements(text: str) -> list[str]:
    """The requirements without their hashes; ExecutionError that names the first line that is not allowed."""
    if len(text.encode()) > REQUIREMENTS_BYTES_MAX:
        raise _refused(f"the requirements exceed {REQUIREMENTS_BYTES_MAX} bytes", "ask for fewer packages")
    return [_check_line(line) for line in logical_lines(text)]


def logical_lines(text: str) -> list[str]:
    """Lines with continuations joined, without comments and empty lines."""
    joined = re.sub(r"\\\r?\n", " ", text)
    lines = (_COMMENT.sub("", line).strip() for line in joined.splitlines())
    return [line for line in lines if line]


def _check_line(line: str) -> str:
    if line.startswith("-"):
        raise _refused(
            f"option {line.split()[0].split('=')[0]!r:.80}", "only the provider chooses where packages come from"
        )
    hashes = _HASH.findall(line)
    bare = _HASH.sub("", line).strip()
    if "://" in bare or re.search(r"\s@\s|^\S+@", bare):
        raise _refused(f"{bare!r:.120} points to an address", "pin a version of an indexed package")
    if bare.startswith((".", "/", "~")) or re.search(r"\.(whl|zip|tar\.\w+|tgz)$", bare):
        raise _refused(f"{bare!r:.120} is a path", "pin a version of an indexed package")
    if "--" in bare:
        raise _refused(f"{bare!r:.120} carries an option", "only --hash=sha256:… may follow a requirement")
    if not hashes:
        raise _refused(f"{bare!r:.120} has no --hash=sha256:…", "uv pip compile --generate-hashes writes them")
    try:
        requirement = Requirement(bare)
    except InvalidRequirement as error:
        raise _refused(f"{bare!r:.120}: {error}".replace("\n", " "), "correct the line") from None
    pins = [pin for pin in requirement.specifier if pin.operator in ("==", "===") and "*" not in pin.version]
    if len(pins) != 1 or len(requirement.specifier) != 1:
        raise _refused(f"{bare!r:.120} does not name one version", "write name==version")
    return bare


def _refused(detail: str, hint: str) -> ExecutionError:
    return ExecutionError(f"requirements: {detail}", hint=hint, code=Reason.ENVIRONMENT_FAILED.value)
