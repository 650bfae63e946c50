"""`suanli show`, `logs`, `wait`, `get`, `cancel`: jobs that were submitted, here or on another machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from suanli.commands.connection import connection_options, open_client
from suanli.commands.ps import refresh
from suanli.terminal import completing
from suanli.terminal.console import Console, jsonl_option, output_options
from suanli.terminal.failure import NOT_FINISHED
from suanli_protocol.errors import UsageError

if TYPE_CHECKING:
    from suanli.handle import JobHandle

PHASES = ("queued", "leased", "starting", "running", "succeeded", "settled")
_JOB = click.argument("job", shell_complete=completing.jobs)


@click.command()
@_JOB
@connection_options
@output_options
@click.pass_obj
def show(console: Console, job: str) -> None:
    """Everything about one job. JOB is its name, its lease's number, or the beginning of its id."""
    from suanli.commands.run import summary

    with open_client(console) as client:
        handle = client.job(job)
        refresh(console, client, [handle])
        if console.json:
            console.dump(summary(handle) | {"bid": handle.record.bid, "document": handle.record.job})
            return
        from suanli.terminal import render

        render.show(render.job(handle.record))


@click.command()
@_JOB
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--tail", type=click.IntRange(0), metavar="N", help="Only the last N lines (of what there is now).")
@click.option("--since", metavar="TIME", help="Only what was printed since: 10m ago, or 2026-01-31T18:00.")
@click.option("--source", type=click.Choice(["stdout", "stderr", "setup", "system"]), help="Only this source.")
@jsonl_option("Print each piece as a JSON line.")
@connection_options
@output_options
@click.pass_obj
def logs(
    console: Console, job: str, follow: bool, tail: int | None, since: str | None, source: str | None, jsonl: bool
) -> None:
    """What a job printed."""
    from suanli.terminal.logs import LogView, since_ms

    jsonl, first = jsonl or console.json, since_ms(since) if since is not None else 0
    with open_client(console) as client:
        handle = client.job(job)
        if not handle.record.lease and not follow:
            _look_once(handle)
        if not handle.record.lease and not follow:
            console.note(f"{handle.record.short} is {handle.record.phase}: it has printed nothing yet.")
            return
        view = LogView(source=source, tail=tail, since_ms=first, jsonl=jsonl, is_terminal=sys.stdout.isatty())
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
@_JOB
@click.option("--for", "phase", type=click.Choice(PHASES), default="settled", show_default=True, help="How far.")
@click.option("--timeout", metavar="TIME", help="Give up after this long, such as 10m (exit 8).")
@jsonl_option("Print each step and log line as a JSON line.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Where the outputs go.")
@connection_options
@output_options
@click.pass_context
def wait(ctx: click.Context, job: str, phase: str, timeout: str | None, jsonl: bool, output: Path | None) -> None:
    """Wait for a job, doing the consumer's part; exits with 0 once it is there, or as the job ended.

    Without --for: until it is settled. A later phase will do as well.
    """
    from suanli.commands.run import default_output, detached, finish, summary
    from suanli.session.goals import goal_of, has_succeeded
    from suanli.terminal.screen import Screen

    console: Console = ctx.obj
    with open_client(console) as client:
        handle = client.job(job)
        try:
            handle.drive(
                goal_of(phase),
                timeout=timeout,
                watcher=Screen(console, jsonl=jsonl),
                output_dir=output or default_output(handle),
            )
            if handle.record.is_over:
                handle.deliver(output, otherwise=default_output(handle))
        except KeyboardInterrupt:
            raise detached(handle) from None
        if handle.record.is_over:
            finish(console, handle, jsonl=jsonl)
        elif console.json:
            console.dump(summary(handle))
        ctx.exit(0 if has_succeeded(handle.record, phase) else handle.status)


@click.command()
@_JOB
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
@_JOB
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--on-chain", is_flag=True, help="Close a queued bid's seat on the escrow too.")
@connection_options
@output_options
@click.pass_obj
def cancel(console: Console, job: str, yes: bool, on_chain: bool) -> None:
    """Stop a job: a queued bid is taken back, a lease is stopped on the chain. What it used is paid.

    If the market cannot be reached, or with --on-chain, a queued bid's seat is closed on the escrow: no market can
    open it any more. That costs you the gas of one call.
    """
    from suanli.commands.run import summary
    from suanli.terminal.screen import Screen

    with open_client(console) as client:
        handle = client.job(job)
        if on_chain and handle.record.lease:
            raise UsageError(
                f"{handle.record.short} has a lease", hint="leave --on-chain out: it is stopped on the chain"
            )
        if (
            not yes
            and not handle.record.is_over
            and not console.confirm(f"Stop {handle.record.short} ({handle.record.phase})?")
        ):
            return
        handle.cancel(watcher=Screen(console), on_chain=on_chain)
        if console.json:
            console.dump(summary(handle))
        elif not handle.record.is_over:
            console.next(f"suanli wait {handle.record.short}")
