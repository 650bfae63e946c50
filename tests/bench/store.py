"""What was measured, one JSON file a subject, so that a partial run refreshes its own rows alone."""

from __future__ import annotations

import json
from pathlib import Path

from bench.rows import Result
from bench.subjects import SUBJECTS


class Store:
    """The results in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, result: Result) -> None:
        """Replaces the subject's result."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file(result.subject).write_text(json.dumps(result.to_json(), indent=1), encoding="utf-8")

    def all(self) -> list[Result]:
        """The kept results in the order of the subjects."""
        files = [self._file(subject.name) for subject in SUBJECTS]
        return [Result.from_json(json.loads(file.read_text(encoding="utf-8"))) for file in files if file.is_file()]

    def _file(self, subject: str) -> Path:
        return self._folder / f"{subject}.json"
