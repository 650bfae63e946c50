"""`suanli ps`, `show`, `logs`, `wait`, `get`, `cancel`: jobs that were submitted, here or on another machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from suanli.commands.connection import connection_options, open_client
from suanli.terminal.console import Console, output_options
from suanli.terminal.failure import NOT_FINISHED
from suanli_protocol.errors import SuanliError, UsageError
from suanli_protocol.reasons import Phase

if TYPE_CHECKING:
    from suanli.client import Client
    from suanli.handle import JobHandle
    from suanli.jobs.record import Record


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Also those that are over, and those of other machines.")
@connection_options
@output_options
@click.pass_obj
def ps(console: Console, everything: bool) -> None:
    """Your jobs: those that go on, and the last few that are over; all with -a."""
    from suanli.commands.run import summary

    with open_client(console) as client:
        handles = client.jobs()
        _refresh(console, client, handles)
        records = [handle.record for handle in handles]
        if everything:
            records += _elsewhere(console, client)
        else:
            going = [record for record in records if not record.is_over]
            records = going + [record for record in records if record.is_over][: max(0, 10 - len(going))]
        if console.json:
            from suanli.handle import JobHandle

            console.dump([summary(JobHandle(client, record)) for record in records])
            return
        if not records:
            console.note("No jobs yet.")
            console.next("suanli run -- python -c 'print(6*7)'", *([] if everything else ["suanli ps -a"]))
            return
        from suanli.terminal import render

        render.show(render.jobs(records))
        unsigned = [record.short for record in records if record.phase in (Phase.SUCCEEDED, Phase.FAILED)]
        if unsigned:
            console.note("\nWhat has ended is paid, and the rest comes back, once you have waited for it.")
            console.next(*(f"suanli wait {short}" for short in unsigned[:3]))


def _refresh(console: Console, client: Client, handles: list[JobHandle]) -> None:
    """Looks at each job that goes on, if that needs no one to type a password."""
    going = [handle for handle in handles if not handle.record.is_over]
    if not going or not client.config.get("password_file"):
        return
    for handle in going:
        try:
            handle.refresh()
        except SuanliError as error:
            console.warn(f"{handle.record.short}: {error.detail}")


def _elsewhere(console: Console, client: Client) -> list[Record]:
    if not client.config.get("market") or not client.config.get("password_file"):
        return []
    try:
        return client.adopt_leases(as_reported=True)
    except SuanliError as error:
        console.warn(f"the market's leases are not listed: {error.detail}")
        return []


@click.command()
@click.argument("job")
@connection_options
@output_options
@click.pass_obj
def show(console: Console, job: str) -> None:
    """Everything about one job. JOB is its name, its lease's number, or the beginning of its id."""
    from suanli.commands.run import summary

    with open_client(console) as client:
        handle = client.job(job)
        _refresh(console, client, [handle])
        if console.json:
            console.dump(summary(handle) | {"bid": handle.record.bid, "document": handle.record.job})
            return
        from suanli.terminal import render

        render.show(render.job(handle.record))


@click.command()
@click.argument("job")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--tail", type=click.IntRange(0), metavar="N", help="Only the last N lines (of what there is now).")
@click.option("--source", type=click.Choice(["stdout", "stderr", "setup", "system"]), help="Only this source.")
@click.option("--jsonl", is_flag=True, help="Print each piece as a JSON line.")
@connection_options
@output_options
@click.pass_obj
def logs(console: Console, job: str, follow: bool, tail: int | None, source: str | None, jsonl: bool) -> None:
    """What a job printed."""
    from suanli.terminal.logs import LogView

    with open_client(console) as client:
        handle = client.job(job)
        if not handle.record.lease and not follow:
            _look_once(handle)
        if not handle.record.lease and not follow:
            console.note(f"{handle.record.short} is {handle.record.phase}: it has printed nothing yet.")
            return
        view = LogView(source=source, tail=tail, jsonl=jsonl or console.json, is_terminal=sys.stdout.isatty())
        try:
            for line in handle.logs(follow=follow):
                view.add(line)
        except KeyboardInterrupt:
            from suanli.commands.run import detached

            raise detached(handle) from None
        finally:
            view.close()


def _look_once(handle: JobHandle) -> None:
    if not handle.record.is_over:
        handle.refresh()


@click.command()
@click.argument("job")
@click.option("--timeout", metavar="TIME", help="Give up after this long, such as 10m (exit 8).")
@click.option("--jsonl", is_flag=True, help="Print each step and log line as a JSON line.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Where the outputs go.")
@connection_options
@output_options
@click.pass_context
def wait(ctx: click.Context, job: str, timeout: str | None, jsonl: bool, output: Path | None) -> None:
    """Wait until a job is settled, doing the consumer's part; exits as the job did."""
    from suanli.commands.run import default_output, detached, finish
    from suanli.terminal.screen import Screen

    console: Console = ctx.obj
    with open_client(console) as client:
        handle = client.job(job)
        try:
            handle.drive(
                timeout=timeout,
                watcher=Screen(console, jsonl=jsonl),
                output_dir=output or default_output(handle),
            )
        except KeyboardInterrupt:
            raise detached(handle) from None
        finish(console, handle, jsonl=jsonl)
        ctx.exit(handle.status)


@click.command()
@click.argument("job")
@click.argument("only", required=False, default="")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Where the outputs go.")
@connection_options
@output_options
@click.pass_context
def get(ctx: click.Context, job: str, only: str, output: Path | None) -> None:
    """Bring a job's outputs here, each checked by its digest; ONLY limits it to one file or folder."""
    from suanli.commands.run import default_output
    from suanli.terminal.screen import Screen

    console: Console = ctx.obj
    with open_client(console) as client:
        handle = client.job(job)
        into = output or default_output(handle)
        if handle.record.evidence is None and not handle.record.is_over:
            handle.refresh(watcher=Screen(console, phases=bool(console.verbose), log=False))
        if handle.record.evidence is None:
            _nothing(ctx, console, handle)
        files = handle.outputs.download(only, to=into)
        if console.json:
            console.dump({"job": handle.id, "dir": str(into.resolve()), "files": [file.to_json() for file in files]})
            return
        for file in files:
            console.data(str(into / file.path))
        if not files:
            console.note("The job left no files.")


def _nothing(ctx: click.Context, console: Console, handle: JobHandle) -> None:
    record = handle.record
    if record.is_over:
        raise UsageError(f"{record.short} ended without outputs ({record.reason})", code="no_outputs")
    console.note(f"{record.short} is {record.phase}: there are no outputs yet.")
    console.next(f"suanli wait {record.short}")
    ctx.exit(NOT_FINISHED)


@click.command()
@click.argument("job")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@connection_options
@output_options
@click.pass_obj
def cancel(console: Console, job: str, yes: bool) -> None:
    """Stop a job: a queued bid is taken back, a lease is stopped on the chain. What it used is paid."""
    from suanli.commands.run import summary
    from suanli.terminal.screen import Screen

    with open_client(console) as client:
        handle = client.job(job)
        if (
            not yes
            and not handle.record.is_over
            and not console.confirm(f"Stop {handle.record.short} ({handle.record.phase})?")
        ):
            return
        handle.cancel(watcher=Screen(console))
        if console.json:
            console.dump(summary(handle))
        elif not handle.record.is_over:
            console.next(f"suanli wait {handle.record.short}")
