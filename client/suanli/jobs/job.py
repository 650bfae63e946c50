"""A job as a person describes it, before any offer, price or key is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from suanli_protocol.capacity import Lanes

ONE_GIB = 1024  # in MiB


@dataclass(frozen=True)
class Resources:
    """What the job needs at least: milli-cores and MiB; accelerators whole."""

    cpu_milli: int = 1000
    memory_mib: int = ONE_GIB
    disk_mib: int = ONE_GIB
    gpus: int = 0

    @property
    def lanes(self) -> Lanes:
        """The need as the bid packs it; ValueError if it does not fit."""
        from suanli_protocol.capacity import Lanes

        return Lanes(self.cpu_milli, self.memory_mib, self.gpus * 1000, self.disk_mib)


@dataclass(frozen=True)
class Timeouts:
    """Seconds: waiting for a match, for the start, for the end."""

    queue: int = 600
    startup: int = 300
    execution: int = 3600


@dataclass(frozen=True)
class Input:
    """A file or folder of this machine, and where the job finds it (under /in)."""

    source: Path
    path: str


@dataclass(frozen=True)
class Job:
    """What is to run. Exactly one of `argv` and `shell` is given; money is decimal text, per hour and in total."""

    argv: tuple[str, ...] = ()
    shell: str = ""
    name: str = ""
    workdir: Path | None = None
    python: str = ""
    requirements: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[Input, ...] = ()
    outputs: tuple[str, ...] = ()
    resources: Resources = Resources()
    timeouts: Timeouts = Timeouts()
    max_price: str | None = None
    budget: str | None = None
    billing: str = "capacity"
    window: int | None = None  # seconds in which a claim can be disputed; it, arbiter and guard: None for the settings'
    arbiter: str | None = None
    guard: str | None = None
    regions: tuple[str, ...] = ()
    attempts: int = 1
    retry_on: tuple[str, ...] = ()  # "interruption", "provider-error"; the job's own failure is never tried again

    @classmethod
    def from_yaml(cls, path: str | Path) -> Job:
        """The job of a job file; UsageError names the key that is wrong."""
        from suanli.jobs import jobfile

        return jobfile.load(Path(path))

    @classmethod
    def from_command(
        cls,
        command: str | Sequence[str],
        *,
        name: str = "",
        cpus: int | str = 1,
        memory: str = "1GiB",
        disk: str = "1GiB",
        gpus: int = 0,
        timeout: int | str = "1h",
        max_price: str | None = None,
        budget: str | None = None,
        env: Mapping[str, str] | None = None,
        workdir: str | Path | None = None,
        outputs: Sequence[str] = (),
    ) -> Self:
        """A job from an argument vector, or from a line for the shell."""
        from suanli.jobs import jobfile
        from suanli_protocol import units

        for key, value in (env or {}).items():
            jobfile.check_env(key, value)
        shell = isinstance(command, str)
        return cls(
            argv=() if shell else tuple(command),
            shell=str(command) if shell else "",
            name=name,
            workdir=Path(workdir) if workdir is not None else None,
            env=dict(env or {}),
            outputs=tuple(jobfile.check_output(path, "outputs") for path in outputs),
            resources=Resources(
                units.parse_cores(cpus),
                units.parse_mib(memory, name="memory"),
                units.parse_mib(disk, name="disk"),
                gpus,
            ),
            timeouts=Timeouts(execution=jobfile.seconds(timeout, "timeout")),
            max_price=jobfile.money(max_price, "max_price") if max_price is not None else None,
            budget=jobfile.money(budget, "budget") if budget is not None else None,
        )

    @property
    def title(self) -> str:
        """What the job is called where a name is wanted."""
        from shlex import join

        text = self.name or self.shell or join(self.argv)
        words = " ".join(text.split())
        return words if len(words) <= 80 else words[:79] + "…"
