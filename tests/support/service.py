"""A service of ours as a process: started from its command line, ready when it says so, ended with the context."""

from __future__ import annotations

import json
import os
import select
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from support.devnet import stop_process

READY_TIMEOUT = 120.0


@dataclass
class Service:
    """A running process: what it said when it was ready ({} if nobody waited), and the lines of its stderr so far."""

    process: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)
    ready: dict[str, Any] = field(default_factory=dict)


@contextmanager
def start_service(
    command: list[str], *, wait: bool = True, settings: Mapping[str, str] | None = None
) -> Iterator[Service]:
    """Runs the command while the context is open; RuntimeError with its stderr if it ends before it is ready.

    Of this process's environment it gets all but SUANLI_*; `settings` come on top.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SUANLI_")}
    environment.update(settings or {})
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    assert process.stderr is not None
    service = Service(process)
    reader = threading.Thread(target=lambda: service.log.extend(process.stderr or ()), daemon=True)
    reader.start()
    try:
        if wait:
            service.ready = _until_ready(service)
        yield service
    finally:
        if process.poll() is None:
            stop_process(process)
        reader.join(timeout=5)
        process.stdout.close()
        process.stderr.close()


def _until_ready(service: Service) -> dict[str, Any]:
    process, deadline = service.process, time.monotonic() + READY_TIMEOUT
    assert process.stdout is not None
    while time.monotonic() < deadline:
        found, _, _ = select.select([process.stdout], [], [], 0.1)
        if not found:
            continue
        line = process.stdout.readline()
        if line.startswith("ready "):
            ready: dict[str, Any] = json.loads(line.removeprefix("ready "))
            return ready
        if not line:
            process.wait(timeout=10)
            time.sleep(0.1)
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}: {''.join(service.log)}")
    raise TimeoutError(f"{process.args!r} was not ready within {READY_TIMEOUT} s: {''.join(service.log)}")
