"""The command `suanli`: a table of commands, each loaded only when it is called."""

from __future__ import annotations

import sys
from importlib import import_module, metadata
from typing import TYPE_CHECKING

import click

from suanli.terminal.console import Console, output_options
from suanli.terminal.failure import exit_status

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Run": {
        "run": ("suanli.commands.run:run", "Run a command or a job file on somebody's machine, for a known price."),
        "quote": ("suanli.commands.offers:quote", "What a job would cost, and where it could run."),
        "offers": ("suanli.commands.offers:offers", "The open offers, or why they do not fit a job."),
    },
    "Watch": {
        "ps": ("suanli.commands.ps:ps", "Your jobs, and how far their money reaches."),
        "show": ("suanli.commands.jobs:show", "Everything about one job."),
        "logs": ("suanli.commands.jobs:logs", "What a job printed."),
        "events": ("suanli.commands.events:events", "What happened to your bids and leases."),
        "wait": ("suanli.commands.jobs:wait", "Wait for a job; exits as the job did."),
        "get": ("suanli.commands.jobs:get", "Bring a job's results here, checked."),
        "cancel": ("suanli.commands.jobs:cancel", "Stop a job; what it used is paid, the rest comes back."),
        "forget": ("suanli.commands.forget:forget", "Remove what is kept here of jobs that are over."),
    },
    "Money": {
        "wallet": ("suanli.commands.wallet:wallet", "Your key and your money on the escrow."),
        "cost": ("suanli.commands.cost:cost", "What your jobs have cost."),
    },
    "Without a market": {
        "take": ("suanli.commands.take:take", "Lease from one node directly."),
        "stop": ("suanli.commands.ways_out:stop", "End the billable time of a lease, on the chain."),
        "settle": ("suanli.commands.ways_out:settle", "Submit a receipt that both sides signed."),
        "dispute": ("suanli.commands.ways_out:dispute", "Challenge what a provider claimed."),
        "resolve": ("suanli.commands.ways_out:resolve", "Decide a dispute, as its arbiter."),
        "finalize": ("suanli.commands.ways_out:finalize", "End a claim or dispute whose window is over."),
        "reclaim": ("suanli.commands.ways_out:reclaim", "Take the deposit back from a provider that vanished."),
    },
    "Proof": {"audit": ("suanli.commands.audit:audit", "Recompute leases from the chain and the signed papers.")},
    "Health": {
        "doctor": ("suanli.commands.doctor:doctor", "Check the whole way, with the fix for what is broken."),
        "config": ("suanli.commands.config:config", "The settings in force and where they come from."),
        "completion": ("suanli.commands.completion:completion", "Completion for bash, zsh or fish."),
        "demo": ("suanli.commands.demo:demo", "A whole market on this machine: up, status, down."),
    },
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and one-line help, and imports one when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """All names, in the order of the table."""
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name, imported now."""
        for section in COMMANDS.values():
            if cmd_name in section:
                module, _, attribute = section[cmd_name][0].partition(":")
                command: click.Command = getattr(import_module(module), attribute)
                return command
        return None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names and one-line helps from the table: no command is imported for them."""
        from click.shell_completion import CompletionItem

        known = [item for section in COMMANDS.values() for item in section.items() if item[0].startswith(incomplete)]
        found = [CompletionItem(name, help=summary) for name, (_, summary) in known]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with "did you mean" for a mistyped name."""
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            from suanli.terminal.spelling import nearest

            hint = nearest(args[0], self.list_commands(ctx))
            ctx.fail(f"no such command {args[0]!r}." + (f" Did you mean {hint!r}?" if hint else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The table, by section."""
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(10), summary) for name, (_, summary) in section.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="suanli", prog_name="suanli", message="%(prog)s %(version)s")
@output_options
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Computing power from an open market: one command, and the job runs somewhere, for a known price.

    \b
    suanli run -- python -c 'print(6*7)'     plan, price, lease, logs, result, receipt
    suanli audit lease 1                     recompute the bill from the chain
    """
    ctx.ensure_object(Console)


def main() -> None:
    """The entry point of the console script; exits with the status of ux: see `suanli.terminal.failure`."""
    sys.exit(exit_status(cli, sys.argv[1:]))


def version() -> str:
    """The installed version of Suanli."""
    return metadata.version("suanli")


if __name__ == "__main__":
    main()
