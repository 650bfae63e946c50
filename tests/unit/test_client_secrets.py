"""What leaves this machine on purpose: an encrypted key file, and a bundle for others that holds no secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from suanli.cli import cli
from suanli.jobs.store import Store
from suanli.support_bundle import bare_address
from suanli.terminal import failure
from suanli_protocol import keystore
from suanli_protocol.signing import Signer
from support.records import a_record

Capture = pytest.CaptureFixture[str]
PASSWORD = "correct horse"
SECRET = bytes.fromhex("5e" * 32)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MARKET", "CHAIN", "ESCROW", "ARBITER"):
        monkeypatch.delenv(f"SUANLI_{name}", raising=False)
    password = tmp_path / "pw"
    password.touch(mode=0o600)
    password.write_text(PASSWORD + "\n")
    monkeypatch.setenv("SUANLI_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("SUANLI_KEYSTORE", str(tmp_path / "key.json"))
    monkeypatch.setenv("SUANLI_PASSWORD_FILE", str(password))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    keystore.create(tmp_path / "key.json", PASSWORD, scrypt_n=keystore.SCRYPT_N_DEVNET, secret=SECRET)
    return tmp_path


def suanli(*arguments: str) -> int:
    return failure.exit_status(cli, list(arguments))


def test_export_is_encrypted_and_comes_back(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert suanli("wallet", "export", "-o", "copy.json", "--json") == 0
    address = json.loads(capsys.readouterr().out)["address"]
    assert address == Signer(SECRET).address
    copy = home / "copy.json"
    assert copy.stat().st_mode & 0o077 == 0
    assert SECRET.hex() not in copy.read_text()
    assert suanli("wallet", "export", "-o", "copy.json") == 3  # never over another
    assert suanli("wallet", "export") == 0
    assert json.loads(capsys.readouterr().out)["version"] == 3
    monkeypatch.setenv("SUANLI_KEYSTORE", str(home / "other.json"))
    assert suanli("wallet", "import", "--from", "copy.json", "--json") == 0
    assert json.loads(capsys.readouterr().out)["address"] == address
    assert keystore.load(home / "other.json", PASSWORD).address == address


def test_an_import_under_a_wrong_password_leaves_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (home / "pw").write_text("another\n")
    monkeypatch.setenv("SUANLI_KEYSTORE", str(home / "other.json"))
    assert suanli("wallet", "import", "--from", "key.json", "--json") == 3
    assert "password" in json.loads(capsys.readouterr().err)["detail"]
    assert not (home / "other.json").exists()


def test_a_bundle_for_others_holds_no_secret(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("SUANLI_MARKET", "http://ann:hunter2@127.0.0.1:1/v9/apikey123?token=t0ken")
    monkeypatch.setenv("SUANLI_CHAIN", "http://127.0.0.1:2/rpc/apikey456")
    command = {"argv": ["train", "--key=c0mmand"], "shell": ""}
    job = {"command": command, "env": {"TOKEN": "s3cretenv"}, "name": "n4me"}
    Store().save(a_record("aa", job=job, signature="0xs1gnature", plan={"title": "c0mmand"}, name="n4me"))
    assert suanli("doctor", "--bundle", "for-others.json", "--json") == 2
    told = (home / "for-others.json").read_text()
    secrets = (PASSWORD, SECRET.hex(), "hunter2", "apikey123", "apikey456", "t0ken", "c0mmand", "s3cretenv", "n4me")
    assert [word for word in (*secrets, "s1gnature", str(home)) if word in told] == []
    content = json.loads(told)
    assert content["settings"]["market"]["value"] == "http://127.0.0.1:1"
    assert content["settings"]["keystore"] == {"isThere": True, "origin": "environment SUANLI_KEYSTORE"}
    assert {item["check"]: item["state"] for item in content["checks"]}["market"] == "failed"
    assert content["jobs"][0]["job"].startswith("0xaa")
    assert content["packages"]["web3"]
    assert suanli("doctor", "--bundle", "for-others.json") == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("https://user:pw@host.example:8443/path?key=1#x", "https://host.example:8443"),
        ("http://[::1]:8545/x", "http://[::1]:8545"),
        ("0x" + "12" * 20, "0x" + "12" * 20),
        ("https://host:99999999/secret", "https://host"),
    ],
)
def test_addresses_are_made_bare(text: str, bare: str) -> None:
    assert bare_address(text) == bare
