"""Settings: which source wins, where each value comes from, what is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from suanli import config
from suanli.files import write_atomically
from suanli_protocol.errors import ConfigurationError, UnusableKeyError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, working folder and environment."""
    for name in config.NAMES:
        monkeypatch.delenv(f"SUANLI_{name.upper()}", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("SUANLI_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def put(path: Path, text: str) -> None:
    write_atomically(path, text.encode())


def test_the_order_is_flag_environment_local_user_demo(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(home / "data/suanli/demo/context.toml", 'market = "demo"\n')
    assert config.load().get("market") == "demo"
    assert "demo" in config.load().origin("market")
    put(home / "config/suanli/config.toml", 'market = "user"\n')
    assert config.load().get("market") == "user"
    put(home / "work/.suanli.toml", 'market = "local"\n')
    assert (config.load().get("market"), config.load().origin("market")) == ("local", "./.suanli.toml")
    monkeypatch.setenv("SUANLI_MARKET", "environment")
    assert config.load().origin("market") == "environment SUANLI_MARKET"
    found = config.load({"market": "flag"})
    assert (found.get("market"), found.origin("market")) == ("flag", "flag --market")


def test_each_setting_falls_through_on_its_own(home: Path) -> None:
    put(home / "data/suanli/demo/context.toml", 'market = "m"\nchain = "c"\n')
    put(home / "work/.suanli.toml", 'chain = "mine"\n')
    found = config.load()
    assert (found.get("market"), found.get("chain")) == ("m", "mine")


def test_paths_are_relative_to_their_file(home: Path) -> None:
    put(home / "config/suanli/config.toml", 'keystore = "key.json"\npassword_file = "/abs/pw"\n')
    found = config.load()
    assert found.get("keystore") == str(home / "config/suanli/key.json")
    assert found.get("password_file") == "/abs/pw"


def test_the_default_keystore_is_found(home: Path) -> None:
    assert config.load().get("keystore") is None
    put(home / "config/suanli/keystore.json", "{}")
    assert config.load().origin("keystore") == "default"


@pytest.mark.parametrize(
    ("text", "named"), [('markt = "x"\n', "markt"), ("market = 3\n", "market"), ("market", "TOML"), ("\xff", "TOML")]
)
def test_a_wrong_file_is_named(home: Path, text: str, named: str) -> None:
    (home / "work/.suanli.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationError, match=named):
        config.load()


def test_a_mistyped_setting_gets_a_suggestion(home: Path) -> None:
    put(home / "work/.suanli.toml", 'markte = "x"\n')
    with pytest.raises(ConfigurationError) as caught:
        config.load()
    assert caught.value.hint == "did you mean `market`?"


def test_a_missing_setting_names_flag_variable_and_file() -> None:
    with pytest.raises(ConfigurationError) as caught:
        config.load().require("market")
    assert caught.value.exit_status == 2
    for place in ("--market", "SUANLI_MARKET", "config.toml"):
        assert place in caught.value.hint
    with pytest.raises(UnusableKeyError) as missing:
        config.load().require("keystore")
    assert missing.value.exit_status == 3
