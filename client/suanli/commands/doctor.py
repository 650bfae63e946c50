"""`suanli doctor`: the whole way checked, with the fix for what is broken."""

from __future__ import annotations

from pathlib import Path

import click

from suanli.commands.connection import connection_options, open_client
from suanli.terminal.console import Console, output_options, shown, style
from suanli.terminal.plain import plain
from suanli_protocol.finding_lines import MARK_CELLS, finding_lines, screen_cells

_MARKS = {"ok": ("ok", "green"), "warning": ("warn", "yellow"), "failed": ("FAIL", "red"), "skipped": ("skip", None)}


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path), metavar="FILE", help="Also write a file to send to others.")
@connection_options
@output_options
@click.pass_context
def doctor(ctx: click.Context, bundle: Path | None) -> None:
    """Check key, chain, escrow, market, clock, money and disk. Exits with 2 if something is broken.

    The bundle holds findings, versions, settings and how far your jobs are; no key, password, command, file or log.
    """
    from suanli.doctor import Finding, examine, to_json

    console: Console = ctx.obj
    findings: list[Finding] = []
    with open_client(console) as client:
        for finding in examine(client):
            findings.append(finding)
            if not console.json:
                _print(finding)
        if bundle is not None:
            from suanli import support_bundle

            support_bundle.write(bundle, client.config, findings, [handle.record for handle in client.jobs()])
            console.note(f"\nWritten to {bundle}: read it before you send it.")
    if console.json:
        console.dump(to_json(findings))
    ctx.exit(2 if any(finding.state == "failed" for finding in findings) else 0)


def _print(finding: object) -> None:
    from suanli.doctor import Finding

    assert isinstance(finding, Finding)  # noqa: S101
    word, colour = _MARKS[finding.state]
    lines = finding_lines(word, finding.name, plain(finding.text), plain(finding.fix), cells=screen_cells())
    for i, line in enumerate(lines):
        mark = style(line[:MARK_CELLS], colour) if not i else line[:MARK_CELLS]
        click.echo(shown(f"{mark}{line[MARK_CELLS:]}"))
