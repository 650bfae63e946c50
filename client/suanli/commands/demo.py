"""`suanli demo`: a whole market on this machine. It starts installed commands; it imports no role."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from suanli.terminal.console import Console, output_options, shown, style
from suanli_protocol.errors import IntegrityError

if TYPE_CHECKING:
    from suanli.demo.down import Cleared
    from suanli.demo.status import Status
    from suanli.demo.up import Running

WIPE = "\r\x1b[2K"  # the line that the cursor is on
_WHEELS = click.option(
    "--wheels",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="Folder of wheels from which the providers prepare Python environments; no network is needed then.",
)


class Steps:
    """Shows each step: what is being done, then what came out and how long it took."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = sys.stderr.isatty() and not console.quiet

    def begin(self, step: str, meanwhile: str) -> None:
        """One line that is written over by the outcome; nothing where there is no terminal."""
        if self._live:
            click.echo(
                WIPE + shown(f"{style('·', dim=True)} {step.ljust(10)} {style(meanwhile, dim=True)} …"),
                err=True,
                nl=False,
            )

    def done(self, step: str, outcome: str, seconds: float | None = None) -> None:
        """The step's line for good; with the time that it took, if that was measured."""
        if self._live:
            click.echo(WIPE, err=True, nl=False)
        took = style(f"  {seconds:.1f} s", dim=True) if seconds is not None else ""
        self._console.note(f"{style('✓', 'green')} {step.ljust(10)} {outcome}{took}")

    def failed(self) -> None:
        """Ends a line that was left open."""
        if self._live:
            click.echo(err=True)


@click.group()
def demo() -> None:
    """A whole market on this machine: a local chain, an escrow, a market, two providers, money to play with."""


@demo.command(short_help="Start it, or repair what has died.")
@_WHEELS
@output_options
@click.pass_obj
def up(console: Console, wheels: str | None) -> None:
    """Start it, or repair what has died; running it twice is fine. Every other command then finds it by itself."""
    running = _up(console, wheels)
    if console.json:
        console.dump(running.__dict__)
    else:
        console.note("")
        console.next("suanli run -- python -c 'print(6*7)'", "suanli demo status", "suanli demo down")


def _up(console: Console, wheels: str | None) -> Running:
    from suanli.demo.home import DemoHome, package_index
    from suanli.demo.up import bring_up

    steps = Steps(console)
    try:
        return bring_up(DemoHome(), package_index(wheels), steps)
    except BaseException:
        steps.failed()
        raise


@demo.command(short_help="Where everything listens, who has what, what is for rent.")
@output_options
@click.pass_context
def status(ctx: click.Context) -> None:
    """Each process and its address, escrow, logs, keys, accounts, and what is for rent.

    The address of a node is for `suanli take`. Exits with 7 if something is down.
    """
    from suanli.demo.home import DemoHome
    from suanli.demo.status import read_status

    console: Console = ctx.obj
    home = DemoHome()
    if not home.exists:
        console.note("There is no demo.")
        console.next("suanli demo up")
        ctx.exit(7)
    found = read_status(home)
    if console.json:
        console.dump(found.to_json())
    else:
        _show(console, found)
    ctx.exit(0 if found.is_up else 7)


def _show(console: Console, found: Status) -> None:
    from suanli.files import shorten_home
    from suanli_protocol.capacity import Prices
    from suanli_protocol.units import format_cores, format_mib, format_money

    for process in found.processes:
        alive = process["alive"]
        mark = style("✓", "green") if alive else style("✗", "red")
        said = f"{process['url']:24} pid {process['pid']}" if alive else "down"
        console.data(f"{mark} {process['name']:10} {said}")
    console.data()
    console.data(f"escrow     {found.escrow}\ntoken      {found.token}  {found.symbol}".rstrip())
    console.data(f"logs       {shorten_home(Path(found.logs))}/NAME.log")
    console.data(f"keys       {shorten_home(Path(found.keys))}/NAME.json, each password beside it")
    console.data()
    for party in found.parties:
        free, coin = format_money(int(party["free"]), found.decimals), format_money(int(party["wei"]) // 10**14, 4)
        console.data(f"{party['name']:10} {party['address']}  {free:>8} {found.symbol} free, {coin} coin for gas")
    console.data()
    for offer in found.offers:
        prices, free_ = Prices.unpack(int(offer["prices"])), offer["free"]
        core = format_money(prices.core, found.decimals)
        memory = format_money(prices.memory_gib, found.decimals)
        cores = format_cores(int(free_["cpuMilli"]))
        have = f"{cores} {'core' if cores == '1' else 'cores'}, {format_mib(int(free_['memoryMib']))} free"
        console.data(f"for rent   {offer['name']} ({offer['region']}): {have}; {core} a core, {memory} a GiB per hour")
    for trouble in found.troubles:
        console.warn(trouble)
    if not found.is_up:
        console.next("suanli demo up", "suanli demo down")
        return
    console.note()
    node = found.processes[-1]["url"]
    console.next(
        "suanli run -- python -c 'print(6*7)'", *([f"suanli take {node} -- python -c 'print(6*7)'"] if node else [])
    )


@demo.command(short_help="Stop everything and remove its files.")
@click.option("--keep", is_flag=True, help="Keep ledger, keys and databases, so that `up` goes on with them.")
@output_options
@click.pass_obj
def down(console: Console, keep: bool) -> None:
    """Stop everything that it started and remove its files; results in your own folders stay and are named."""
    from suanli.demo.down import take_down
    from suanli.demo.home import DemoHome

    home = DemoHome()
    if not home.root.is_dir():
        console.note("There is no demo; nothing to stop, nothing to remove.")
        return
    steps = Steps(console)
    cleared = take_down(home, keep=keep, progress=steps.done)
    if console.json:
        console.dump(_cleared_json(cleared))
    else:
        _show_cleared(console, cleared)


def _cleared_json(cleared: Cleared) -> dict[str, Any]:
    return {
        "stopped": cleared.stopped,
        "removed": [str(path) for path in cleared.removed],
        "kept": [str(path) for path in cleared.kept],
        "jobs": cleared.jobs,
    }


def _show_cleared(console: Console, cleared: Cleared) -> None:
    for path in cleared.removed:
        console.note(f"removed    {path}")
    if cleared.jobs:
        console.note(f"forgotten  {cleared.jobs} jobs of this demo")
    for path in cleared.kept:
        console.note(f"kept       {path}")
    console.note("No process of the demo is left.")


@demo.command(short_help="Run a job through it and audit the lease.")
@click.argument("job", required=False, type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="DIR", type=click.Path(path_type=Path), help="Where the results go.")
@_WHEELS
@output_options
@click.pass_context
def run(ctx: click.Context, job: Path | None, output: Path | None, wheels: str | None) -> None:
    """Start it if need be, run a job (default: the digits example) through the market, audit its lease."""
    from suanli.audit import audit_lease
    from suanli.demo.home import DemoHome
    from suanli.demo.run import find_job, last_screen, run_job

    console: Console = ctx.obj
    home, chosen = DemoHome(), find_job(job)
    running = _up(console, wheels)
    console.note("")
    ran = run_job(home, running, chosen, output, quiet=console.json)
    if ran.status or ran.record is None or not ran.record.number:
        ctx.exit(ran.status or 1)
    report = audit_lease(running.chain, running.escrow, str(ran.record.number), home.root.parent / "jobs")
    if console.json:
        console.dump({"job": ran.record.id, "outputDir": ran.record.output_dir, "audit": report.to_json()})
    else:
        console.note("")
        for line in last_screen(ran.record, report):
            console.data(line)
    if not report.ok:
        raise IntegrityError(
            f"lease {ran.record.number} does not match in {len(report.findings)} of {len(report.checks)} checks",
            hint=f"suanli audit lease {ran.record.number} shows them",
            code="audit",
        )
