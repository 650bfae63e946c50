"""`suanli doctor`: the whole way checked, with the fix for what is broken."""

from __future__ import annotations

import click

from suanli.commands.connection import connection_options, open_client
from suanli.terminal.console import Console, output_options, style

_MARKS = {"ok": ("ok", "green"), "warning": ("warn", "yellow"), "failed": ("FAIL", "red"), "skipped": ("skip", None)}


@click.command()
@connection_options
@output_options
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Check key, chain, escrow, market, clock, money and disk. Exits with 2 if something is broken."""
    from suanli.doctor import Finding, examine, to_json

    console: Console = ctx.obj
    findings: list[Finding] = []
    with open_client(console) as client:
        for finding in examine(client):
            findings.append(finding)
            if not console.json:
                _print(finding)
    if console.json:
        console.dump(to_json(findings))
    ctx.exit(2 if any(finding.state == "failed" for finding in findings) else 0)


def _print(finding: object) -> None:
    from suanli.doctor import Finding

    assert isinstance(finding, Finding)  # noqa: S101
    word, colour = _MARKS[finding.state]
    click.echo(f"{style(f'{word:<5}', colour)} {finding.name:<10} {finding.text}")
    for line in finding.fix.splitlines():
        click.echo(f"      {'':<10} {line}")
