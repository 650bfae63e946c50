"""`suanli quote` and `suanli offers`: prices first, and the reasons why an offer would not do."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from suanli.commands.connection import connection_options, open_client
from suanli.commands.run import again, job_of, job_options
from suanli.terminal.console import Console, output_options

if TYPE_CHECKING:
    from suanli.filters import Facts, Test
    from suanli_protocol.market_client import MarketClient
    from suanli_protocol.wire import OfferView

SHOWN, READ_MAX = 100, 10_000


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
@click.option(
    "--limit", type=click.IntRange(1, READ_MAX), default=SHOWN, metavar="N", help=f"Show at most so many; {SHOWN}."
)
@connection_options
@output_options
@click.pass_obj
def offers(console: Console, terms: tuple[str, ...], why: Path | None, limit: int) -> None:
    """The open offers, cheapest first; FILTER such as 'cpus>=8 price<0.5' (a core's price an hour), region, name, arch,
    tier. At most 10,000 offers of the market are looked at; `suanli quote` has it look at all of them."""
    with open_client(console) as client:
        if why is not None:
            _why(console, client, why)
            return
        info = client.network.info
        from suanli import filters

        test = filters.parse(" ".join(terms), info.decimals)
        book = Listing(client.network.market, test, limit)
        if console.json:
            console.dump([view.to_json() for view, _ in book.cheapest])
        elif book.cheapest:
            from suanli.terminal import render

            rows = [(view, facts.free, facts.prices.values) for view, facts in book.cheapest]
            render.show(render.offers(rows, info.symbol, info.decimals))
        else:
            console.note("No open offer" + (" passes the filter." if terms else "."))
        for line in book.left_out():
            console.note(line)


class Listing:
    """The cheapest offers that pass a test, with no more of them held at once than are shown and a page has."""

    def __init__(self, market: MarketClient, test: Test, limit: int) -> None:
        self.looked_at = self.passed = self.total = 0
        found = (item for item in self._read(market) if test(item[1]))
        self.cheapest = heapq.nsmallest(limit, self._counted(found), key=lambda item: (item[1].prices.core, item[0].id))

    def left_out(self) -> list[str]:
        """What is not shown, in words."""
        lines = []
        if self.passed > len(self.cheapest):
            lines.append(f"… and {self.passed - len(self.cheapest):,} more; a filter or --limit shows others")
        if self.looked_at < self.total:
            lines.append(
                f"Of {self.total:,} open offers {self.looked_at:,} were looked at; `suanli quote` has all looked at."
            )
        return lines

    def _read(self, market: MarketClient) -> Iterator[tuple[OfferView, Facts]]:
        from suanli import filters

        after: int | None = 0
        while after is not None and self.looked_at < READ_MAX:
            page = market.offer_page(after=after)
            self.total = page.total
            for view in page.offers[: READ_MAX - self.looked_at]:
                self.looked_at += 1
                yield view, filters.facts_of(view)
            after = page.next

    def _counted(self, found: Iterable[tuple[OfferView, Facts]]) -> Iterator[tuple[OfferView, Facts]]:
        for item in found:
            self.passed += 1
            yield item


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
