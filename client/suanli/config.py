"""The settings and where each comes from.

A flag wins over SUANLI_* in the environment, over ./.suanli.toml, over ~/.config/suanli/config.toml, over the context
that a running demo has left. Paths in a file are relative to that file's folder. A setting that is asked for and
nowhere set is a ConfigurationError that names all the places.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from suanli.files import config_home, data_home, shorten_home
from suanli.terminal.spelling import suggestion
from suanli_protocol.errors import ConfigurationError, UnusableKeyError

FILE_BYTES_MAX = 64 * 1024
LOCAL_FILE = ".suanli.toml"
LOCAL_ORIGIN = f"./{LOCAL_FILE}"
PATHS = ("keystore", "password_file")
MEANING = {
    "market": "the market's address, such as http://127.0.0.1:8600",
    "chain": "the chain's JSON-RPC address, such as http://127.0.0.1:8545",
    "escrow": "the escrow's address on the chain, 0x and 40 hex digits",
    "keystore": "the file of your encrypted key (`suanli wallet new` makes one)",
    "password_file": "a file that only you can read (mode 0600) with the key's password",
    "arbiter": "the address of who decides your disputes; providers must name the same",
    "guard": "the address of who may stop and dispute for you while you are away",
    "window": "how long you can dispute what a provider claims, such as 30m; 1h if unset, on a devnet 10s",
}
NAMES = tuple(MEANING)


@dataclass(frozen=True)
class Setting:
    """One setting: its value and where it comes from, in words."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True)
class Config:
    """All settings that are set somewhere."""

    settings: Mapping[str, Setting]

    def get(self, name: str) -> str | None:
        """The value, or None if it is nowhere set."""
        setting = self.settings.get(name)
        return setting.value if setting else None

    def at(self, market: str) -> Config:
        """The same settings with another market, such as a node that deals without one."""
        return Config({**self.settings, "market": Setting("market", market, "the job")})

    def origin(self, name: str) -> str:
        """Where the value comes from."""
        setting = self.settings.get(name)
        return setting.origin if setting else "not set"

    @property
    def local(self) -> list[Setting]:
        """What the file of the current folder has set: whoever made the folder may be a stranger."""
        return [setting for setting in self.settings.values() if setting.origin == LOCAL_ORIGIN]

    def require(self, name: str) -> str:
        """The value; ConfigurationError naming flag, variable and files if it is nowhere set."""
        value = self.get(name)
        if value:
            return value
        flag, variable = f"--{name.replace('_', '-')}", f"SUANLI_{name.upper()}"
        kind = UnusableKeyError if name in PATHS else ConfigurationError
        raise kind(
            f"no {name} is set: {MEANING[name]}",
            hint=f'give {flag}, set {variable}, or write {name} = "…" in {shorten_home(user_file())};\n'
            "`suanli demo up` starts a whole market on this machine and sets all of them",
        )


def user_file() -> Path:
    """The user's own settings."""
    return config_home() / "config.toml"


def demo_file() -> Path:
    """The context that a running demo leaves."""
    return data_home() / "demo" / "context.toml"


def default_keystore() -> Path:
    """Where `suanli wallet new` puts a key, and where one is looked for if nothing else is set."""
    return config_home() / "keystore.json"


def load(flags: Mapping[str, str | None] | None = None, *, folder: Path | None = None) -> Config:
    """The settings in force for a command that runs in `folder` (default: the current one)."""
    found: dict[str, Setting] = {}
    for setting in _all(flags or {}, folder or Path.cwd()):
        found.setdefault(setting.name, setting)
    return Config({name: found[name] for name in NAMES if name in found})


def _all(flags: Mapping[str, str | None], folder: Path) -> Iterator[Setting]:
    for name in NAMES:
        if value := flags.get(name):
            yield Setting(name, value, f"flag --{name.replace('_', '-')}")
    for name in NAMES:
        if value := os.environ.get(f"SUANLI_{name.upper()}"):
            yield Setting(name, value, f"environment SUANLI_{name.upper()}")
    yield from _from_file(folder / LOCAL_FILE, LOCAL_ORIGIN)
    yield from _from_file(user_file(), shorten_home(user_file()))
    yield from _from_file(demo_file(), f"the demo, {shorten_home(demo_file())}")
    if default_keystore().is_file():
        yield Setting("keystore", str(default_keystore()), "default")


def _from_file(path: Path, origin: str) -> Iterator[Setting]:
    for name, value in read_file(path).items():
        yield Setting(name, _absolute(value, path.parent) if name in PATHS else value, origin)


def _absolute(value: str, folder: Path) -> str:
    return str(folder / Path(value).expanduser())


def read_file(path: Path) -> dict[str, str]:
    """The settings of one TOML file; empty if there is none, ConfigurationError naming file and key if it is wrong."""
    try:
        with path.open("rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigurationError(f"{shorten_home(path)} cannot be read: {error.strerror}") from error
    if len(text) > FILE_BYTES_MAX:
        raise ConfigurationError(f"{shorten_home(path)} is longer than {FILE_BYTES_MAX} bytes")
    try:
        values = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{shorten_home(path)} is not TOML: {error}") from error
    for name, value in values.items():
        if name not in NAMES:
            raise ConfigurationError(f"{shorten_home(path)}: unknown setting {name!r}", hint=suggestion(name, NAMES))
        if not isinstance(value, str):
            raise ConfigurationError(f"{shorten_home(path)}: {name} must be text", hint=f'write {name} = "…"')
    return values
