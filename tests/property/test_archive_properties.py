"""Any set of files comes back from its archive; no altered archive writes outside or breaks the reader."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from suanli_protocol.archive import Source, UnpackLimits, pack, unpack
from suanli_protocol.errors import IntegrityError, UsageError

LIMITS = UnpackLimits(entries=50, total_bytes=100_000, file_bytes=50_000)
COMPONENTS = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="/"), min_size=1, max_size=60)
NAMES = st.lists(COMPONENTS, min_size=1, max_size=3).map("/".join)
TREES = st.dictionaries(NAMES, st.tuples(st.binary(max_size=1500), st.booleans()), max_size=6)


def archive_of(tree: dict[str, tuple[bytes, bool]]) -> bytes | None:
    out = io.BytesIO()
    try:
        pack([Source(name, data, 0o755 if run else 0o644) for name, (data, run) in tree.items()], out)
    except UsageError:  # a dot, a name too long, a file that is a folder too
        return None
    return out.getvalue()


@settings(max_examples=100, deadline=None)
@given(tree=TREES)
def test_files_come_back(tree: dict[str, tuple[bytes, bool]]) -> None:
    data = archive_of(tree)
    if data is None:
        return
    assert data == archive_of(dict(reversed(tree.items())))
    with tempfile.TemporaryDirectory() as folder:
        files = unpack(io.BytesIO(data), Path(folder), UnpackLimits())
        assert {file.path for file in files} == set(tree)
        for name, (content, run) in tree.items():
            path = Path(folder) / name
            assert path.read_bytes() == content
            assert bool(path.stat().st_mode & 0o100) == run


def sample() -> bytes:
    data = archive_of({"a/b": (b"x" * 700, True), "c" * 120: (b"long", False), "d": (b"", False)})
    assert data is not None
    return data


@settings(max_examples=400, deadline=None)
@given(
    flips=st.lists(st.tuples(st.integers(0, len(sample()) - 1), st.integers(0, 255)), max_size=4),
    cut=st.none() | st.integers(0, len(sample())),
    fix=st.booleans(),
)
def test_altered_archives_stay_inside(flips: list[tuple[int, int]], cut: int | None, fix: bool) -> None:
    data = bytearray(sample())
    for at, value in flips:
        data[at] = value
        if fix:
            _repair(data, at - at % 512)
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "into"
        try:
            unpack(io.BytesIO(bytes(data[:cut])), into, LIMITS)
        except IntegrityError:
            pass
        else:
            assert cut is None or cut == len(data)
        assert [path.name for path in Path(folder).iterdir()] == ["into"]
        for path in into.rglob("*"):
            assert not path.is_symlink()
            assert path.is_file() or path.is_dir()


def _repair(data: bytearray, start: int) -> None:
    """Makes the checksum of a block right, so that the alteration is not found by it alone."""
    block = data[start : start + 512]
    block[148:156] = b" " * 8
    data[start + 148 : start + 156] = b"%06o\0 " % (sum(block) & 0o777777)
