"""`python -m bench.subject MODULE FILE`: measures one subject; the rows so far are in the file after each one."""

from __future__ import annotations

import importlib
import json
import signal
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import FrameType

from bench.rows import Row, missing


def write(rows: list[Row], out: Path) -> None:
    """Replaces the file."""
    draft = out.with_suffix(".draft")
    draft.write_text(json.dumps([row.to_json() for row in rows]))
    draft.replace(out)


def main(module: str, out: Path) -> int:
    """Measures; an error is a row, and exit code 0, for its cause is told there."""
    signal.signal(signal.SIGTERM, _leave)
    rows: list[Row] = []
    try:
        found: Iterable[Row] = importlib.import_module(module).measure()
        for row in found:
            rows.append(row)
            write(rows, out)
    except Exception as error:
        traceback.print_exc()
        rows.append(missing(f"{module.rpartition('.')[2]}: the rest", "", f"{type(error).__name__}: {error}"[:300]))
        write(rows, out)
    return 0


def _leave(number: int, frame: FrameType | None) -> None:
    """Told to end: contexts are left in order, so that what was started ends too."""
    raise SystemExit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
