"""The meter: usage never falls, and the head binds the lease, every sample and their order."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from hashlib import sha256

from suanli_node.engine.meter import Sample, add, begin, usage
from suanli_protocol.documents import Usage as UsageDocument

SAMPLES = (Sample(0, 1, 10, 2), Sample(500, 400, 64, 3), Sample(900, 700, 32, 1))


def folded(lease_id: str, samples: tuple[Sample, ...]) -> dict[str, object]:
    meter = begin(lease_id)
    for sample in samples:
        meter = add(meter, sample)
    return asdict(usage(meter))


def test_usage_of_samples() -> None:
    used = folded("lease", SAMPLES)
    assert (used["wall_ms"], used["cpu_ms"], used["peak_memory_mib"], used["samples"]) == (900, 700, 64, 3)
    assert UsageDocument(**used).samples == 3  # type: ignore[arg-type]


def test_time_never_falls() -> None:
    used = folded("lease", (*SAMPLES, Sample(100, 5, 1, 1)))
    assert (used["wall_ms"], used["cpu_ms"]) == (900, 700)


def test_head_can_be_recomputed_from_the_stored_samples() -> None:
    head = sha256(b'{"lease":"lease"}').digest()
    for sample in SAMPLES:
        line = json.dumps(asdict(sample), sort_keys=True, separators=(",", ":")).encode()
        head = sha256(head + line).digest()
    assert folded("lease", SAMPLES)["chain_head"] == "0x" + head.hex()


def test_head_tells_lease_order_and_content() -> None:
    first, second, third = SAMPLES
    others = [
        folded("other", SAMPLES),
        folded("lease", (second, first, third)),
        folded("lease", SAMPLES[:2]),
        folded("lease", (first, replace(second, processes=9), third)),
    ]
    heads = {str(used["chain_head"]) for used in [*others, folded("lease", SAMPLES)]}
    assert len(heads) == 5
