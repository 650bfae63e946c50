"""The meter: a pure fold over samples of a run, to its usage and to the head of a hash chain over the samples.

The head binds the lease and every sample in order: whoever holds the samples can recompute head and usage.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from suanli_protocol.documents import canonical, sha256


@dataclass(frozen=True)
class Sample:
    """What the operating system said of a run at one moment; CPU time is cumulative since the run began."""

    at_ms: int  # milliseconds since the run began
    cpu_ms: int
    memory_mib: int
    processes: int


@dataclass(frozen=True)
class Meter:
    """The state of the fold."""

    head: bytes
    samples: int = 0
    wall_ms: int = 0
    cpu_ms: int = 0
    peak_memory_mib: int = 0


@dataclass(frozen=True)
class Usage:
    """What a run has used, and the head of the samples that prove it."""

    wall_ms: int = 0
    cpu_ms: int = 0
    peak_memory_mib: int = 0
    samples: int = 0
    chain_head: str = "0x" + "00" * 32


def begin(lease_id: str) -> Meter:
    """The meter of a run before its first sample."""
    return Meter(head=sha256(canonical({"lease": lease_id})))


def add(meter: Meter, sample: Sample) -> Meter:
    """The meter after one more sample; neither time ever falls, whatever a sample says."""
    return Meter(
        head=sha256(meter.head + canonical(asdict(sample))),
        samples=meter.samples + 1,
        wall_ms=max(meter.wall_ms, sample.at_ms),
        cpu_ms=max(meter.cpu_ms, sample.cpu_ms),
        peak_memory_mib=max(meter.peak_memory_mib, sample.memory_mib),
    )


def usage(meter: Meter) -> Usage:
    """The usage so far, as the evidence document states it."""
    return Usage(
        wall_ms=meter.wall_ms,
        cpu_ms=meter.cpu_ms,
        peak_memory_mib=meter.peak_memory_mib,
        samples=meter.samples,
        chain_head="0x" + meter.head.hex(),
    )
