"""Requirements: hashed pins of indexed packages pass, every other kind of line is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from suanli_node.engine.environment import PackageIndex, _Preparation, empty_name, environment_name
from suanli_protocol.errors import ConfigurationError, ProtocolError
from suanli_protocol.requirements import read_requirements

HASH = "--hash=sha256:" + "ab" * 32


def test_hashed_pins_pass() -> None:
    text = f"""
    # made by uv
    numpy==2.3.1 \\
        {HASH} \\
        {HASH}
        # via scipy
    Some_Package[extra]==1.0.post1 ; python_version >= "3.11" {HASH}  # comment
    """
    assert read_requirements(text) == [
        f"numpy==2.3.1 {HASH} {HASH}",
        f'Some_Package[extra]==1.0.post1 ; python_version >= "3.11" {HASH}',
    ]
    assert read_requirements("# nothing\n\n") == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("numpy==2.3.1", "no --hash"),
        (f"numpy>=2 {HASH}", "one version"),
        (f"numpy==2.* {HASH}", "one version"),
        (f"numpy {HASH}", "one version"),
        (f"numpy==1,==2 {HASH}", "one version"),
        ("numpy==2.3.1 --hash=md5:" + "ab" * 16, "option"),
        ("numpy==2.3.1 --hash=sha256:abcd", "option"),
        (f"numpy==2.3.1 --global-option=x {HASH}", "option"),
        (f"numpy @ https://example.org/numpy.whl {HASH}", "address"),
        (f"git+https://example.org/numpy.git {HASH}", "address"),
        (f"numpy @ file:///etc/passwd {HASH}", "address"),
        (f"./numpy-1.0-py3-none-any.whl {HASH}", "path"),
        (f"/etc/passwd {HASH}", "path"),
        (f"numpy-1.0.tar.gz {HASH}", "path"),
        ("-r other.txt", "option '-r'"),
        ("-e .", "option '-e'"),
        ("--index-url=https://example.org/simple", "option '--index-url'"),
        ("--extra-index-url https://example.org/simple", "option '--extra-index-url'"),
        ("--find-links /", "option '--find-links'"),
        (f"bad name==1 {HASH}", "bad name"),
        (f"--index-url=https://example.org \\\n numpy==1 {HASH}", "option '--index-url'"),
    ],
)
def test_everything_else_is_refused_by_name(line: str, said: str) -> None:
    with pytest.raises(ProtocolError, match=said) as caught:
        read_requirements(f"good==1.0 {HASH}\n{line}\n")
    assert caught.value.code == "requirements"
    assert caught.value.detail.startswith("line 2: ")
    assert caught.value.hint


def test_size_is_limited() -> None:
    with pytest.raises(ProtocolError, match="bytes"):
        read_requirements("#" * 2**21)


def test_name_depends_on_the_text() -> None:
    assert environment_name("a") != environment_name("b")
    assert environment_name("") == empty_name()


def test_index_settings(tmp_path: object) -> None:
    assert PackageIndex.parse("") is None
    index = PackageIndex.parse("https://user:secret@example.org/simple")
    assert index is not None
    assert "secret" not in " ".join([*index.options(), *index.mounts()])
    assert index.variables() == {"UV_DEFAULT_INDEX": "https://user:secret@example.org/simple"}
    folder = PackageIndex.parse(str(tmp_path))
    assert folder is not None
    assert folder.options() == ["--no-index", "--find-links", str(tmp_path)]
    with pytest.raises(ConfigurationError):
        PackageIndex.parse("/no/such/folder")


def test_nothing_hides_the_folder_of_wheels(tmp_path: Path) -> None:
    """Wheels, certificates and interpreters may lie under /home: no later mount of uv's sandbox covers them."""
    index = PackageIndex("", folder=Path("/home"))
    settings = _Preparation(tmp_path, index, 1, 1, lambda: None)._settings(index, 9)
    targets = [
        settings[place + (2 if word.endswith("bind") else 1)]
        for place, word in enumerate(settings)
        if word in ("--bind", "--ro-bind", "--tmpfs", "--proc", "--dev")
    ]
    after = targets[targets.index("/home") + 1 :]
    assert "/env" in after
    assert not [target for target in after if Path("/home/any/wheels").is_relative_to(target)]
