"""`suanli run`: plan → price → lease → log → result → receipt."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from suanli.commands.connection import connection_options, open_client
from suanli.terminal.console import Console, jsonl_option, output_options
from suanli.terminal.failure import DetachedError
from suanli.terminal.plain import one_line
from suanli_protocol.errors import SuanliError, UsageError

if TYPE_CHECKING:
    from suanli.client import Client
    from suanli.handle import JobHandle
    from suanli.jobs.job import Job
    from suanli.plan import Plan

OUTPUT_ROOT = "suanli-out"


def job_options(command: Any) -> Any:
    """The options that describe a job; shared by run and quote."""
    options = (
        click.option("-f", "--file", type=click.Path(path_type=Path), help="A job file (YAML)."),
        click.option("--workdir", type=click.Path(path_type=Path), help="A folder that travels with the command."),
        click.option("--cpus", help="Cores at least, such as 2 or 0.5."),
        click.option("--memory", help="Memory at least, such as 4GB."),
        click.option("--disk", help="Disk at least, such as 10GB."),
        click.option("--timeout", help="The longest that it may run, such as 30m; bounds the price."),
        click.option("--max-price", help="The most an hour may cost."),
        click.option("--budget", help="The most it may cost in total, fee included."),
        click.option(
            "--window",
            metavar="DURATION",
            help="How long a claim can be disputed, such as 30m.  [default: 1h; on a devnet 10s]",
        ),
        click.option("--arbiter", metavar="ADDRESS", help="Who decides disputes; the offer must name the same."),
        click.option("--guard", metavar="ADDRESS", help="Who may stop and dispute in your absence."),
        click.option("--name", help="A name to find it by."),
        click.option("--env", multiple=True, metavar="K=V", help="A variable for the job; may be repeated."),
        click.argument("command", nargs=-1, type=click.UNPROCESSED),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(context_settings={"ignore_unknown_options": False})
@job_options
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Where the outputs go.")
@click.option("-y", "--yes", is_flag=True, help="Agree to the plan beforehand.")
@click.option("--dry-run", is_flag=True, help="Show the plan and sign nothing.")
@click.option("-d", "--detach", is_flag=True, help="Leave as soon as the provider has all that it needs.")
@jsonl_option("Print each step and log line as a JSON line.")
@click.option("--idempotency-key", default="", metavar="KEY", help="The same key again goes on with the same job.")
@connection_options
@output_options
@click.pass_context
def run(ctx: click.Context, /, **options: Any) -> None:
    """Run a command (after --) or a job file on somebody's machine, for a known price.

    \b
    suanli run -- python -c 'print(6*7)'
    suanli run -f job.yaml --dry-run
    suanli run --cpus 4 --memory 8GB --workdir . -- python train.py

    Exits with 0, or: 4 no offer fits, 5 price or funds, 100 the job failed, 103 cancelled, 104 the provider failed.
    """
    console: Console = ctx.obj
    with open_client(console) as client:
        handle = known(client, options["idempotency_key"])
        if handle is None:
            job = job_of(options)
            handle = _submit(client, console, job, options)
        if handle is None:
            return
        ctx.exit(follow(console, handle, options))


def job_of(options: dict[str, Any]) -> Job:
    """The job that file and options describe; an option wins over the file."""
    from suanli.jobs import jobfile
    from suanli.jobs.job import Job, Resources
    from suanli_protocol import units

    file, command = options["file"], tuple(options["command"])
    if file is None and not command:
        raise UsageError("there is nothing to run", hint="give a command after --, or a job file with -f")
    job = Job.from_yaml(file) if file is not None else Job()
    changes: dict[str, Any] = {"argv": command, "shell": ""} if command else {}
    if options["workdir"] is not None:
        changes["workdir"] = options["workdir"]
    if options["name"] is not None:
        changes["name"] = options["name"]
    for name in ("max_price", "budget"):
        if options[name] is not None:
            changes[name] = jobfile.money(options[name], f"--{name.replace('_', '-')}")
    if options["window"] is not None:
        changes["window"] = jobfile.seconds(options["window"], "--window")
    for name in ("arbiter", "guard"):
        if options[name] is not None:
            changes[name] = jobfile.address(options[name], f"--{name}")
    if options["timeout"] is not None:
        seconds = jobfile.seconds(options["timeout"], "--timeout")
        changes["timeouts"] = replace(job.timeouts, execution=seconds)
    changes["env"] = {**job.env, **_env(options["env"])}
    least = job.resources
    changes["resources"] = Resources(
        units.parse_cores(options["cpus"], name="--cpus") if options["cpus"] is not None else least.cpu_milli,
        units.parse_mib(options["memory"], name="--memory") if options["memory"] is not None else least.memory_mib,
        units.parse_mib(options["disk"], name="--disk") if options["disk"] is not None else least.disk_mib,
        least.gpus,
    )
    return replace(job, **changes)


def _env(given: tuple[str, ...]) -> dict[str, str]:
    from suanli.jobs.jobfile import check_env

    found = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"--env {item}: there is no =", hint="write --env NAME=VALUE")
        check_env(name, value)
        found[name] = value
    return found


def known(client: Client, key: str) -> JobHandle | None:
    """The job that was submitted under this key before."""
    from suanli.handle import JobHandle

    escrow = client.config.get("escrow")
    if not key or not escrow:
        return None
    record = client.store.by_key(key, escrow=escrow, consumer=client.address)
    return JobHandle(client, record) if record is not None else None


def _submit(client: Client, console: Console, job: Job, options: dict[str, Any]) -> JobHandle | None:
    """Plan, consent, signature; None after a dry run."""
    if not options["dry_run"]:
        for name in ("market", "chain", "escrow", "keystore"):
            client.config.require(name)
        client.prepare_key()
    return agree(client, console, client.quote(job), options)


def agree(client: Client, console: Console, plan: Plan, options: dict[str, Any]) -> JobHandle | None:
    """Shows the plan, asks for consent, signs; None after a dry run."""
    _show(console, plan, options)
    _name_strangers_settings(client, console, plan.job, options)
    plan.chosen  # noqa: B018  # NoMatchError with the reasons
    if options["dry_run"]:
        _warn_funds(console, plan)
        console.next(again(sys.argv[1:]))
        return None
    plan.check_funds()
    if not options["yes"] and not console.confirm("Proceed?"):
        console.note("Nothing was signed.")
        raise click.exceptions.Exit(0)
    return client.submit(plan, idempotency_key=options["idempotency_key"])


def _show(console: Console, plan: Plan, options: dict[str, Any]) -> None:
    if options["dry_run"] and console.json:
        console.dump(plan.to_json())
    elif not console.quiet and not options["jsonl"] and plan.choices:
        from suanli.terminal import render

        render.show(render.plan(plan), err=not options["dry_run"])


def _name_strangers_settings(client: Client, console: Console, job: Job, options: dict[str, Any]) -> None:
    """A folder that came from elsewhere may bring settings: each is said before anything is signed, also under -q."""
    from suanli_protocol.units import format_duration

    own = {name: text for name in ("arbiter", "guard") if (text := getattr(job, name)) is not None}
    own |= {"window": format_duration(job.window)} if job.window is not None else {}
    local = [setting for setting in client.config.local if setting.name not in own]
    if local:
        _name_settings(console, f"this folder's own {local[0].origin}", {item.name: item.value for item in local})
    written = {name: value for name, value in own.items() if options[name] is None}
    if written:
        _name_settings(console, "the job file", written)


def _name_settings(console: Console, who: str, settings: dict[str, str]) -> None:
    named = "\n".join(f"         {name:13} {one_line(value)}" for name, value in settings.items())
    console.warn(f"{who} sets:\n{named}")


def _warn_funds(console: Console, plan: Plan) -> None:
    from suanli_protocol.errors import FundsError

    if plan.free is None:
        return
    try:
        plan.check_funds()
    except FundsError as error:
        console.warn(f"{error.detail}: {error.hint}")


def again(arguments: list[str]) -> str:
    """The command line that runs what `quote` or `run --dry-run` has shown."""
    from shlex import join

    end = arguments.index("--") if "--" in arguments else len(arguments)
    words = [word for word in arguments[:end] if word not in ("--dry-run", "--json")]
    if "quote" in words:
        words[words.index("quote")] = "run"
    return join(["suanli", *words, *arguments[end:]])


def follow(console: Console, handle: JobHandle, options: dict[str, Any]) -> int:
    """Goes with the job to its end (or until it is handed over) and returns the exit status that it earns."""
    from suanli.session.session import is_sent, is_settled
    from suanli.terminal.screen import Screen

    detach = options["detach"]
    screen = Screen(console, jsonl=options["jsonl"])
    output = options["output"] or default_output(handle)
    try:
        handle.drive(is_sent if detach else is_settled, watcher=screen, output_dir=output)
    except KeyboardInterrupt:
        raise detached(handle) from None
    except SuanliError:
        console.next(f"suanli show {handle.record.short}")
        raise
    if detach:
        return _left(console, handle)
    finish(console, handle, jsonl=options["jsonl"])
    return handle.status


def default_output(handle: JobHandle) -> Path:
    """Where outputs go unless told otherwise: a folder of the job's own, which no later bundle takes along."""
    return Path(OUTPUT_ROOT) / handle.record.id[2:10]


def _left(console: Console, handle: JobHandle) -> int:
    record = handle.record
    if console.json:
        console.dump(summary(handle))
    else:
        console.data(record.id)
    if record.is_over:
        return handle.status
    console.next(f"suanli logs -f {record.short}", f"suanli wait {record.short}", f"suanli get {record.short}")
    return 0


def finish(console: Console, handle: JobHandle, *, jsonl: bool = False) -> None:
    """The receipt, and what to do next."""
    record = handle.record
    if console.json:
        console.dump(summary(handle))
    elif record.evidence and not jsonl and not console.quiet:
        from suanli.terminal import render

        render.show(render.receipt(record), err=True)
    _explain(console, handle)
    if record.lease:
        fetch = [f"suanli get {record.short}"] if record.output_files and not record.output_dir else []
        console.next(*fetch, f"suanli audit lease {record.lease_name}", f"suanli show {record.short}")


def _explain(console: Console, handle: JobHandle) -> None:
    from suanli.session.outcome import words

    record = handle.record
    if handle.status and not console.json:
        code = f", exit code {record.exit_code}" if record.exit_code is not None else ""
        console.note(f"The job did not succeed: {words(record.reason)} ({record.reason}{code}).")
        if record.detail:
            console.note(record.detail)


def summary(handle: JobHandle) -> dict[str, Any]:
    """A job for programs: times in seconds of Unix UTC, amounts as decimal text of base units."""
    from suanli.runway import runway_of

    record = handle.record
    runway = runway_of(record, int(time.time()))
    return {
        "job": record.id,
        "name": record.name,
        "phase": record.phase,
        "reason": record.reason,
        "detail": record.detail,
        "exitCode": record.exit_code,
        "status": handle.status,
        "createdAt": record.created_at,
        "lease": record.lease or None,
        "number": record.number or None,
        "provider": record.provider or None,
        "attributes": record.attributes,
        "market": record.market,
        "escrow": record.escrow,
        "chainId": record.chain_id,
        "currency": {"symbol": record.symbol, "decimals": record.decimals},
        "budget": str(record.bid["budget"]),
        "paid": record.paid or None,
        "fee": record.fee or None,
        "gas": record.gas or None,
        "settlement": record.transaction or None,
        "receipt": record.receipt,
        "evidence": record.evidence,
        "outputs": record.output_files,
        "outputDir": record.output_dir or None,
        "unchecked": record.unchecked,
        "runway": runway.to_json() if runway is not None else None,
    }


def detached(handle: JobHandle) -> DetachedError:
    """What a person is told who pressed Ctrl-C: the job goes on, and how to come back."""
    from suanli.session.session import is_sent

    record = handle.record
    if record.phase == "new":
        return DetachedError(
            "nobody has answered the bid yet",
            hint=f"suanli wait {record.short}     to go on\nsuanli cancel {record.short}   to drop it",
        )
    goes_on = "the job goes on without you"
    if not is_sent(record):
        goes_on = "the provider has not got the job's files yet: come back before timeouts.startup is over"
    return DetachedError(
        f"{goes_on}",
        hint=f"suanli wait {record.short}      to come back\n"
        f"suanli logs -f {record.short}   to watch it\n"
        f"suanli cancel {record.short}    to stop it",
    )
