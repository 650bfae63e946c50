"""All that is drawn: plans, tables, receipts. Calm and aligned; rich is imported here and in listing.py alone."""

from __future__ import annotations

import io
import os
import re
import sys
import time
from collections.abc import Iterable, Sequence
from shlex import join
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console as Rich
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from suanli.jobs.record import Record
from suanli.runway import Runway, runway_of, together
from suanli.session.outcome import words
from suanli.terminal.listing import Listing
from suanli.terminal.plain import one_line, plain
from suanli_protocol.capacity import Lanes
from suanli_protocol.lease import fee_down
from suanli_protocol.units import (
    format_bytes,
    format_cores,
    format_duration,
    format_mib,
    format_money,
)

if TYPE_CHECKING:
    from suanli.costs import Cost
    from suanli.plan import Plan
    from suanli_protocol import wire

LABEL = "grey58"
_BLANKS = re.compile(r"\s+((?:\x1b\[[0-9;]*m)*)$")
_COLOURS = {"succeeded": "green", "settled": "green", "failed": "red", "cancelled": "yellow", "running": "cyan"}


def _rich(*, err: bool) -> Rich:
    stream = sys.stderr if err else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else 140
    return Rich(file=stream, highlight=False, markup=False, emoji=False, width=width)


def show(drawing: RenderableType, *, err: bool = False) -> None:
    """Draws on stdout, or on stderr, without blanks at the ends of lines."""
    rich = _rich(err=err)
    with rich.capture() as capture:
        rich.print(_harmless(rich, drawing), crop=False)
    for line in capture.get().splitlines():
        click.echo(_BLANKS.sub(r"\1", line), err=err, color=rich.is_terminal)


def text(drawing: RenderableType, *, width: int = 100) -> str:
    """The drawing as plain text."""
    out = io.StringIO()
    rich = Rich(file=out, width=width, highlight=False, markup=False, emoji=False, no_color=True)
    rich.print(_harmless(rich, drawing))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _harmless(rich: Rich, drawing: RenderableType) -> Segments:
    """What is drawn, with nothing in it that steers the terminal but the drawing's own colours."""
    return Segments(Segment(plain(part.text), part.style) for part in rich.render(drawing) if not part.control)


def safe(value: object) -> str:
    """A stranger's text in one line that cannot steer the terminal."""
    return one_line(str(value))


def shortened(words: str, size: int) -> str:
    """The words, cut where they are too long."""
    return words if len(words) <= size else words[: size - 1] + "…"


def pairs(rows: Iterable[tuple[str, str | Text] | tuple[str, str | Text, str]]) -> RenderableType:
    """Label, value, remark; aligned."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style=LABEL, no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(style=LABEL, overflow="fold")
    for label, value, *remark in rows:
        table.add_row(label, value, *(remark or [""]))
    return table


def money_rows(rows: Sequence[tuple[str, str, str]]) -> RenderableType:
    """Label, amount (aligned by its point), remark."""
    texts = aligned([text for _, text, _ in rows])
    rows = [(label, text, remark) for (label, _, remark), text in zip(rows, texts, strict=True)]
    table = Table.grid(padding=(0, 2))
    table.add_column(style=LABEL, no_wrap=True, min_width=10)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style=LABEL, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def aligned(amounts: Sequence[str]) -> list[str]:
    """Amounts of the first one's currency with equally many decimals, so that their points stand below each other."""
    parts = [text.partition(" ") for text in amounts]
    currency = parts[0][2] if parts else ""
    places = max((len(number.partition(".")[2]) for number, _, _ in parts), default=0)
    return [
        f"{_padded(number, places) if symbol == currency else number}{gap}{symbol}" for number, gap, symbol in parts
    ]


def _padded(number: str, places: int) -> str:
    whole, _, fraction = number.partition(".")
    return f"{whole}.{fraction.ljust(places, '0')}" if places else whole


def listing(
    columns: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    right: Sequence[str] = (),
    loose: Sequence[str] = (),
    below: bool = False,
) -> RenderableType:
    """A table with a quiet head and no lines, whole in any terminal: see `suanli.terminal.listing`."""
    cells = [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
    return Listing(columns, cells, right, loose, below, head=LABEL, rule="grey35")


def titled(title: str, *parts: RenderableType) -> RenderableType:
    """Parts under a title, indented, with air between."""
    spaced: list[RenderableType] = []
    for part in parts:
        spaced += [Padding(part, (0, 0, 1, 2))]
    return Group(Text(""), Text(title, style="bold"), Text(""), *spaced)


def phase(word: str) -> Text:
    """A phase in its colour."""
    return Text(word, style=_COLOURS.get(word, ""))


# The plan


def plan(item: Plan) -> RenderableType:
    """What was asked, where it could run, what it can cost, what happens if it fails."""
    parts: list[RenderableType] = [pairs(_asked(item))]
    if item.choices:
        parts += [_choices(item), money_rows(_costs(item)), _on_failure(item)]
    else:
        parts.append(rejections(item.rejections, item.considered))
    return titled("Plan", *parts)


def _asked(item: Plan) -> list[tuple[str, str]]:
    job, manifest = item.job, item.draft.bundle.manifest
    rows = [("job", safe(job.title)), ("needs", needs(job.resources.lanes, job.timeouts.execution))]
    if manifest is not None:
        noun = "file" if manifest.files == 1 else "files"
        digest = manifest.sha256.removeprefix("0x")[:16]
        rows.append(("travels", f"{manifest.files} {noun}, {format_bytes(manifest.unpacked)}, sha256 {digest}…"))
    wishes = [f"Python {job.python}"] if job.python else []
    wishes += ["an environment from hashed requirements"] if job.requirements else []
    wishes += [f"in {' or '.join(job.regions)}"] if job.regions else []
    rows.append(("also", ", ".join([*wishes, "sandbox tier B or better, no network"])))
    if item.bid.attempts > 1:
        rows.append(
            ("if it fails", f"by the provider's fault: another lease, {item.bid.attempts} at most, same budget")
        )
    window = format_duration(item.bid.window)
    judge = (
        f"within {window} of a claim, judged by {item.bid.arbiter}"
        if int(item.bid.arbiter, 16)
        else f"judged by nobody: a claim stands after {window}"
    )
    rows.append(("disputes", judge))
    if int(item.bid.guard, 16):
        rows.append(("guard", f"{item.bid.guard} may stop and dispute in your name, at your cost"))
    if item.bid.market != item.bid.consumer:
        rows.append(("market", f"{safe(item.info.name)}, {item.info.address}"))
    return rows


def needs(lanes: Lanes, seconds: int) -> str:
    """A requirement in words."""
    cores = format_cores(lanes.cpu_milli)
    gpus = f"{lanes.accelerator_milli // 1000} GPU, " if lanes.accelerator_milli else ""
    return (
        f"{cores} {'core' if cores == '1' else 'cores'}, {gpus}{format_mib(lanes.memory_mib)} memory, "
        f"{format_mib(lanes.disk_mib)} disk, for {format_duration(seconds)} at most"
    )


def _choices(item: Plan) -> RenderableType:
    labels = ("chosen", "runner-up")
    shown = item.choices[: len(labels)]
    rates = aligned([item.money(choice.rate) for choice in shown])
    most = aligned([item.money(choice.most) for choice in shown])
    rows = [
        (label, safe(choice.name), safe(choice.region) or "–", rate, total, choice.offer.provider)
        for label, choice, rate, total in zip(labels, shown, rates, most, strict=False)
    ]
    table = listing(
        ("", "provider", "region", "per hour", "at most", "address"), rows, right=("per hour", "at most"), below=True
    )
    more = f"{len(item.choices)} of {item.considered} open offers fit"
    return Group(Text(more, style=LABEL), Text(""), table)


def _costs(item: Plan) -> list[tuple[str, str, str]]:
    chosen, money = item.chosen, item.money
    billed = "by the second for what is reserved" if item.job.billing == "capacity" else "by what is used"
    least = format_duration(chosen.offer.min_seconds)
    time_bought = f"for all of {format_duration(chosen.seconds)}"
    if chosen.seconds < item.job.timeouts.execution:
        time_bought = f"for {format_duration(chosen.seconds)}, the longest that this provider leases"
    free = f"of {money(item.free)} free" if item.free is not None else "your account was not looked at"
    return [
        ("price", money(chosen.price), f"{time_bought}; billed {billed}, {least} at least"),
        ("market fee", money(chosen.fee), _fee_of(item)),
        ("gas", *_gas_of(item.bid.market == item.bid.consumer)),
        ("at most", money(item.budget), "the budget: the escrow cannot pay more"),
        ("stake", money(chosen.stake), "comes back"),
        ("locked", money(chosen.deposit), f"until it is settled, {free}"),
    ]


def _fee_of(item: Plan) -> str:
    if item.bid.market == item.bid.consumer:
        return "there is no market"
    return f"{item.bid.fee_bps / 100:g} % of what is paid"


def _gas_of(is_direct: bool) -> tuple[str, str]:
    if is_direct:
        return "yours", "you open and settle yourself: about 150,000 gas"
    return "none", "for you: the market pays for open and settle"


def _on_failure(item: Plan) -> RenderableType:
    queue = format_duration(item.job.timeouts.queue)
    unmatched = "" if item.bid.market == item.bid.consumer else f"Without a match within {queue}, nothing is. "
    return Text(
        f"If your command fails, the time it used is paid. If the provider fails, nothing is.\n"
        f"{unmatched}The rest always comes back at settlement.",
        style=LABEL,
    )


def rejections(found: Sequence[wire.Rejection], considered: int) -> RenderableType:
    """Which condition rejects how many offers, and what to change."""
    if not considered:
        return Text("The market has no open offer.")
    rows = [(f"{item.offers} of {considered}", safe(item.detail or item.condition), safe(item.hint)) for item in found]
    return listing(("offers", "why not", "what would help"), rows, below=True)


# Offers


def offers(views: Sequence[tuple[wire.OfferView, Lanes, Sequence[int]]], symbol: str, decimals: int) -> RenderableType:
    """The book: free capacity and prices per hour."""
    rows = [
        (
            safe(view.attributes.get("name", "")),
            safe(view.attributes.get("region", "")) or "–",
            format_cores(free.cpu_milli),
            format_mib(free.memory_mib),
            format_mib(free.disk_mib),
            format_money(prices[0], decimals),
            format_money(prices[1], decimals),
            format_money(prices[3], decimals),
            safe(view.attributes.get("sandbox", "")),
            str(view.offer.get("provider", "")),
        )
        for view, free, prices in views
    ]
    columns = ("provider", "region", "cores", "memory", "disk", "core/h", "GiB/h", "disk/h", "tier", "address")
    right = ("cores", "memory", "disk", "core/h", "GiB/h", "disk/h")
    foot = Text(f"what is free; prices in {symbol} an hour: a core, a GiB of memory, a GiB of disk", style=LABEL)
    return Group(listing(columns, rows, right=right, below=True), Text(""), foot)


# Jobs


def jobs(records: Sequence[Record]) -> RenderableType:
    """One line a job."""
    costs = aligned([_cost(record) for record in records])
    rows = [
        (
            record.short,
            str(record.number) if record.number else "–",
            phase(record.phase) if record.phase != "settled" else _settled(record),
            shortened(safe(record.name or record.plan.get("title", "") or "–"), 40),
            safe((record.attributes or {}).get("name", "")) or "–",
            cost if record.phase == "settled" and record.paid else f"≤ {cost}",
            _left(record),
            ago(record.created_at),
        )
        for record, cost in zip(records, costs, strict=True)
    ]
    columns = ("id", "lease", "state", "job", "provider", "cost", "left", "when")
    table = listing(columns, rows, right=("lease", "cost", "left"), loose=("job", "state"))
    foot = _runway(records)
    return Group(table, Text(""), foot) if foot is not None else table


def _left(record: Record) -> Text:
    """What remains of a running lease's time."""
    runway = runway_of(record, int(time.time()))
    if runway is None:
        return Text("")
    colour = {"": "", "low": "yellow", "out": "red"}[runway.level]
    return Text(f"{format_duration(runway.seconds)} ({runway.percent} %)", style=colour)


def _runway(records: Sequence[Record]) -> Text | None:
    """What the running leases use at most, and what is left of the money that they have locked; a line a currency."""
    found: dict[tuple[str, str, int], list[Runway]] = {}
    for record in records:
        runway = runway_of(record, int(time.time()))
        if runway is not None:
            found.setdefault((record.escrow.lower(), record.symbol, record.decimals), []).append(runway)
    lines = []
    for (_, symbol, decimals), runways in found.items():
        rate, money = together(runways)
        noun = "lease uses" if len(runways) == 1 else "leases use"
        left = f"{format_money(money, decimals)} {symbol} of what the escrow holds for that is left"
        lines.append(f"{len(runways)} {noun} at most {format_money(rate, decimals)} {symbol}/h; {left}")
    return Text("\n".join(lines), style=LABEL) if lines else None


def costs(rows: Sequence[Cost], totals: Sequence[Cost], by: str) -> RenderableType:
    """Price, market fee and gas, each for itself; below, the sum of each currency."""
    lines = [_cost_row(row, row.key[:10] if by == "job" else row.key, by) for row in rows]
    lines += [_cost_row(row, "total", by) for row in totals]
    columns: tuple[str, ...] = (by, "name", "jobs", "price", "market fee", "total", "gas", "")
    if by == "day":
        columns, lines = (columns[0], *columns[2:]), [(line[0], *line[2:]) for line in lines]
    if by == "provider":  # the address goes below where there is no room
        columns = ("provider", *columns[2:], "address")
        lines = [(line[1] or line[0], *line[2:], line[0] if line[1] else "") for line in lines]
    right = ("jobs", "price", "market fee", "total", "gas")
    foot = Text("gas: what the market spent to open and settle; not on your bill", style=LABEL)
    return Group(listing(columns, lines, right=right, loose=("name",), below=by == "provider"), Text(""), foot)


def _cost_row(row: Cost, key: str, by: str) -> tuple[str, ...]:
    money = [format_money(amount, row.decimals, places=row.decimals) for amount in (row.price, row.fee, row.total)]
    label = shortened(safe(row.label), 40) if by != "day" else ""
    return (key, label, str(row.jobs), *money, f"{row.gas:,}" if row.gas else "–", row.symbol)


def _cost(record: Record) -> str:
    """What was paid with its fee, or the budget while that is open."""
    is_paid = record.phase == "settled" and bool(record.paid)
    return amount(record, int(record.paid) + int(record.fee or 0) if is_paid else record.bid["budget"])


def _settled(record: Record) -> Text:
    how = {"ok": "ok", "exit_nonzero": "failed"}.get(record.reason, record.reason.replace("_", " "))
    return Text(f"settled, {how}" if how else "settled", style="green" if record.reason == "ok" else "red")


def amount(record: Record, base_units: str | int) -> str:
    """An amount of the job's currency."""
    return f"{format_money(int(base_units), record.decimals)} {record.symbol}"


def ago(at: int) -> str:
    """How long ago a second of Unix UTC was, roughly."""
    seconds = max(0, int(time.time()) - at)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def local_time(at: int) -> str:
    """A second of Unix UTC in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(at))


def job(record: Record) -> RenderableType:
    """Everything about one job."""
    bid = record.bid
    rows: list[tuple[str, str | Text]] = [
        ("id", record.id),
        ("state", phase(record.phase)),
    ]
    if record.reason:
        code = f", exit code {record.exit_code}" if record.exit_code else ""
        rows.append(("why", f"{words(record.reason)} ({record.reason}{code})"))
    if record.detail:
        rows.append(("detail", safe(record.detail)))
    rows += [("job", safe(_command(record))), ("submitted", local_time(record.created_at))]
    rows.append(("needs", needs(Lanes.unpack(int(bid["need"])), bid["maxSeconds"])))
    rows.append(("limits", f"{amount(record, bid['maxRate'])}/h, {amount(record, bid['budget'])} in total"))
    if record.lease:
        rows += [
            ("lease", f"{record.number}  {record.lease}" if record.number else record.lease),
            ("provider", _provider(record)),
        ]
    if record.evidence:
        rows.append(("used", _used(record.evidence)))
    for file in record.output_files:
        rows.append(("output", f"{safe(file['path'])}  {format_bytes(int(file['size']))}"))
    if record.output_dir:
        rows.append(("in", record.output_dir))
    if record.unchecked:
        rows.append(("unchecked", "; ".join(record.unchecked)))
    rows += [("market", f"{record.market}  {bid['market']}"), ("escrow", f"{record.escrow} on chain {record.chain_id}")]
    parts: list[RenderableType] = [pairs(rows)]
    if record.evidence:
        parts.append(money_rows(bill(record)))
    return titled(safe(record.name or record.short), *parts)


def _command(record: Record) -> str:
    command = (record.job or {}).get("command", {})
    return command.get("shell") or join(command.get("argv", [])) or "(its document lies on another machine)"


def _provider(record: Record) -> str:
    attributes = record.attributes or {}
    region = f" ({safe(attributes['region'])})" if attributes.get("region") else ""
    return f"{safe(attributes.get('name', ''))}{region}  {record.provider}"


def receipt(record: Record) -> RenderableType:
    """The end of a run: what ran where, how long, what it cost."""
    rows: list[tuple[str, str]] = [
        ("ran", f"{safe(record.name or record.plan.get('title', '') or record.short)} on {_provider(record)}"),
        ("used", _used(record.evidence or {})),
    ]
    if record.output_files:
        rows.append(
            ("outputs", f"{len(record.output_files)} in {record.output_dir or 'the store; `suanli get` unpacks'}")
        )
    if record.unchecked:
        rows.append(("unchecked", "; ".join(record.unchecked)))
    return titled(f"Receipt of lease {record.lease_name}", pairs(rows), money_rows(bill(record)))


def _used(evidence: dict[str, Any]) -> str:
    usage = evidence.get("usage", {})
    return (
        f"{usage.get('wallMs', 0) / 1000:.2f} s, {usage.get('cpuMs', 0) / 1000:.2f} s of processor, "
        f"peak {usage.get('peakMemoryMib', 0)} MiB; billed {format_duration(evidence.get('billedSeconds', 0))}"
    )


def bill(record: Record) -> list[tuple[str, str, str]]:
    """Price, market fee, gas and what comes back, as separate rows."""
    signed = int((record.receipt or {}).get("amount", 0))
    is_paid = record.phase == "settled" and bool(record.paid)
    paid = int(record.paid) if is_paid else signed
    fee = int(record.fee) if is_paid else fee_down(signed, record.bid["feeBps"])
    locked = record.locked
    rows = [
        ("price", amount(record, paid), "to the provider" if is_paid else "signed by both, not settled yet"),
        ("market fee", amount(record, fee), ""),
        ("gas", f"{record.gas:,} gas" if record.gas else "–", _who_paid_gas(record)),
        ("total", amount(record, paid + fee), ""),
    ]
    if locked:
        rows.append(
            ("back", amount(record, locked - paid - fee + record.gained), f"of {amount(record, locked)} locked")
        )
    return rows


def _who_paid_gas(record: Record) -> str:
    if str(record.bid["market"]).lower() == str(record.bid["consumer"]).lower():
        return "to open and close the lease; there was no market to pay it"
    return "to open and close the lease: not on your bill"
