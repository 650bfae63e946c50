"""`python -m bench [--only gas,chain]`, in the folder `tests`: measures, prints a table, writes docs/benchmarks.md.

Each subject is measured by a process of its own with a time limit. Its rows are kept, so that a partial run refreshes
its own rows alone. The exit code is 1 if anything that was asked for could not be measured.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.report import markdown
from bench.run import KEPT, ROOT, run
from bench.store import Store
from bench.subjects import SUBJECTS, chosen
from bench.table import lines

REPORT = ROOT / "docs" / "benchmarks.md"


def main() -> int:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", default="", help=f"some of {', '.join(subject.name for subject in SUBJECTS)}")
    parser.add_argument("--report", type=Path, default=REPORT, help="where the report goes")
    options = parser.parse_args()
    try:
        subjects = chosen(options.only)
    except ValueError as error:
        parser.error(str(error))
    store, is_whole = Store(KEPT), True
    for number, subject in enumerate(subjects, 1):
        print(f"[{number}/{len(subjects)}] {subject.title} …", file=sys.stderr, flush=True)
        result = run(subject)
        store.keep(result)
        is_whole = is_whole and result.is_whole
        print("\n".join(lines(result)), flush=True)
    options.report.write_text(markdown(store.all()), encoding="utf-8")
    print(f"\nwritten: {options.report.name}", file=sys.stderr)
    return 0 if is_whole else 1


if __name__ == "__main__":
    sys.exit(main())
