"""A consumer as a process: it submits small jobs under keys and sees each to its end, until it is told to stop.

python -m deep.consumer NAME: in the folder `order.json` names the seed of the round, `stop` says that no new job is to
begin. Killed at any place and started again it goes on with the same keys, as a script of a careful person would.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from suanli.client import Client
from suanli.handle import JobHandle
from suanli.jobs.job import Input, Job, Resources, Timeouts
from suanli.session.session import is_sent
from suanli_protocol.errors import SuanliError, UsageError

AT_ONCE = 3
WINDOW_S = 30  # the node claims after a third of it without a countersignature
AWAY_S = 15.0
PATIENCE_S = 240.0
NEED = Resources(cpu_milli=100, memory_mib=64, disk_mib=32)
TIMEOUTS = Timeouts(queue=90, startup=60, execution=60)
KINDS = ("quick", "slow", "failing", "outputs", "inputs", "cancelled", "left alone")
T = TypeVar("T")


@dataclass(frozen=True)
class Errand:
    """One job to be: its key, what it does, and all that it prints if it comes to its end."""

    key: str
    kind: str

    def job(self, folder: Path) -> Job:
        """What is submitted."""
        shell = {
            "quick": f"echo {self.key}",
            "slow": f"echo {self.key}; sleep 2; echo end",
            "failing": f"echo {self.key}; exit 3",
            "outputs": f'echo {self.key}; echo {self.key} > "$SUANLI_OUTPUT_DIR/made"',
            "inputs": "cat /in/text",
            "left alone": f"echo {self.key}",
            "cancelled": f"echo {self.key}; sleep 50",
        }[self.kind]
        inputs: tuple[Input, ...] = ()
        if self.kind == "inputs":
            text = folder / f"{self.key}.txt"
            text.write_text(f"{self.key}\n")
            inputs = (Input(text, "text"),)
        return Job(shell=shell, name=self.key, resources=NEED, timeouts=TIMEOUTS, inputs=inputs)

    @property
    def printed(self) -> str:
        """What a whole run prints."""
        return f"{self.key}\n" + ("end\n" if self.kind == "slow" else "")


def errands(name: str, seed: int) -> Iterator[Errand]:
    """The endless list of one consumer's jobs in a round."""
    chance = random.Random(f"{name}:{seed}")
    for number in itertools.count():
        yield Errand(f"{name}-{seed}-{number}", chance.choice(KINDS))


class Consumer:
    """Takes errands a few at a time."""

    def __init__(self, client: Client, name: str, folder: Path) -> None:
        self._client, self._name, self._folder = client, name, folder
        self._known: dict[str, JobHandle] = {}

    def work(self, seed: int) -> None:
        """Until nothing new is wanted and everything that began is over."""
        self._known = {handle.record.idempotency_key: handle for handle in self._client.jobs()}
        todo = errands(self._name, seed)
        while batch := [errand for errand in itertools.islice(todo, AT_ONCE) if self._is_wanted(errand)]:
            for errand in batch:
                self._begin(errand)
            if any(errand.kind == "left alone" and not self._known[errand.key].record.is_over for errand in batch):
                time.sleep(AWAY_S)
            for errand in batch:
                patiently(lambda key=errand.key: self._known[key].drive())  # type: ignore[misc]

    def _is_wanted(self, errand: Errand) -> bool:
        return errand.key in self._known or not (self._folder / "stop").exists()

    def _begin(self, errand: Errand) -> None:
        handle = self._known.get(errand.key)
        if handle is None:
            handle = self._known[errand.key] = patiently(lambda: self._submit(errand))
        if not handle.record.is_over:
            patiently(lambda: handle.drive(is_sent))
            if errand.kind == "cancelled":
                with suppress(UsageError):  # it has ended
                    patiently(handle.cancel)

    def _submit(self, errand: Errand) -> JobHandle:
        plan = self._client.quote(errand.job(self._folder), window=WINDOW_S)
        return self._client.submit(plan, idempotency_key=errand.key)


def patiently(act: Callable[[], T]) -> T:
    """The act's result; whatever a person would try again is tried again."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return act()
        except SuanliError as error:
            again = error.retryable or error.code in ("no_match", "no_offer")
            if not again or time.monotonic() > deadline:
                raise
            print(f"{error.code}: {error.detail}; again", flush=True)
            time.sleep(0.5)


def main(name: str) -> None:
    """Works on the order in the present folder."""
    folder = Path.cwd()
    seed = int(json.loads((folder / "order.json").read_bytes())["seed"])
    with Client() as client:
        client.prepare_key()
        try:
            Consumer(client, name, folder).work(seed)
        except SuanliError as error:
            sys.exit(f"{error.code}: {error.detail} {error.hint}")


if __name__ == "__main__":
    main(sys.argv[1])
