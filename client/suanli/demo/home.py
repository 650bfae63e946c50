"""Where the demo keeps its things, and what it remembers between two commands."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from suanli.demo.process import ProcessTable
from suanli.files import data_home, private_dir, write_atomically, write_json
from suanli_protocol.errors import ConfigurationError, IntegrityError

SOURCE_TREE = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Machine:
    """One of the demo's two providers: its name, where it says it stands, its share of this machine, its prices."""

    name: str
    region: str
    cpus: str
    memory: str
    disk: str
    price_core: str
    price_memory: str
    price_disk: str


MACHINES = (
    Machine("lotus", "CN-GD", "1", "2GiB", "4GiB", "0.30", "0.04", "0.001"),
    Machine("bamboo", "CN-SH", "1", "2GiB", "4GiB", "0.42", "0.05", "0.001"),
)
KEYS = ("market", "consumer", "arbiter", *(machine.name for machine in MACHINES))


@dataclass
class Memory:
    """What was made once and must be found again: the chain by its genesis, the contracts, the ports."""

    chain_port: int = 0
    market_port: int = 0
    genesis: str = ""
    token: str = ""
    escrow: str = ""
    block: int = 0  # of the deployment


class DemoHome:
    """The folder `<data home>/demo`, private to its user."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or data_home() / "demo"
        self.processes = ProcessTable(self.root)

    @property
    def exists(self) -> bool:
        """Whether there is a demo, running or not."""
        return (self.root / "demo.json").is_file()

    @property
    def context(self) -> Path:
        """The settings that every command of the client falls back to."""
        return self.root / "context.toml"

    @property
    def ledger(self) -> Path:
        """Anvil's state file."""
        return self.root / "chain" / "state.json"

    def folder(self, *names: str) -> Path:
        """A private folder inside the demo's, made if need be."""
        return private_dir(self.root.joinpath(*names))

    def keystore(self, name: str) -> Path:
        """The key file of a party."""
        return self.root / "keys" / f"{name}.json"

    def password_file(self, name: str) -> Path:
        """The file with the password of a party's key."""
        return self.root / "keys" / f"{name}.password"

    def make_password(self, name: str) -> Path:
        """The password file of a party, written now if there is none."""
        path = self.password_file(name)
        if not path.exists():
            write_atomically(path, secrets.token_urlsafe(24).encode() + b"\n")
        return path

    def load(self) -> Memory:
        """What is remembered; IntegrityError if the file is damaged."""
        path = self.root / "demo.json"
        try:
            return Memory(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return Memory()
        except (ValueError, TypeError):
            raise IntegrityError(f"{path} is damaged", hint="`suanli demo down` clears the demo away") from None

    def save(self, memory: Memory) -> None:
        """Remembers; on the disk when this returns."""
        private_dir(self.root)
        write_json(self.root / "demo.json", asdict(memory))

    def write_context(self, market: str, chain: str, escrow: str, arbiter: str) -> None:
        """Leaves the settings for every other command."""
        values = {
            "market": market,
            "chain": chain,
            "escrow": escrow,
            "arbiter": arbiter,
            "keystore": "keys/consumer.json",
            "password_file": "keys/consumer.password",
        }
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        write_atomically(self.context, text.encode())


def command(name: str) -> str:
    """An installed command of this very installation: beside the interpreter, else on the PATH."""
    beside = Path(sys.executable).parent / name
    if beside.is_file():
        return str(beside)
    found = shutil.which(name)
    if found is None:
        extra = name.removeprefix("suanli-")
        raise ConfigurationError(
            f"the command {name} is not installed beside {sys.executable}",
            hint=f"install the whole of it: pip install 'suanli[{extra}]'",
        )
    return found


def anvil() -> str:
    """The devnet's program: SUANLI_ANVIL, else node_modules of the project (upwards from here), else the PATH."""
    named = os.environ.get("SUANLI_ANVIL")
    if named:
        if not Path(named).is_file():
            raise ConfigurationError(f"SUANLI_ANVIL names {named}, which is no file", hint="correct or unset it")
        return named
    for place in (*_upwards(Path.cwd()), *_upwards(SOURCE_TREE)):
        for candidate in sorted(place.glob("node_modules/@foundry-rs/anvil-*/bin/anvil")):
            if os.access(candidate, os.X_OK):
                return str(candidate)
    found = shutil.which("anvil")
    if found:
        return found
    raise ConfigurationError(
        "the local chain needs Anvil, and there is none",
        hint="in the project's folder `make demo` installs it; else `npm install @foundry-rs/anvil`,\n"
        "or set SUANLI_ANVIL to the program",
        code="anvil_missing",
    )


def _upwards(folder: Path) -> tuple[Path, ...]:
    return (folder, *folder.parents)


def package_index(wheels: str | None) -> str:
    """Where nodes get packages from: the given folder, a project's `.cache/wheels`, else as the environment says."""
    if wheels:
        if not any(Path(wheels).glob("*.whl")):
            raise ConfigurationError(f"{wheels} holds no wheels", hint="`make demo` fills .cache/wheels")
        return str(Path(wheels).resolve())
    for place in (*_upwards(Path.cwd()), *_upwards(SOURCE_TREE)):
        if any((place / ".cache" / "wheels").glob("*.whl")):
            return str(place / ".cache" / "wheels")
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        if value := os.environ.get(name):
            return _without_password(name, value)
    return "default"


def _without_password(name: str, url: str) -> str:
    """The address; refused if it holds a password, which any user of the machine could read off the command line."""
    if urlsplit(url).password:
        raise ConfigurationError(
            f"{name} holds a password, and the nodes take the index on their command line",
            hint="give a folder of wheels instead: --wheels DIR",
        )
    return url
