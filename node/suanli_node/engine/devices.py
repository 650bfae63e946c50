"""Devices: which nodes a run may open, out of those that its host has for leasing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Devices:
    """The accelerators of a host in the order in which Ray numbers them, and what each that is used needs beside it."""

    accelerators: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()

    def of(self, numbers: Sequence[str]) -> tuple[str, ...]:
        """The nodes for the accelerators that Ray gave to a run; none for none."""
        return (*(self.accelerators[int(number)] for number in numbers), *self.shared) if numbers else ()

    def words(self) -> list[str]:
        """The options of the host's command that name them."""
        own = [word for path in self.accelerators for word in ("--accelerator", path)]
        return own + [word for path in self.shared for word in ("--shared-device", path)]


NO_DEVICES = Devices()
