"""Where the client keeps its things, and how it writes them: private folders, atomic files."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

PRIVATE_DIR = 0o700
PRIVATE_FILE = 0o600


def data_home() -> Path:
    """The folder of all that the client remembers: `suanli` in $SUANLI_HOME, $XDG_DATA_HOME or ~/.local/share."""
    named = os.environ.get("SUANLI_HOME") or os.environ.get("XDG_DATA_HOME")
    return (Path(named).expanduser() if named else Path.home() / ".local" / "share") / "suanli"


def config_home() -> Path:
    """The folder of the user's own settings: `suanli` under $XDG_CONFIG_HOME or ~/.config."""
    named = os.environ.get("XDG_CONFIG_HOME")
    return (Path(named).expanduser() if named else Path.home() / ".config") / "suanli"


def private_dir(path: Path) -> Path:
    """Makes a folder (and its parents) that only its owner can enter."""
    path.mkdir(mode=PRIVATE_DIR, parents=True, exist_ok=True)
    return path


def write_atomically(path: Path, data: bytes, *, mode: int = PRIVATE_FILE) -> None:
    """Replaces a file whole or not at all; it is on the disk when this returns."""
    private_dir(path.parent)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
        _sync_folder(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _sync_folder(path: Path) -> None:
    """Makes durable which files a folder has."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Replaces a JSON file atomically."""
    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n")


def shorten_home(path: Path | str) -> str:
    """A path as a person reads it: ~ for the home folder."""
    text, home = str(path), str(Path.home())
    return "~" + text[len(home) :] if text == home or text.startswith(home + "/") else text
