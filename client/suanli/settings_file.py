"""A settings file that is changed one setting at a time: every other line of it stays as its owner wrote it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

from suanli.config import LOCAL_FILE, MEANING, NAMES, PATHS, read_file, user_file
from suanli.files import write_atomically
from suanli.terminal.spelling import suggestion
from suanli_protocol.errors import UsageError

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def place(*, local: bool) -> Path:
    """The file: the user's own, or the current folder's."""
    return Path.cwd() / LOCAL_FILE if local else user_file()


def write(path: Path, name: str, value: str) -> None:
    """Sets one setting; UsageError if there is none of that name or the value cannot be one."""
    _check_name(name)
    line = f"{name} = {json.dumps(_checked(name, value), ensure_ascii=False)}\n"
    lines = _lines(path)
    found = [i for i, text in enumerate(lines) if _sets(text, name)]
    if found:
        lines[found[0]] = line
    else:
        lines.append(line)
    _save(path, lines)


def remove(path: Path, name: str) -> None:
    """Removes one setting; UsageError if the file does not have it."""
    _check_name(name)
    lines = _lines(path)
    kept = [text for text in lines if not _sets(text, name)]
    if len(kept) == len(lines):
        raise UsageError(f"{name} is not set in {path}", hint="`suanli config show --origin` says where it comes from")
    _save(path, kept)


def _check_name(name: str) -> None:
    if name not in NAMES:
        raise UsageError(f"there is no setting {name!r}", hint=suggestion(name, NAMES))


def _checked(name: str, value: str) -> str:
    if not value or _CONTROL.search(value):
        raise UsageError(f"{name}: {value!r} cannot be its value", hint=MEANING[name])
    if name in PATHS:
        return str(Path(value).expanduser().absolute())
    if name in ("market", "chain"):
        _check_url(name, value)
    elif name in ("escrow", "arbiter", "guard"):
        from suanli_protocol.wire import read_address

        return read_address(value, name=name)
    elif name == "window":
        from suanli_protocol.units import parse_duration

        parse_duration(value, name=name)
    return value


def _check_url(name: str, value: str) -> None:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{name}: {value!r} is no address of a server", hint=MEANING[name])


def _lines(path: Path) -> list[str]:
    read_file(path)  # a file that is wrong is named before it is changed
    if not path.is_file():
        return []
    return [line + "\n" for line in path.read_text().splitlines()]


def _sets(line: str, name: str) -> bool:
    return re.match(rf"\s*[\"']?{name}[\"']?\s*=", line) is not None


def _save(path: Path, lines: list[str]) -> None:
    write_atomically(path, "".join(lines).encode())
    read_file(path)
