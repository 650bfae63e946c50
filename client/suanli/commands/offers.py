"""`suanli quote` and `suanli offers`: prices first, and the reasons why an offer would not do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from suanli.commands.connection import connection_options, open_client
from suanli.commands.run import again, job_of, job_options
from suanli.terminal.console import Console, output_options


@click.command()
@job_options
@connection_options
@output_options
@click.pass_obj
def quote(console: Console, /, **options: Any) -> None:
    """What a job would cost, and where it could run. Signs nothing; needs no key."""
    with open_client(console) as client:
        plan = client.quote(job_of(options))
        if console.json:
            console.dump(plan.to_json())
        elif plan.choices:
            from suanli.terminal import render

            render.show(render.plan(plan))
        plan.chosen  # noqa: B018  # NoMatchError with the reasons
        console.next(again(sys.argv[1:]))


@click.command()
@click.argument("terms", nargs=-1, metavar="[FILTER]")
@click.option("--why", type=click.Path(path_type=Path), metavar="JOB.YAML", help="Why offers do not fit this job.")
@connection_options
@output_options
@click.pass_obj
def offers(console: Console, terms: tuple[str, ...], why: Path | None) -> None:
    """The open offers; FILTER such as 'cpus>=8 price<0.5' (a core's price an hour), region, name, arch, tier."""
    with open_client(console) as client:
        if why is not None:
            _why(console, client, why)
            return
        info = client.network.info
        from suanli import filters

        test = filters.parse(" ".join(terms), info.decimals)
        views = [view for view in client.network.market.offers() if test(filters.facts_of(view))]
        if console.json:
            console.dump([view.to_json() for view in views])
            return
        from suanli.terminal import render

        found = [(view, filters.facts_of(view)) for view in views]
        found.sort(key=lambda item: (item[1].prices.core, item[0].id))
        rows = [(view, facts.free, facts.prices.values) for view, facts in found]
        if rows:
            render.show(render.offers(rows, info.symbol, info.decimals))
        else:
            console.note("No open offer" + (" passes the filter." if terms else "."))


def _why(console: Console, client: Any, path: Path) -> None:
    from suanli.jobs.job import Job

    plan = client.quote(Job.from_yaml(path))
    if console.json:
        console.dump(
            {
                "considered": plan.considered,
                "fit": len(plan.choices),
                "rejections": [item.to_json() for item in plan.rejections],
            }
        )
        return
    from suanli.terminal import render

    console.data(f"{len(plan.choices)} of {plan.considered} open offers fit.")
    if plan.rejections:
        render.show(render.rejections(plan.rejections, plan.considered))
