"""What a job may ask to be installed: exact versions with SHA-256 digests, and nothing else.

The client holds a requirements file against this before it signs, the node again before it installs. The form is that
of pip's requirements files; where packages come from is the provider's choice, so options have no place in it. What
is installed is what was read here, written anew: no other reader's idea of a comment or a continued line counts.
"""

from __future__ import annotations

import re

from packaging.requirements import InvalidRequirement, Requirement

from suanli_protocol.errors import ProtocolError

REQUIREMENTS_BYTES_MAX = 1024 * 1024
_HASH = re.compile(r"--hash[= ]sha256:([0-9a-f]{64})(?=\s|$)")
_COMMENT = re.compile(r"(^|\s)#.*$")
_CONTINUED = re.compile(r"\\\s*$")
_PATH = re.compile(r"^[./~]|\.(whl|zip|tar\.\w+|tgz)$")
_ADDRESS = re.compile(r"://|\s@\s|^\S+@")


def read_requirements(text: str) -> list[str]:
    """One line a package, pin and hashes; ProtocolError that names the first line that is not allowed."""
    if len(text.encode()) > REQUIREMENTS_BYTES_MAX:
        raise _refused(f"more than {REQUIREMENTS_BYTES_MAX} bytes", "ask for fewer packages")
    return [_check_line(number, line) for number, line in _logical_lines(text)]


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """(number of its first line, text) with continuations joined, without comments and empty lines."""
    lines: list[tuple[int, str]] = []
    pending, start = "", 0
    for number, raw in enumerate([*text.splitlines(), ""], 1):
        pending, start = pending + raw, start or number
        if _CONTINUED.search(pending) and not _COMMENT.search(pending):
            pending = _CONTINUED.sub(" ", pending)
            continue
        if line := _COMMENT.sub("", pending).strip():
            lines.append((start, line))
        pending, start = "", 0
    return lines


def _check_line(number: int, line: str) -> str:
    where = f"line {number}: "
    if line.startswith("-"):
        option = line.split()[0].split("=")[0]
        raise _refused(f"{where}option {option!r:.80}", "only the provider chooses where packages come from")
    hashes = _HASH.findall(line)
    bare = _HASH.sub("", line).strip()
    if _ADDRESS.search(bare):
        raise _refused(f"{where}{bare!r:.120} points to an address", "pin a version of an indexed package")
    if _PATH.search(bare):
        raise _refused(f"{where}{bare!r:.120} is a path", "pin a version of an indexed package")
    if "--" in bare:
        raise _refused(f"{where}{bare!r:.120} carries an option", "only --hash=sha256:… may follow a requirement")
    if not hashes:
        raise _refused(f"{where}{bare!r:.120} has no --hash=sha256:…", "uv pip compile --generate-hashes writes them")
    _check_pin(where, bare)
    return " ".join([bare, *(f"--hash=sha256:{digest}" for digest in hashes)])


def _check_pin(where: str, bare: str) -> None:
    try:
        requirement = Requirement(bare)
    except InvalidRequirement as error:
        raise _refused(f"{where}{bare!r:.120}: {error}".replace("\n", " "), "correct the line") from None
    pins = [pin for pin in requirement.specifier if pin.operator in ("==", "===") and "*" not in pin.version]
    if len(pins) != 1 or len(requirement.specifier) != 1:
        raise _refused(f"{where}{bare!r:.120} does not name one version", "write name==version")


def _refused(detail: str, hint: str) -> ProtocolError:
    return ProtocolError(detail, hint=hint, code="requirements")
