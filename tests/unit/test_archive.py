"""Archives: packed reproducibly, unpacked as if by an enemy."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from suanli_protocol.archive import Source, UnpackLimits, pack, unpack
from suanli_protocol.archive_header import SIZE_MAX, EntryType
from suanli_protocol.errors import ExecutionError, IntegrityError, UsageError
from support.tarballs import END, entry, hostile

LIMITS = UnpackLimits(entries=100, total_bytes=1_000_000, file_bytes=500_000, path_bytes=1024, depth=32)
HOSTILE = list(hostile())


def packed(*sources: Source) -> bytes:
    out = io.BytesIO()
    manifest = pack(sources, out)
    data = out.getvalue()
    assert manifest.size == len(data)
    assert manifest.sha256 == "0x" + hashlib.sha256(data).hexdigest()
    return data


def everything_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*"))


@pytest.mark.parametrize(("wrong", "data"), HOSTILE, ids=[wrong for wrong, _ in HOSTILE])
def test_hostile_archives_are_refused_and_nothing_leaves_the_folder(tmp_path: Path, wrong: str, data: bytes) -> None:
    into = tmp_path / "deep" / "er" / "into"
    with pytest.raises(IntegrityError):
        unpack(io.BytesIO(data), into, LIMITS)
    outside = [path for path in everything_below(tmp_path) if path.is_file() and into not in path.parents]
    assert outside == []
    for path in everything_below(into):
        found = path.lstat()
        assert stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
        assert found.st_size <= LIMITS.file_bytes or stat.S_ISDIR(found.st_mode)
    assert not Path("/etc/victim").exists()


def test_there_are_enough_hostile_archives() -> None:
    assert len({data for _, data in HOSTILE}) == len(HOSTILE) >= 60


def test_what_is_packed_comes_back(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "empty").mkdir()
    sources = [
        Source("work/run.sh", tmp_path / "run.sh", 0o755),
        Source("work/数据/" + "长" * 80 + ".csv", b"1,2\n" * 300_000, 0o640),
        Source("in/empty", tmp_path / "empty"),
        Source("zero", b""),
    ]
    data = packed(*sources)
    files = unpack(io.BytesIO(data), tmp_path / "into", UnpackLimits())
    assert [file.path for file in files] == sorted(source.name for source in sources if source.name != "in/empty")
    for file in files:
        content = (tmp_path / "into" / file.path).read_bytes()
        assert (file.size, file.sha256) == (len(content), "0x" + hashlib.sha256(content).hexdigest())
    assert (tmp_path / "into/in/empty").is_dir()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in everything_below(tmp_path / "into")}
    assert (modes["run.sh"], modes["zero"], modes["empty"]) == (0o755, 0o644, 0o755)


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"x")
    two.write_bytes(b"x")
    os.utime(two, (1, 1))
    two.chmod(0o600)
    first = packed(Source("b", one), Source("a/c", b"y"), Source("a", tmp_path))
    assert first == packed(Source("a", tmp_path), Source("a/c", b"y"), Source("b", two))


def test_modes_carry_nothing_but_the_executable_bit(tmp_path: Path) -> None:
    unpack(io.BytesIO(packed(Source("a", b"", 0o6777), Source("b", b"", 0o4600))), tmp_path / "into", LIMITS)
    assert stat.S_IMODE((tmp_path / "into/a").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "into/b").stat().st_mode) == 0o644


def test_other_tools_read_our_archives(tmp_path: Path) -> None:
    data = packed(Source("x/" + "n" * 200, b"long"), Source("y", b"short", 0o755))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
        assert [(member.name, member.size, member.mode) for member in members] == [
            ("x/" + "n" * 200, 4, 0o644),
            ("y", 5, 0o755),
        ]
    listed = subprocess.run(["tar", "-tf", "-"], input=data, capture_output=True, check=True, timeout=30).stdout
    assert listed.decode().split() == ["x/" + "n" * 200, "y"]


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
def test_we_read_plain_archives_of_other_tools(tmp_path: Path, format_: int) -> None:
    (tmp_path / "src/a").mkdir(parents=True)
    (tmp_path / "src/a/b").write_bytes(b"content")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format_) as tar:
        tar.add(tmp_path / "src", "src")
    files = unpack(io.BytesIO(out.getvalue()), tmp_path / "into", LIMITS)
    assert [(file.path, file.size) for file in files] == [("src/a/b", 7)]


def test_a_link_on_the_way_is_not_followed(tmp_path: Path) -> None:
    """A link that lies in the folder already, put there by someone else."""
    outside = tmp_path / "outside"
    outside.mkdir()
    into = tmp_path / "into"
    into.mkdir()
    (into / "a").symlink_to(outside)
    with pytest.raises((IntegrityError, ExecutionError)):
        unpack(io.BytesIO(entry("a/victim", b"x") + END), into, LIMITS)
    assert everything_below(outside) == []
    (into / "victim").symlink_to(outside / "victim")
    with pytest.raises(IntegrityError):
        unpack(io.BytesIO(entry("victim", b"x") + END), into, LIMITS)
    assert everything_below(outside) == []
    (tmp_path / "linked").symlink_to(outside)
    with pytest.raises(ExecutionError):
        unpack(io.BytesIO(entry("victim", b"x") + END), tmp_path / "linked", LIMITS)
    assert everything_below(outside) == []


def test_no_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"mine")
    with pytest.raises(IntegrityError, match="victim"):
        unpack(io.BytesIO(entry("victim", b"x") + END), tmp_path, LIMITS)
    assert (tmp_path / "victim").read_bytes() == b"mine"


def test_a_stream_that_gives_little_at_a_time(tmp_path: Path) -> None:
    class Slow(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self.data = io.BytesIO(data)

        def read(self, size: int = -1) -> bytes:
            return self.data.read(min(size, 7))

    files = unpack(Slow(packed(Source("a", b"x" * 1000))), tmp_path / "into", LIMITS)  # type: ignore[arg-type]
    assert files[0].size == 1000


def test_sources_that_are_no_plain_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "sock"))
        for name in ("link", "fifo", "sock", "missing"):
            with pytest.raises(UsageError, match=name):
                packed(Source("a", tmp_path / name))
    (tmp_path / "folder-link").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="folder-link"):
        packed(Source("a", tmp_path / "folder-link"))


@pytest.mark.parametrize("name", ["", "/a", "a/../b", "./a", "a\nb", "a//b", "x" * 256, "a\udcff"])
def test_source_names_that_would_not_unpack_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        packed(Source(name, b""))


def test_sources_that_collide_are_refused() -> None:
    with pytest.raises(UsageError, match="twice"):
        packed(Source("a", b""), Source("a", b""))
    with pytest.raises(UsageError, match="folder of a/b"):
        packed(Source("a/b", b""), Source("a", b""))


def test_a_file_that_grows_while_it_is_packed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fstat says one size, the bytes are more: as if a writer came between."""
    path = tmp_path / "log"
    path.write_bytes(b"x" * 10)
    real = os.fstat

    def smaller(descriptor: int) -> os.stat_result:
        values = list(real(descriptor))
        values[stat.ST_SIZE] = 5
        return os.stat_result(values)

    monkeypatch.setattr(os, "fstat", smaller)
    with pytest.raises(UsageError, match="changed"):
        packed(Source("log", path))


def test_sizes_end_where_octal_does() -> None:
    assert SIZE_MAX == 8 * 2**30 - 1
    assert EntryType(b"0") is EntryType.FILE
