"""What leases leave behind is bounded: environments by size, papers by age, and nothing that is needed goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from suanli_node.upkeep import (
    DAY_S,
    DRAFT,
    DRAFT_S,
    GRACE_S,
    MIB,
    drop_drafts,
    drop_old,
    trim_environments,
)
from support.builders import NOW


def an_environment(folder: Path, name: str, mib: int, used_s_ago: float) -> Path:
    path = folder / name
    (path / "lib").mkdir(parents=True)
    (path / "lib" / "module.so").write_bytes(os.urandom(mib * MIB))
    os.utime(path, (NOW - used_s_ago,) * 2)
    return path


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_longest_unused_go_first_and_no_more_than_need_be(tmp_path: Path) -> None:
    for name, age in (("old", 9000), ("older", 99_000), ("new", 5000)):
        an_environment(tmp_path, name, 2, age)
    assert trim_environments(tmp_path, 100, (), now=NOW) == []
    assert trim_environments(tmp_path, 6, (), now=NOW) == ["older"]
    assert left(tmp_path) == ["new", "old"]


def test_what_a_lease_needs_or_has_just_used_stays_even_over_the_limit(tmp_path: Path) -> None:
    for name, age in (("needed", 99_000), ("fresh", GRACE_S - 1), ("idle", GRACE_S + 1)):
        an_environment(tmp_path, name, 1, age)
    assert trim_environments(tmp_path, 0, ["needed"], now=NOW) == ["idle"]
    assert left(tmp_path) == ["fresh", "needed"]


def test_a_use_counts(tmp_path: Path) -> None:
    used = an_environment(tmp_path, "a", 1, 99_000)
    other = an_environment(tmp_path, "b", 1, 0)
    os.utime(used)  # as `EnvironmentStore.prepare` does
    now = used.stat().st_mtime
    os.utime(other, (now - 1,) * 2)
    assert trim_environments(tmp_path, 2, (), now=now + GRACE_S + 1) == ["b"]


def test_a_link_out_of_an_environment_neither_counts_nor_is_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "big").write_bytes(bytes(8 * MIB))
    cache = tmp_path / "cache"
    path = an_environment(cache, "a", 1, 0)
    (path / "out").symlink_to(outside)
    os.utime(path, (NOW - 99_000,) * 2)
    assert trim_environments(cache, 4, (), now=NOW) == []
    assert trim_environments(cache, 0, (), now=NOW) == ["a"]
    assert (outside / "big").exists()


def test_drafts_of_killed_preparations_go_once_none_can_still_be_made(tmp_path: Path) -> None:
    young = an_environment(tmp_path, f"{DRAFT}young", 1, DRAFT_S - 5)
    an_environment(tmp_path, f"{DRAFT}dead", 1, DRAFT_S + 5)
    drop_drafts(tmp_path, now=NOW)
    assert left(tmp_path) == [young.name]
    assert trim_environments(tmp_path, 0, (), now=NOW) == [], "a draft is no environment yet"


@pytest.mark.parametrize(("days", "gone"), [(400, 1), (30, 2), (1000, 0)])
def test_papers_are_kept_for_so_many_days(tmp_path: Path, days: int, gone: int) -> None:
    for name, age in (("a.json", 500), ("b.json", 100), ("c.json", 1), ("notes.txt", 9999)):
        path = tmp_path / name
        path.write_text("{}")
        os.utime(path, (NOW - age * DAY_S,) * 2)
    assert drop_old([tmp_path], days, now=NOW) == gone
    assert "notes.txt" in left(tmp_path)
    assert len(left(tmp_path)) == 4 - gone
