"""The documents that a party kept: found in a folder by what they are and by their digests, never by their names.

Every `*.json` file is looked into: it is a document itself, or a record whose members are documents. A folder that
holds an evidence naming a lease is taken to be that lease's; its other documents are claimed to belong to the lease.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suanli_protocol.documents import Attributes, Constraints, Document, Evidence, JobDocument
from suanli_protocol.errors import NotFoundError, ProtocolError

FILES_MAX = 20_000
FILE_BYTES_MAX = 4 * 1024 * 1024
KINDS: tuple[type[Document], ...] = (Evidence, JobDocument, Attributes, Constraints)


@dataclass
class Folder:
    """The documents of one folder, and where it says the outputs were put."""

    path: Path
    evidences: list[Evidence] = field(default_factory=list)
    jobs: list[JobDocument] = field(default_factory=list)
    attributes: list[Attributes] = field(default_factory=list)
    constraints: list[Constraints] = field(default_factory=list)
    output_dir: Path | None = None

    def names(self, lease: str) -> bool:
        """Whether an evidence in it names the lease (0x and hex)."""
        return any(evidence.lease == lease for evidence in self.evidences)

    def add(self, document: Document) -> None:
        """Puts a document with its like."""
        match document:
            case Evidence():
                self.evidences.append(document)
            case JobDocument():
                self.jobs.append(document)
            case Attributes():
                self.attributes.append(document)
            case Constraints():
                self.constraints.append(document)
            case _:
                raise AssertionError(type(document))


def read_folders(root: Path) -> list[Folder]:
    """All folders under `root` with documents; NotFoundError if there is no such folder. Links are not followed."""
    if not root.is_dir():
        raise NotFoundError(f"there is no folder {root}", hint="give the folder with the job's documents")
    folders: dict[Path, Folder] = {}
    for path in _json_files(root):
        value = _read(path)
        if not isinstance(value, dict):
            continue
        folder = folders.setdefault(path.parent, Folder(path.parent))
        for document in _documents(value):
            folder.add(document)
        named = value.get("output_dir")
        if isinstance(named, str) and named:
            folder.output_dir = Path(named)
    return list(folders.values())


def _json_files(root: Path) -> Iterator[Path]:
    count = 0
    for place, _, names in os.walk(root):
        for name in sorted(names):
            path = Path(place, name)
            if name.endswith(".json") and path.is_file() and not path.is_symlink():
                count += 1
                if count > FILES_MAX:
                    return
                yield path


def _read(path: Path) -> Any:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            return None
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _documents(value: dict[str, Any]) -> Iterator[Document]:
    for candidate in (value, *value.values()):
        document = _document(candidate) if isinstance(candidate, dict) else None
        if document is not None:
            yield document


def _document(value: dict[str, Any]) -> Document | None:
    for kind in KINDS:
        try:
            return kind.parse(value)
        except ProtocolError:
            continue
    return None
