"""Outputs are unpacked on the disk that they are to lie on."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from suanli.session import transfer
from suanli_protocol import archive
from suanli_protocol.documents import OutputFile, Outputs


def an_archive(folder: Path) -> tuple[Path, Outputs]:
    source, packed, seen = folder / "f.txt", folder / "outputs.tar", folder / "seen"
    source.write_bytes(b"result")
    out = io.BytesIO()
    manifest = archive.pack([archive.Source("out/f.txt", source)], out)
    packed.write_bytes(out.getvalue())
    seen.mkdir()
    limits = archive.UnpackLimits(entries=9, total_bytes=99, file_bytes=99)
    files: list[OutputFile] = archive.unpack(io.BytesIO(out.getvalue()), seen, limits)
    return packed, Outputs(archive=manifest, sealed="0x" + "00" * 32, sealed_size=0, files=tuple(files))


@pytest.mark.parametrize("is_there", [True, False])
def test_a_folder_that_is_there_may_be_a_disk_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    packed, outputs = an_archive(tmp_path)
    into, places = tmp_path / "mount", []
    if is_there:
        into.mkdir()
    unpack = archive.unpack

    def watched(src: io.BufferedReader, staging: Path, limits: archive.UnpackLimits) -> list[OutputFile]:
        places.append(staging.parent)
        return unpack(src, staging, limits)

    monkeypatch.setattr(transfer, "unpack", watched)
    transfer.unpack_outputs(packed, outputs, into)
    assert places == [into if is_there else tmp_path]
    assert (into / "out" / "f.txt").read_bytes() == b"result"
    assert [path.name for path in into.iterdir()] == ["out"]
