"""Set aside: entries that the chain's endpoint refused when they went alone. They hold up no other of their kind: each
is tried again by itself, ever less often.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

REST_S = (5.0, 300.0)  # from one try to the next, the least and the most
PROOFS_MAX = 3

Row = int | str


@dataclass(slots=True)
class _Refused:
    """An entry: when it may go again (monotonic), how many batches of its kind went when it was last refused, and how
    often it was refused though others had gone since the time before.
    """

    rest_s: float
    not_before: float
    went: int
    proofs: int = 0


class Aside:
    """The entries that are set aside, by kind of batch and row; one thread uses it. A restart tries all anew."""

    def __init__(self) -> None:
        self._refused: dict[tuple[str, Row], _Refused] = {}
        self._went: Counter[str] = Counter()

    def refuse(self, kind: str, row: Row) -> bool:
        """An entry was refused alone. Whether it is proven by now that the fault is its own: others went meanwhile."""
        known, went = self._refused.get((kind, row)), self._went[kind]
        rest = REST_S[0] if known is None else min(REST_S[1], 2 * known.rest_s)
        proofs = 0 if known is None else known.proofs + (went > known.went)
        self._refused[kind, row] = _Refused(rest, time.monotonic() + rest, went, proofs)
        return proofs >= PROOFS_MAX

    def pass_(self, kind: str, rows: tuple[Row, ...]) -> None:
        """A batch with these entries went."""
        self._went[kind] += 1
        for row in rows:
            self.forget(kind, row)

    def forget(self, kind: str, row: Row) -> None:
        """The entry waits no more, or like any other."""
        self._refused.pop((kind, row), None)

    def rows(self, kind: str) -> list[Row]:
        """All that are set aside."""
        return [row for held, row in self._refused if held == kind]

    def due(self, kind: str) -> Row | None:
        """One that may go again now."""
        now = time.monotonic()
        return next((row for (held, row), it in self._refused.items() if held == kind and it.not_before <= now), None)
