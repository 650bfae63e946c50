"""The demo's job, from the plan to the audit: run by the installed command, so that its screen is the real one."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from suanli.audit.report import AuditReport
from suanli.demo.home import SOURCE_TREE, DemoHome, command
from suanli.demo.up import Running
from suanli.files import data_home
from suanli.jobs.record import Record
from suanli.jobs.store import Store
from suanli.terminal.console import style
from suanli_protocol.errors import NotFoundError
from suanli_protocol.units import format_money

EXAMPLE = Path("examples") / "digits" / "job.yaml"
LABEL = 12
PICTURES = (".png", ".svg", ".jpg", ".jpeg", ".pdf")


@dataclass(frozen=True)
class Ran:
    """What came of the job: its exit status, and its record if it got so far."""

    status: int
    record: Record | None


def find_job(given: Path | None) -> Path:
    """The job file that is given, else the digits example upwards from here or in the source tree."""
    if given is not None:
        if not given.is_file():
            raise NotFoundError(f"there is no job file {given}", hint=f"try {EXAMPLE}")
        return given
    for place in (Path.cwd(), *Path.cwd().parents, SOURCE_TREE):
        if (place / EXAMPLE).is_file():
            return place / EXAMPLE
    raise NotFoundError(
        "the example job is not here", hint="name a job file: suanli demo run JOB, or run it in the project's folder"
    )


def run_job(home: DemoHome, running: Running, job: Path, output: Path | None, *, quiet: bool) -> Ran:
    """Runs `suanli run` on the demo's market with this terminal, and finds the job's record afterwards.

    If `quiet`, nothing of it reaches stdout.
    """
    key = f"demo-{secrets.token_hex(8)}"
    arguments = [command("suanli"), "run", "-f", str(job), "--yes", "--idempotency-key", key]
    arguments += ["-o", str(output)] if output is not None else []
    environment = os.environ | {
        "SUANLI_MARKET": running.market,
        "SUANLI_CHAIN": running.chain,
        "SUANLI_ESCROW": running.escrow,
        "SUANLI_KEYSTORE": str(home.keystore("consumer")),
        "SUANLI_PASSWORD_FILE": str(home.password_file("consumer")),
    }
    sys.stdout.flush()
    out = sys.stderr if quiet else None
    status = subprocess.run(arguments, env=environment, stdout=out, check=False).returncode
    store = Store(data_home())
    return Ran(status, store.by_key(key, escrow=running.escrow, consumer=running.addresses["consumer"]))


def last_screen(record: Record, report: AuditReport) -> Iterator[str]:
    """What ran where, what it cost, where the results are, the audit's verdict, what to try next."""
    lease, where = report.leases[0].to_json(), record.attributes or {}
    machine = " ".join(
        filter(None, (str(where.get("name", "")), f"({where['region']})" if where.get("region") else ""))
    )
    yield style("─" * 78, dim=True)
    yield _row("Ran", f"{record.name or record.short} on {machine or record.provider}, lease {lease['number']}")
    yield _row("", f"provider {record.provider}")
    usage = (record.evidence or {}).get("usage", {})
    if usage:
        seconds, billed = usage["wallMs"] / 1000, (record.evidence or {})["billedSeconds"]
        yield _row("", f"{seconds:.1f} s, billed {billed} s · peak memory {usage['peakMemoryMib']} MiB")
    yield from _costs(record, lease)
    yield from _results(record)
    mark = style("✓", "green") if report.ok else style("✗", "red")
    verdict = f"all {len(report.checks)} checks match" if report.ok else f"{len(report.findings)} findings"
    yield _row("Audit", f"{mark} lease {lease['number']}: {verdict}, from the chain and the signed papers alone")
    yield ""
    yield from _next(lease["number"])


def _row(label: str, text: str) -> str:
    return style(label.ljust(LABEL), bold=True) + text


def _costs(record: Record, lease: dict[str, str]) -> Iterator[str]:
    paid, fee = int(lease["toProvider"]), int(lease["toMarket"])
    most = int(lease["price"])

    def money(amount: int) -> str:
        return format_money(amount, record.decimals, places=record.decimals).rjust(14)

    yield _row("Price", f"{money(paid)} {record.symbol}   to the provider, of at most {money(most).strip()}")
    yield _row("Market fee", f"{money(fee)} {record.symbol}")
    yield _row("Gas", f"{'0'.rjust(14)}        for you; the market paid {record.gas:,} gas to open and settle")


def _results(record: Record) -> Iterator[str]:
    folder = Path(record.output_dir) if record.output_dir else None
    if folder is None or not folder.is_dir():
        yield _row("Results", "none came back")
        return
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    pictures = [path for path in files if path.suffix.lower() in PICTURES]
    for number, path in enumerate(pictures):
        yield _row("" if number else "Picture", str(path.resolve()))
    others = [str(path.relative_to(folder)) for path in files if path not in pictures]
    yield _row("Beside it" if pictures else "Results", f"{', '.join(others) or 'nothing else'} in {folder.resolve()}")


def _next(number: int | str) -> Iterator[str]:
    activate = Path(sys.executable).parent / "activate"
    here = shutil.which("suanli")
    if activate.is_file() and (here is None or Path(here).resolve() != Path(command("suanli")).resolve()):
        yield f"The commands are in your PATH after   {style(f'. {_short(activate)}', bold=True)}"
        yield "Then try"
    else:
        yield "Next, try"
    yield f"  {style(_QUICK.ljust(44), bold=True)} another job, another lease"
    yield f"  {style(f'suanli audit lease {number}'.ljust(44), bold=True)} recompute this bill, check by check"
    yield f"  {style('suanli demo status'.ljust(44), bold=True)} who is who, who has what; `down` removes it all"


_QUICK = "suanli run -- python -c 'print(6*7)'"


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
