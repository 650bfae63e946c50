"""A costly value is computed once for all who ask at once, and anew when it is old."""

from __future__ import annotations

import asyncio
import time

import pytest

from suanli_market.api.recent import Recent


def test_many_who_ask_at_once_cost_one_computation() -> None:
    computed: list[int] = []

    def compute() -> int:
        time.sleep(0.02)
        computed.append(len(computed))
        return len(computed)

    async def run() -> None:
        recent = Recent(compute, age_s_max=60)
        assert await asyncio.gather(*(recent.get() for _ in range(200))) == [1] * 200
        old = Recent(compute, age_s_max=0)
        assert [await old.get(), await old.get()] == [2, 3]

    asyncio.run(run())
    assert len(computed) == 3


def test_a_failure_is_told_and_not_kept() -> None:
    outcomes: list[object] = [ValueError("no"), "yes"]

    def compute() -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return str(outcome)

    async def run() -> None:
        recent = Recent(compute)
        with pytest.raises(ValueError, match="no"):
            await recent.get()
        assert await recent.get() == "yes"

    asyncio.run(run())
