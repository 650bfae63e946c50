"""The market's clock: asked for anew each time, though who the market is is read once."""

from __future__ import annotations

import httpx

from suanli_protocol import wire
from suanli_protocol.market_client import MarketClient

INFO = wire.MarketInfo(
    name="market", version="1", address="0x" + "11" * 20, chain_id=31337, genesis="0x" + "22" * 32,
    escrow="0x" + "33" * 20, code_hash="0x" + "44" * 32, token="0x" + "55" * 20, symbol="DEV", decimals=6, fee_bps=50,
    min_fee="0", min_window=10, confirmations=0, round_ms=500, blob_bytes_max=1, chunk_bytes_max=1, time=0,
)  # fmt: skip


def test_a_client_that_lives_long_sees_the_clock_go_on() -> None:
    times = iter((1_000, 61_000, 90_000))
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, json=INFO.model_copy(update={"time": next(times)}).to_json())
    )
    with MarketClient("http://market.test", transport=transport) as client:
        assert client.info().time == client.info().time == 1_000
        assert (client.clock(), client.clock()) == (61.0, 90.0)
