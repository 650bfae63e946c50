"""Bundles: what travels, what is left out, what is refused by its path."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from suanli.jobs.bundle import build, capped, collect
from suanli.jobs.job import Input, Job
from suanli.jobs.requirements import read_hashed
from suanli_protocol.archive import UnpackLimits, unpack
from suanli_protocol.documents import hex32, sha256
from suanli_protocol.errors import NotFoundError, UsageError

HASH = "--hash=sha256:" + "ab" * 32


def write(path: Path, text: str = "x", mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def names(job: Job) -> list[str]:
    return [member.name for member in collect(job)]


def test_ignore_files_are_respected_as_git_does(tmp_path: Path) -> None:
    write(tmp_path / ".gitignore", "*.log\n/build/\n!keep.log\n")
    write(tmp_path / ".suanliignore", "data/\n")
    for name in ("a.py", "b.log", "keep.log", "build/x", "sub/build/y", "data/z", "sub/c.log", ".git/config"):
        write(tmp_path / name)
    write(tmp_path / "sub/.gitignore", "!c.log\nsecret\n")
    write(tmp_path / "sub/secret")
    found = names(Job(argv=("x",), workdir=tmp_path))
    assert found == [
        "work/.gitignore",
        "work/.suanliignore",
        "work/a.py",
        "work/keep.log",
        "work/sub/.gitignore",
        "work/sub/build/y",
        "work/sub/c.log",
    ]


def test_inputs_are_not_ignored_and_land_under_in(tmp_path: Path) -> None:
    write(tmp_path / "data/.gitignore", "*\n")
    write(tmp_path / "data/x/y.csv")
    write(tmp_path / "one.txt")
    inputs = (Input(tmp_path / "data", "/in/data"), Input(tmp_path / "one.txt", "/in/one.txt"))
    assert names(Job(argv=("x",), inputs=inputs)) == ["in/data/.gitignore", "in/data/x/y.csv", "in/one.txt"]


def test_the_bundle_unpacks_to_what_was_packed(tmp_path: Path) -> None:
    write(tmp_path / "src/run.sh", "#!/bin/sh\n", 0o755)
    write(tmp_path / "src/a.py", "print(1)")
    lock = write(tmp_path / "lock.txt", f"numpy==2.0 {HASH}\n")
    job = Job(argv=("x",), workdir=tmp_path / "src", python="3.11", requirements=lock)
    bundle = build(job, tmp_path / "a.tar")
    assert bundle.manifest is not None
    assert bundle.python is not None
    assert bundle.path is not None
    assert bundle.manifest.sha256 == hex32(sha256(bundle.path.read_bytes()))
    assert bundle.python.requirements == hex32(sha256(lock.read_bytes()))
    with bundle.path.open("rb") as src:
        files = {file.path for file in unpack(src, tmp_path / "out", UnpackLimits())}
    assert files == {"work/run.sh", "work/a.py", "requirements.txt"}
    assert os.access(tmp_path / "out/work/run.sh", os.X_OK)
    again = build(job, tmp_path / "b.tar")
    assert again.manifest == bundle.manifest


def test_no_workdir_no_bundle(tmp_path: Path) -> None:
    bundle = build(Job(argv=("x",)), tmp_path / "a.tar")
    assert bundle.manifest is None
    assert not (tmp_path / "a.tar").exists()


def _link(folder: Path) -> None:
    (folder / "bad").symlink_to("/etc/passwd")


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "bad")


def _socket(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(folder / "bad"))


def _control(folder: Path) -> None:
    write(folder / "bad\n")


@pytest.mark.parametrize("make", [_link, _pipe, _socket, _control])
def test_what_is_no_plain_file_is_refused_by_name(
    tmp_path: Path, make: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path)  # type: ignore[operator]
    with pytest.raises(UsageError, match="bad") as caught:
        names(Job(argv=("x",), workdir=tmp_path))
    assert caught.value.code == "bundle"


def test_an_input_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "l").symlink_to("/etc/passwd")
    with pytest.raises(UsageError, match="symbolic link"):
        names(Job(argv=("x",), inputs=(Input(tmp_path / "l", "/in/l"),)))


def test_an_ignored_link_does_no_harm(tmp_path: Path) -> None:
    _link(tmp_path)
    write(tmp_path / ".suanliignore", "bad\n")
    assert names(Job(argv=("x",), workdir=tmp_path)) == ["work/.suanliignore"]


def test_too_much_is_refused_and_the_largest_file_named(tmp_path: Path) -> None:
    write(tmp_path / "small", "x" * 10)
    write(tmp_path / "large", "x" * 1000)
    with pytest.raises(UsageError, match="large") as caught:
        build(Job(argv=("x",), workdir=tmp_path), tmp_path.parent / "out.tar", limit=100)
    assert caught.value.code == "bundle"
    assert not (tmp_path.parent / "out.tar").exists()


def test_two_inputs_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a")
    job = Job(argv=("x",), inputs=(Input(tmp_path / "a", "/in/a"), Input(tmp_path / "a", "/in/a")))
    with pytest.raises(UsageError, match="in/a"):
        capped(collect(job), 1000)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        names(Job(argv=("x",), workdir=tmp_path / "nowhere"))
    with pytest.raises(NotFoundError, match="nowhere"):
        names(Job(argv=("x",), inputs=(Input(tmp_path / "nowhere", "/in/a"),)))


def test_hashed_requirements_pass(tmp_path: Path) -> None:
    text = f"# made by uv\nnumpy==2.0.1 \\\n    {HASH} \\\n    {HASH}\n    # via x\n"
    text += f"b[c,d]==1 ; python_version>'3' {HASH}\n"
    assert read_hashed(write(tmp_path / "r.txt", text)) == text.encode()


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("numpy==2.0", "no --hash"),
        (f"numpy>=2.0 {HASH}", "name==version|one version"),
        (f"numpy {HASH}", "one version"),
        (f"./local {HASH}", "path"),
        (f"x @ https://example.org/x.whl {HASH}", "address"),
        (f"git+https://example.org/x {HASH}", "address"),
        ("-e .", "option"),
        ("--index-url https://example.org", "option"),
        ("-r other.txt", "option"),
        ("numpy==2.0 --hash=md5:00", "option"),
        ("", "no package"),
    ],
)
def test_other_requirements_are_refused(tmp_path: Path, line: str, named: str) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        read_hashed(write(tmp_path / "r.txt", line + "\n"))
    assert caught.value.code == "requirements"
