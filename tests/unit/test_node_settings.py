"""What an operator writes is understood, or named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from suanli_node.settings import WINDOW_MIN_S, Settings, read_settings
from suanli_protocol.errors import UsageError


def settings(**given: Any) -> Settings:
    plain = {"market": "http://m", "chain": "http://c", "escrow": "0x" + "11" * 20, "name": "heron"}
    return read_settings({**plain, "keystore": Path("k"), "state": Path("s"), **given})


def test_the_least_window_is_that_of_the_clients_unless_one_is_stated() -> None:
    assert settings().least_window(is_devnet=False) == 600
    assert settings().least_window(is_devnet=True) == 10
    assert settings(min_window=90).least_window(is_devnet=False) == 90
    assert settings(max_window=300).least_window(is_devnet=False) == 300


@pytest.mark.parametrize("window", [1, WINDOW_MIN_S - 1, 86_401])
def test_a_least_window_that_could_not_hold_is_named(window: int) -> None:
    with pytest.raises(UsageError, match="--min-window"):
        settings(min_window=window)
    assert settings(min_window=WINDOW_MIN_S).min_window == WINDOW_MIN_S
