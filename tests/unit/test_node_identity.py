"""A node deals with one market, chain and escrow, and notices when they are not the same any more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from suanli_node.identity import ChainFacts, Identity, identify, pin
from suanli_node.settings import StateFolder, read_settings
from suanli_protocol import wire
from suanli_protocol.errors import ChainError, ConfigurationError, UsageError
from support import builders

FACTS = ChainFacts(builders.CHAIN_ID, "0x" + "11" * 32, "0x" + "22" * 32)


def an_info(**fields: Any) -> wire.MarketInfo:
    values: dict[str, Any] = {
        "name": "m", "version": "0", "address": builders.market().address, "chain_id": builders.CHAIN_ID,
        "genesis": FACTS.genesis, "escrow": builders.ESCROW, "code_hash": FACTS.code_hash,
        "token": builders.a_signer(7).address, "symbol": "DEVC", "decimals": 6, "fee_bps": 50, "min_fee": "0",
        "min_window": 10, "confirmations": 0, "round_ms": 500, "blob_bytes_max": 1, "chunk_bytes_max": 1, "time": 0,
    }  # fmt: skip
    return wire.MarketInfo(**(values | fields))


def an_identity() -> Identity:
    return identify(an_info(), FACTS, builders.ESCROW.lower(), builders.provider().address)


@pytest.mark.parametrize(
    ("lie", "name"),
    [
        ({"chain_id": 1}, "chain id"),
        ({"genesis": "0x" + "33" * 32}, "genesis block"),
        ({"escrow": builders.a_signer(8).address}, "escrow"),
        ({"code_hash": "0x" + "33" * 32}, "escrow code"),
    ],
)
def test_market_and_settings_must_agree(lie: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"works with {name}"):
        identify(an_info(**lie), FACTS, builders.ESCROW, builders.provider().address)


def test_a_reset_chain_is_noticed(tmp_path: Path) -> None:
    pin(tmp_path / "identity.json", an_identity())
    pin(tmp_path / "identity.json", an_identity())
    with pytest.raises(ChainError) as caught:
        pin(tmp_path / "identity.json", replace(an_identity(), genesis="0x" + "44" * 32))
    assert caught.value.code == "chain_reset"


@pytest.mark.parametrize("field", ["market", "account", "escrow", "chain_id"])
def test_state_belongs_to_one_market_and_account(tmp_path: Path, field: str) -> None:
    pin(tmp_path / "identity.json", an_identity())
    other: Any = 1 if field == "chain_id" else builders.a_signer(9).address
    with pytest.raises(ConfigurationError, match=field.replace("_", " ")):
        pin(tmp_path / "identity.json", replace(an_identity(), **{field: other}))


def test_a_devnet_is_believed_at_once_and_a_chain_when_final() -> None:
    assert an_identity().trusted_block == "latest"
    assert replace(an_identity(), chain_id=1).trusted_block == "finalized"


def test_a_state_folder_serves_one_process(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    state.create()
    with state.locked(), pytest.raises(ConfigurationError, match="in use"), state.locked():
        pass
    with state.locked():
        pass


GIVEN: dict[str, Any] = {
    "market": "http://m", "chain": "http://c", "escrow": builders.ESCROW, "keystore": Path("k"), "state": Path("s"),
    "name": "heron", "cpus": "1.5", "memory": "2GiB", "disk": None, "price_core": "0.1",
}  # fmt: skip


def test_settings_are_read_in_the_units_of_the_papers() -> None:
    settings = read_settings(GIVEN)
    assert (settings.wanted.cpu_milli, settings.wanted.memory_mib, settings.wanted.disk_mib) == (1500, 2048, None)
    assert settings.prices.in_units(6).core == 100_000


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ({"escrow": "0x12"}, "--escrow"),
        ({"region": "Guangdong"}, "--region"),
        ({"name": "a\x1b[31m"}, "--name"),
        ({"cpus": "many"}, "--cpus"),
        ({"memory": "8"}, "--memory"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(fault: dict[str, Any], name: str) -> None:
    with pytest.raises(UsageError, match=name):
        read_settings(GIVEN | fault)


def test_a_price_that_is_too_fine_is_named() -> None:
    with pytest.raises(UsageError, match="--price-core"):
        read_settings(GIVEN | {"price_core": "0.0000001"}).prices.in_units(6)
