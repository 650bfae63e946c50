"""A consistent copy of the database while the market serves. Sealed blobs are not in it: copy `blobs/` beside it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from suanli_market.store import FILE, StorageError, Store
from suanli_protocol.errors import UsageError

_NEW_FILE = "name a new file; a backup never replaces another"


class FileTakenError(UsageError):
    """There is a file of the name already; it was not touched."""

    code, title = "file_exists", "There is such a file already"


def back_up(data: Path, target: Path) -> int:
    """Writes the database of the folder as it is at one moment to a new file, whole or not at all; its size in bytes.

    FileTakenError if the file exists; ConfigurationError if there is no database; StorageError if it cannot be
    written. Writers of a serving market are not held up.
    """
    if target.exists():
        raise FileTakenError(f"{target} exists", hint=_NEW_FILE)
    store = Store.existing(data)
    try:
        store.require_readable()
    finally:
        store.close()
    part = target.with_name(target.name + ".part")
    try:
        part.unlink(missing_ok=True)
        part.touch(mode=0o600)
        _copy(data / FILE, part)
        _sync(part)
        os.link(part, target)  # fails if another backup took the name meanwhile
        _sync(target.parent)
    except FileExistsError:
        raise FileTakenError(f"{target} exists", hint=_NEW_FILE) from None
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"{target} cannot be written: {error}", hint="name a file on a disk with room") from error
    finally:
        part.unlink(missing_ok=True)
    return target.stat().st_size


def _copy(source: Path, target: Path) -> None:
    address = f"{source.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as held, closing(sqlite3.connect(target)) as copy:
        held.backup(copy)  # all pages in one step: one snapshot
        copy.execute("PRAGMA journal_mode=DELETE")
        copy.execute("UPDATE cursor SET history = lower(hex(randomblob(16)))")  # its events go on in another way
        copy.commit()
        found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError(f"the copy is damaged: {found}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
