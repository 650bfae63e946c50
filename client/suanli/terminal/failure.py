"""The one place where an error becomes words on stderr and an exit status.

Statuses: 0 ok, 1 bug, 2 usage, 3 key, 4 no matching offer, 5 money, 6 chain, 7 market or provider unreachable, 8 timed
out, 9 this machine (disk, memory, files), 100 job failed, 101 not finished, 102 not found, 103 cancelled, 104
provider's fault, 105 settlement disputed, 130 interrupted. The errors of `suanli_protocol.errors` carry theirs;
commands end with the job's own by `ctx.exit`.
"""

from __future__ import annotations

import errno
import sys
import textwrap
import traceback

import click

from suanli.terminal.console import Console, let_go, shown, style
from suanli.terminal.plain import as_json, plain
from suanli_protocol.errors import SuanliError, UsageError

JOB_FAILED = 100
NOT_FINISHED = 101
CANCELLED = 103
PROVIDER_FAULT = 104
DISPUTED = 105
INTERRUPTED = 130
_EXHAUSTED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE})


class DetachedError(SuanliError):
    """The person pressed Ctrl-C: the command detaches, the job goes on."""

    code, title, exit_status, retryable = "interrupted", "Detached", INTERRUPTED, True


class MachineError(SuanliError):
    """This machine has run out of something, or breaks: the same command may do once that is mended."""

    code, title, exit_status, retryable = "machine", "This machine cannot go on", 9, True


def exit_status(command: click.Command, arguments: list[str]) -> int:
    """Runs a command, tells its error if it has one, and returns the status to exit with."""
    console = Console()
    try:
        status = command.main(arguments, prog_name="suanli", standalone_mode=False, obj=console)
        return status if isinstance(status, int) else 0
    except SuanliError as error:
        tell(error, console)
        return error.exit_status
    except click.ClickException as error:
        _tell_usage(error, console, arguments)
        return 2
    except (KeyboardInterrupt, click.Abort):
        tell(DetachedError("interrupted", hint="nothing was stopped; `suanli ps` lists your jobs"), console)
        return INTERRUPTED
    except BrokenPipeError:
        let_go(sys.stdout)  # the reader left: not an error of ours
        return 0
    except OSError as error:
        _flush()
        found = _of_system(error)
        tell(found, console)
        return found.exit_status
    except Exception as error:
        _tell_bug(error, console)
        return 1


def _flush() -> None:
    """What stdout cannot get rid of, as on a full disk, is given up: the error has been caught, and is told."""
    try:
        sys.stdout.flush()
    except OSError:
        let_go(sys.stdout)


def tell(error: SuanliError, console: Console) -> None:
    """The error on stderr: what, why, and what to change; a problem object under --json."""
    if console.json or console.jsonl:
        click.echo(as_json(error.as_problem()), err=True)
        return
    detail, hint = plain(error.detail), plain(error.hint)
    calm = isinstance(error, DetachedError)
    if calm and sys.stderr.isatty():
        click.echo(err=True)  # the terminal's own ^C stands on this line
    head = style("Detached" if calm else "Error", "yellow" if calm else "red", bold=True)
    click.echo(shown(f"{head}{_hang(detail, 5 if not calm else 8)}"), err=True)
    if not calm:
        click.echo(shown(style(f"       {error.title} ({error.code})", dim=True)), err=True)
    if hint:
        click.echo(shown(f"{style('Try', bold=True)}{_hang(hint, 3)}"), err=True)
    if console.verbose > 1:
        click.echo(plain(traceback.format_exc()), err=True)


def _hang(text: str, used: int) -> str:
    lines = text.splitlines() or [""]
    first = " " * max(1, 7 - used) + lines[0]
    return "\n".join([first, *(textwrap.indent(line, "       ") for line in lines[1:])])


def _of_system(error: OSError) -> SuanliError:
    what = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    hints = {
        errno.ENOSPC: "free some space on that disk",
        errno.EDQUOT: "free some space within your quota",
        errno.EMFILE: "allow more open files (ulimit -n)",
        errno.ENFILE: "too many files are open on this machine",
        errno.EIO: "the disk does not answer as it should: check it",
        errno.EACCES: "check the permissions of that path",
        errno.EROFS: "that disk is read-only: name another folder",
        errno.EISDIR: "name a file, not a folder",
        errno.ENOTDIR: "name a folder, not a file",
    }
    if error.errno in _EXHAUSTED:
        return MachineError(what, hint=hints.get(error.errno or 0, ""))
    found = UsageError(what, hint=hints.get(error.errno or 0, ""), code="system")
    found.title = "The operating system refused"
    return found


def _tell_usage(error: click.ClickException, console: Console, arguments: list[str]) -> None:
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and not (console.json or console.jsonl):
        click.echo(error.format_message(), err=True)
        return
    own = arguments[: arguments.index("--") if "--" in arguments else None]
    console.json = console.json or not {"--json", "--jsonl"}.isdisjoint(own)
    ctx = getattr(error, "ctx", None)
    hint = f"`{ctx.command_path} --help` says more" if ctx is not None else ""
    tell(UsageError(error.format_message(), hint=hint), console)


def _tell_bug(error: Exception, console: Console) -> None:
    bug = SuanliError(f"{type(error).__name__}: {error}", hint="run it again with -v and report what it prints")
    tell(bug, console)
    if console.verbose:
        click.echo(plain(traceback.format_exc()), err=True)
