"""The units of systemd: systemd accepts them, and they start what is there with options that it knows."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from suanli_market.cli import main as market_command
from suanli_node.cli import cli as node_command
from suanli_protocol.keystore import CREDENTIAL
from support.devnet import ROOT

DEPLOY = ROOT / "deploy"
COMMANDS: dict[str, tuple[click.Command, str]] = {
    "suanli-market": (market_command, "serve"),
    "suanli-node": (node_command, "up"),
}
NAMES = list(COMMANDS)


def service(name: str) -> dict[str, str]:
    """The service's settings; of one that is given several times the last."""
    reader = configparser.ConfigParser(strict=False, interpolation=None)
    reader.optionxform = str  # type: ignore[assignment,method-assign]
    reader.read(DEPLOY / f"{name}.service")
    return dict(reader["Service"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
@pytest.mark.parametrize("name", NAMES)
def test_systemd_accepts_it(name: str, tmp_path: Path) -> None:
    text = (DEPLOY / f"{name}.service").read_text()
    assert "/opt/suanli/bin" in text
    unit = tmp_path / f"{name}.service"
    unit.write_text(text.replace("/opt/suanli/bin", str(Path(sys.executable).parent)))
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (said.returncode, said.stderr) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_it_starts_a_command_that_is_there(name: str) -> None:
    program, verb, *words = service(name)["ExecStart"].split()
    group, expected = COMMANDS[name]
    assert (program, verb) == (f"/opt/suanli/bin/{name}", expected)
    assert isinstance(group, click.Group)
    known = {option for parameter in group.commands[verb].params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("name", NAMES)
def test_the_password_comes_as_a_credential(name: str) -> None:
    assert service(name)["LoadCredential"].startswith(f"{CREDENTIAL}:/etc/suanli/")


@pytest.mark.parametrize("name", NAMES)
def test_its_documentation_is_installed_by_the_steps(name: str) -> None:
    reader = configparser.ConfigParser(strict=False, interpolation=None)
    reader.read(DEPLOY / f"{name}.service")
    named = reader["Unit"]["Documentation"].removeprefix("file://")
    page = ROOT / "docs" / Path(named).name
    assert f"install -D -m 0644 docs/{page.name} {named}" in page.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_the_variables_that_it_names_are_read(name: str) -> None:
    group, verb = COMMANDS[name]
    assert isinstance(group, click.Group)
    read = {str(parameter.envvar) for parameter in group.commands[verb].params if parameter.envvar}
    text = (DEPLOY / f"{name}.service").read_text()
    named = {word.strip(",.$") for word in text.replace("=", " ").split() if word.startswith("SUANLI_")}
    assert {word for word in named if not word.endswith("_OPTIONS")} <= read
