"""Keys at rest: closed to others, never overwritten, unlocked by their password alone."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from suanli_protocol import keystore
from suanli_protocol.errors import UnusableKeyError
from suanli_protocol.keystore import SCRYPT_N_DEVNET, Keystore, read_password
from support import builders

PASSWORD = "密码 correct horse"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    keystore.create(tmp_path / "keys" / "key.json", PASSWORD, scrypt_n=SCRYPT_N_DEVNET)
    return tmp_path / "keys" / "key.json"


def private(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_key_comes_back(key_file: Path) -> None:
    signer = keystore.load(key_file, PASSWORD)
    assert keystore.address(key_file) == signer.address == Keystore(key_file).address
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert [path.name for path in key_file.parent.iterdir()] == ["key.json"]
    assert stat.S_IMODE(key_file.parent.stat().st_mode) == 0o700


def test_other_wallets_read_it_and_we_read_theirs(key_file: Path, tmp_path: Path) -> None:
    secret = Account.decrypt(key_file.read_text(), PASSWORD)
    assert Account.from_key(secret).address == keystore.address(key_file)
    theirs: dict[str, Any] = Account.encrypt(builders.consumer().account.key, "pw", kdf="pbkdf2", iterations=1000)
    path = private(tmp_path / "theirs", json.dumps(theirs).encode())
    assert keystore.load(path, "pw").address == builders.consumer().address


def test_the_key_is_not_in_the_file(tmp_path: Path) -> None:
    secret = bytes(builders.market().account.key)
    signer = keystore.create(tmp_path / "k", PASSWORD, scrypt_n=SCRYPT_N_DEVNET, secret=secret)
    assert signer.address == builders.market().address
    text = (tmp_path / "k").read_text()
    assert secret.hex() not in text
    assert PASSWORD not in text


def test_a_wrong_password_is_status_3(key_file: Path) -> None:
    with pytest.raises(UnusableKeyError, match="password is wrong") as wrong:
        keystore.load(key_file, "guess")
    assert wrong.value.exit_status == 3


def test_a_key_is_never_overwritten(key_file: Path) -> None:
    before = key_file.read_bytes()
    with pytest.raises(UnusableKeyError, match="exists"):
        keystore.create(key_file, PASSWORD, scrypt_n=SCRYPT_N_DEVNET)
    assert key_file.read_bytes() == before
    assert len(list(key_file.parent.iterdir())) == 1
    dangling = key_file.parent / "link"
    dangling.symlink_to(key_file.parent / "elsewhere")
    with pytest.raises(UnusableKeyError, match="exists"):
        keystore.create(dangling, PASSWORD, scrypt_n=SCRYPT_N_DEVNET)
    assert not (key_file.parent / "elsewhere").exists()


def test_an_empty_password_makes_no_key(tmp_path: Path) -> None:
    with pytest.raises(UnusableKeyError, match="empty"):
        keystore.create(tmp_path / "k", "")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnusableKeyError):
        keystore.create(tmp_path / "file" / "k", PASSWORD, scrypt_n=SCRYPT_N_DEVNET)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o777])
def test_files_open_to_others_are_refused_with_the_fix(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    with pytest.raises(UnusableKeyError) as refused:
        keystore.load(key_file, PASSWORD)
    assert refused.value.hint == f"chmod 600 {key_file}"


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b"\xff", b'{"crypto": 1}', b'{"crypto": {"kdfparams": {}}}'],
)
def test_files_that_are_no_key(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnusableKeyError):
        keystore.load(private(tmp_path / "k", content), PASSWORD)
    with pytest.raises(UnusableKeyError):
        keystore.address(private(tmp_path / "k", content))


def test_a_file_that_asks_for_too_much_memory_is_refused_before_it_is_tried(key_file: Path) -> None:
    content = json.loads(key_file.read_text())
    content["crypto"]["kdfparams"]["n"] = 1 << 30
    with pytest.raises(UnusableKeyError, match="MiB"):
        keystore.load(private(key_file, json.dumps(content).encode()), PASSWORD)


def test_what_is_missing_or_no_file(tmp_path: Path) -> None:
    with pytest.raises(UnusableKeyError, match="does not exist"):
        keystore.load(tmp_path / "none", PASSWORD)
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(UnusableKeyError):
            read_password(path)


@pytest.mark.parametrize(
    ("content", "password"), [(b"pw\n", "pw"), (b"pw", "pw"), (b"a b \r\nsecond\n", "a b "), ("密码".encode(), "密码")]
)
def test_the_password_is_the_first_line(tmp_path: Path, content: bytes, password: str) -> None:
    assert read_password(private(tmp_path / "pw", content)) == password
    assert read_password(private(tmp_path / "pw", content, 0o400)) == password


@pytest.mark.parametrize(("content", "mode"), [(b"", 0o600), (b"\npw", 0o600), (b"\xff", 0o600), (b"pw", 0o644)])
def test_password_files_that_are_none(tmp_path: Path, content: bytes, mode: int) -> None:
    with pytest.raises(UnusableKeyError):
        read_password(private(tmp_path / "pw", content, mode))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = private(tmp_path / "pw", b"pw")
    os.chown(path, 12345, 12345)
    with pytest.raises(UnusableKeyError, match="another user"):
        read_password(path)


def test_a_password_file_may_be_what_the_service_manager_hands_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "suanli-password"
    path.write_text("open sesame\n")
    path.chmod(0o440)  # as systemd leaves it: root's, opened to the service by an access list
    with pytest.raises(UnusableKeyError, match="can be read by others"):
        keystore.read_password(path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert keystore.read_password(path) == "open sesame"
    path.chmod(0o444)
    with pytest.raises(UnusableKeyError, match="keeps from all others"):
        keystore.read_password(path)
