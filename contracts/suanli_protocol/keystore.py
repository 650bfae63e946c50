"""Keys at rest: Ethereum's version 3 key files (scrypt), and the passwords that unlock them.

A key file and a password file belong to their user and nobody else may read them; a key is never overwritten.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import tempfile
from pathlib import Path
from typing import Any

from suanli_protocol.errors import SignatureError, UnusableKeyError
from suanli_protocol.logs import conceal
from suanli_protocol.recursion import limit_kept
from suanli_protocol.signing import Signer, address_bytes, checksum_address

SCRYPT_N = 1 << 17  # about half a second and 128 MiB for each guess at a password
SCRYPT_N_DEVNET = 1 << 12  # for throw-away keys of tests and the demo
SCRYPT_MEMORY_MAX = 1 << 30  # a key file that asks for more is refused before it is tried
FILE_BYTES_MAX = 64 * 1024
CREDENTIAL = "suanli-password"  # the name under which a service manager hands the password over


def create(path: Path, password: str, *, scrypt_n: int = SCRYPT_N, secret: bytes | None = None) -> Signer:
    """Writes a key (a new one, or the 32 bytes of `secret`) under the password to a file that must not exist yet."""
    with limit_kept():
        from eth_keyfile.keyfile import create_keyfile_json

    if not password:
        raise UnusableKeyError("the password is empty", hint="choose one; it is all that protects the key at rest")
    secret = secrets.token_bytes(32) if secret is None else secret
    conceal(secret, password)
    signer = Signer(secret)
    content = create_keyfile_json(secret, password.encode(), kdf="scrypt", iterations=scrypt_n)
    _write_new(path, json.dumps(content).encode() + b"\n")
    return signer


def load(path: Path, password: str) -> Signer:
    """Unlocks a key; UnusableKeyError if the file is missing, open to others, no key file, or the password is wrong."""
    with limit_kept():
        from eth_keyfile.keyfile import decode_keyfile_json

    content = _content(path)
    try:
        secret = decode_keyfile_json(content, password.encode())
    except ValueError as error:
        if "MAC mismatch" in str(error):
            raise UnusableKeyError(
                f"{path}: the password is wrong", hint="check which password file is set (SUANLI_PASSWORD_FILE)"
            ) from None
        raise UnusableKeyError(f"{path} cannot be unlocked: {error}") from None
    except (KeyError, TypeError) as error:
        raise UnusableKeyError(f"{path} is no version 3 key file: {error}") from None
    conceal(bytes(secret))
    return Signer(bytes(secret))


def address(path: Path) -> str:
    """The address that a key file says it holds; its key is not unlocked."""
    stated = str(_content(path).get("address", ""))
    try:
        return checksum_address(address_bytes("0x" + stated.removeprefix("0x")))
    except SignatureError:
        raise UnusableKeyError(f"{path} states no address") from None


def read_password(path: Path) -> str:
    """The first line of a password file that only its owner, this user, can read; or a credential by its path."""
    if path == system_credential(path.name):
        return system_password(path.name) or ""
    text = _read_private(path, "password file")
    try:
        password = text.decode().split("\n", 1)[0].removesuffix("\r")
    except UnicodeDecodeError:
        raise UnusableKeyError(f"the password file {path} is not UTF-8 text") from None
    if not password:
        raise UnusableKeyError(f"the password file {path} is empty")
    conceal(password)
    return password


def system_password(name: str = CREDENTIAL) -> str | None:
    """The password that the service manager hands over (systemd's LoadCredential), None if it hands over none.

    Its folder is private to the service; the file is root's or ours, and closed to the world.
    """
    path = system_credential(name)
    if path is None:
        return None
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o007:
        raise UnusableKeyError(
            f"the credential {path} is no file that root or this user keeps from all others",
            hint=f"hand it over by LoadCredential={name}:FILE, or name --password-file",
        )
    password = path.read_text().split("\n", 1)[0].removesuffix("\r")
    if not password:
        raise UnusableKeyError(f"the credential {path} is empty")
    conceal(password)
    return password


def system_credential(name: str = CREDENTIAL) -> Path | None:
    """Where the service manager put a credential, if it did."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder, name) if folder else None
    return path if path is not None and path.exists() else None


class Keystore:
    """One key file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def exists(self) -> bool:
        """Whether there is a file."""
        return self.path.exists()

    def create(self, password: str, *, scrypt_n: int = SCRYPT_N) -> Signer:
        """A new key; see `create`."""
        return create(self.path, password, scrypt_n=scrypt_n)

    def load(self, password: str) -> Signer:
        """The unlocked key; see `load`."""
        return load(self.path, password)

    @property
    def address(self) -> str:
        """The address, without unlocking."""
        return address(self.path)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read_private(path, "key file"))
        params = content["crypto"]["kdfparams"]
        memory = 128 * int(params.get("n", 0)) * int(params.get("r", 0))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UnusableKeyError(f"{path} is no version 3 key file") from None
    if memory > SCRYPT_MEMORY_MAX:
        raise UnusableKeyError(f"{path} asks for {memory >> 20} MiB of memory to be unlocked")
    return dict(content)


def _read_private(path: Path, what: str) -> bytes:
    """The bytes of a regular file that belongs to this user and is closed to all others."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise UnusableKeyError(f"the {what} {path} does not exist", hint="check its path in the settings") from None
    except OSError as error:
        raise UnusableKeyError(f"the {what} {path} cannot be read: {error.strerror}") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise UnusableKeyError(f"the {what} {path} is no regular file")
        if found.st_uid != os.geteuid():
            raise UnusableKeyError(
                f"the {what} {path} belongs to another user", hint=f"chown it, or use a {what} of yours"
            )
        if found.st_mode & 0o077:
            raise UnusableKeyError(
                f"the {what} {path} can be read by others (mode {stat.S_IMODE(found.st_mode):04o})",
                hint=f"chmod 600 {path}",
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(FILE_BYTES_MAX)
    finally:
        os.close(descriptor)


def _write_new(path: Path, data: bytes) -> None:
    """Writes a whole 0600 file or none, never over another: linking a finished file fails if the name is taken."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".key-", dir=path.parent)  # 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
        finally:
            Path(temporary).unlink()
    except FileExistsError:
        raise UnusableKeyError(
            f"{path} exists already", hint="a key is never overwritten; choose another file"
        ) from None
    except OSError as error:
        raise UnusableKeyError(f"{path} cannot be written: {error.strerror}") from None
