"""The consumer's key: where it lies, whose it is, and how it is unlocked. The password never stands in argv."""

from __future__ import annotations

import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from suanli.config import Config
from suanli.files import shorten_home
from suanli_protocol.errors import UnusableKeyError
from suanli_protocol.signing import Signer


def keystore_path(config: Config) -> Path:
    """The keystore's file; UnusableKeyError if none is set or there is none."""
    path = Path(config.require("keystore")).expanduser()
    if not path.is_file():
        raise UnusableKeyError(
            f"there is no keystore {shorten_home(path)} ({config.origin('keystore')})",
            hint="`suanli wallet new` makes one",
        )
    return path


def address(config: Config) -> str:
    """The key's address, without its password."""
    from suanli_protocol import keystore

    return keystore.address(keystore_path(config))


def password(config: Config, *, confirm: bool = False, prompt: str = "Password") -> str:
    """The password: from the password file, else asked for on a terminal."""
    from suanli_protocol import keystore

    file = config.get("password_file")
    if file:
        return keystore.read_password(Path(file).expanduser())
    if not sys.stdin.isatty():
        raise UnusableKeyError(
            "the key is locked and there is no terminal to ask for its password",
            hint="give --password-file FILE or set SUANLI_PASSWORD_FILE (a file with mode 0600)",
        )
    import click

    text: str = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
    return text


def unlock(config: Config) -> Signer:
    """The key; UnusableKeyError says what is wrong with file or password. Costs about a second."""
    from suanli_protocol import keystore

    path = keystore_path(config)
    return keystore.load(path, password(config))


class Unlocking:
    """The unlocking of a key with a password file, begun early so that it passes while the market is asked."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._future: Future[Signer] | None = None
        if config.get("password_file"):
            pool = ThreadPoolExecutor(1, thread_name_prefix="unlock")
            self._future = pool.submit(unlock, config)
            pool.shutdown(wait=False)

    def signer(self) -> Signer:
        """The key, asked for now if no password file is set."""
        return self._future.result() if self._future is not None else unlock(self._config)
