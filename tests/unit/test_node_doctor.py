"""The node's doctor: what it says of the key is what `up` will meet, and a dead chain hides nothing else."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from suanli_node import doctor
from suanli_node.settings import Settings
from suanli_protocol.keystore import CREDENTIAL, SCRYPT_N_DEVNET, create
from support.devnet import free_port

PASSWORD = "open sesame"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of a node whose chain and market are away, and whose engine is not looked at."""
    monkeypatch.setattr(doctor, "_engine", lambda _, facts: "not looked at")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    create(tmp_path / "key.json", PASSWORD, scrypt_n=SCRYPT_N_DEVNET)
    nowhere = f"http://127.0.0.1:{free_port()}"
    return Settings(nowhere, nowhere, "0x" + "11" * 20, tmp_path / "key.json", tmp_path, "heron")


def handed_over(folder: Path, password: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The password as a service manager hands it over."""
    path = folder / CREDENTIAL
    path.touch(mode=0o600)
    path.write_text(password)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return path


def look(settings: Settings, name: str) -> doctor.Finding:
    return next(finding for finding in doctor.examine(settings) if finding.name == name)


def at_a_terminal(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: there, raising=False)


def test_a_credential_unlocks_the_key_and_nobody_is_said_to_be_asked(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_a_terminal(monkeypatch, there=True)
    path = handed_over(tmp_path, PASSWORD + "\n", monkeypatch)
    found = look(settings, "key")
    assert (found.ok, "by the credential" in found.detail, "asked" in found.detail) == (True, True, False)
    assert path.resolve() in settings.secrets


def test_a_credential_that_does_not_unlock_it_is_a_fault(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = handed_over(tmp_path, "wrong", monkeypatch)
    found = look(settings, "key")
    assert (found.ok, "password is wrong" in found.detail) == (False, True)
    path.chmod(0o644)
    found = look(settings, "key")
    assert (found.ok, "keeps from all others" in found.detail) == (False, True)


def test_a_password_file_goes_before_the_credential(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed_over(tmp_path, "wrong", monkeypatch)
    named = tmp_path / "password"
    named.touch(mode=0o600)
    named.write_text(PASSWORD)
    found = look(replace(settings, password_file=named), "key")
    assert (found.ok, "credential" in found.detail) == (True, False)


def test_without_either_a_person_is_asked_where_there_is_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_a_terminal(monkeypatch, there=True)
    assert "will be asked for" in look(settings, "key").detail
    at_a_terminal(monkeypatch, there=False)
    found = look(settings, "key")
    assert (found.ok, "no terminal" in found.detail, CREDENTIAL in found.hint) == (False, True, True)


def test_a_chain_that_is_away_is_named_and_hides_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {finding.name: finding for finding in doctor.examine(settings)}
    assert list(found) == [
        "sandbox", "disk", "index", "key", "chain", "escrow", "market", "clock", "funds", "engine",
    ]  # fmt: skip
    assert not any(found[name].ok for name in ("chain", "escrow", "market", "clock", "funds"))
    assert settings.chain in found["chain"].detail
    shown = doctor.render_findings(list(found.values()))
    assert shown.count("FAIL") == sum(not finding.ok for finding in found.values())
    assert f"FAIL  chain      {found['chain'].detail}\n                 {found['chain'].hint}\n" in shown
    monkeypatch.setattr(doctor, "screen_cells", lambda: 60)
    folded = doctor.render_findings(list(found.values()))
    assert folded.split() == shown.split()
    assert (
        max(len(line) for line in folded.splitlines() if len(line[17:].split()) > 1) <= 60 < len(shown.split("\n")[4])
    )


@pytest.mark.parametrize(
    ("controllers", "said", "not_said"),
    [
        (["cpu", "memory", "pids"], ["by the kernel: CPU time, memory, processes"], ["polled", "every core"]),
        (["pids"], ["by the kernel: processes", "polled ten times a second: memory", "every core"], []),
        ([], ["by the kernel: per process only", "polled ten times a second: memory, processes", "every core"], []),
    ],
)
def test_it_says_which_limits_the_kernel_enforces(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    controllers: list[str],
    said: list[str],
    not_said: list[str],
) -> None:
    def engine(_: Settings, facts: dict[str, object]) -> str:
        facts["limits"] = controllers
        return "it runs"

    monkeypatch.setattr(doctor, "_engine", engine)
    found = look(settings, "limits")
    assert found.ok
    assert [words for words in said if words not in found.detail] == []
    assert [words for words in not_said if words in found.detail] == []
