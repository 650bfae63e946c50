"""The deep run knows every fault point of the code, and no other."""

from __future__ import annotations

from fnmatch import fnmatch

from deep.points import POINTS, in_the_code


def test_the_lists_are_those_of_the_code() -> None:
    named, reached = {name for names in POINTS.values() for name in names}, in_the_code()
    assert {name for name in named if not any(fnmatch(name, pattern) for pattern in reached)} == set()
    assert {pattern for pattern in reached if not any(fnmatch(name, pattern) for name in named)} == set()
