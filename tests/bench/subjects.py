"""The subjects: a name for the command line, a title for the report, the module that measures, and its time limit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Subject:
    """`module` has `measure() -> Iterable[Row]`; it is ended after `limit_s` seconds."""

    name: str
    title: str
    module: str
    limit_s: float


SUBJECTS = (
    Subject("gas", "Gas of a lease", "bench.gas", 60),
    Subject("chain", "Lease lives on the devnet", "bench.chain_lives", 90),
    Subject("signatures", "Signature checks", "bench.signatures", 60),
    Subject("matching", "Matching", "bench.matching", 300),
    Subject("offers", "Offers accepted by a market", "bench.offers", 90),
    Subject("job", "A job's way", "bench.job_way", 240),
    Subject("start", "Cold start of a provider", "bench.cold_start", 150),
    Subject("memory", "Memory at rest", "bench.memory", 120),
    Subject("sandbox", "The sandbox", "bench.sandbox", 60),
    Subject("command", "The command line", "bench.command_line", 60),
    Subject("demo", "The demo", "bench.demo", 150),
)


def chosen(names: str) -> list[Subject]:
    """The subjects of a comma-separated list, all if it is empty; ValueError names one that does not exist."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    known = {subject.name: subject for subject in SUBJECTS}
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"no subject {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in wanted] or list(SUBJECTS)
