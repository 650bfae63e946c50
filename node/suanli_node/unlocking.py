"""Unlocking: where the password of the node's key comes from."""

from __future__ import annotations

import sys
from pathlib import Path

from suanli_protocol import keystore
from suanli_protocol.errors import UnusableKeyError
from suanli_protocol.signing import Signer


def unlock(path: Path, password_file: Path | None) -> Signer:
    """The node's key. Its password comes from a 0600 file, from the service manager, or from a person at a terminal."""
    if password_file is not None:
        return keystore.load(path, keystore.read_password(password_file))
    handed_over = keystore.system_password()
    if handed_over is not None:
        return keystore.load(path, handed_over)
    if not sys.stdin.isatty():
        raise UnusableKeyError(
            f"{path} is locked and there is no terminal to ask for its password",
            hint="name a file of mode 0600 by --password-file (SUANLI_PASSWORD_FILE), "
            f"or hand it over as systemd's credential {keystore.CREDENTIAL}",
        )
    import click

    return keystore.load(path, click.prompt(f"Password of {path}", hide_input=True, err=True))
