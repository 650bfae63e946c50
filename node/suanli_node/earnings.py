"""Earnings: what closed leases brought, as the events that closed them say, and what this node's transactions cost."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from suanli_node.settings import StateFolder
from suanli_protocol.units import format_money

WEI_DECIMALS = 18
COLUMNS = ("day", "lease", "number", "how", "reason", "billed", "paid", "fee", "lost", "gasWei", "transaction")


@dataclass(frozen=True)
class Money:
    """How amounts of the escrow's token are written."""

    symbol: str
    decimals: int

    def text(self, units: int) -> str:
        """An amount in base units for a person."""
        return f"{format_money(units, self.decimals)} {self.symbol}"


def earnings(state: StateFolder) -> dict[str, Any]:
    """Leases, days and totals; amounts in base units of the token, gas in wei, both as decimal text."""
    gas = gas_by_lease(state.gas)
    leases = [_lease(ending, gas) for ending in endings(state.endings)]
    days: defaultdict[str, dict[str, int]] = defaultdict(lambda: {"leases": 0, "paid": 0, "lost": 0, "gasWei": 0})
    for lease in leases:
        day = days[lease["day"]]
        day["leases"] += 1
        for part in ("paid", "lost", "gasWei"):
            day[part] += int(lease[part])
    of_leases = sum(int(lease["gasWei"]) for lease in leases)
    return {
        "leases": leases,
        "days": [{"day": day, **_as_text(found)} for day, found in sorted(days.items())],
        "total": _as_text(
            {
                "leases": len(leases),
                "paid": sum(int(lease["paid"]) for lease in leases),
                "lost": sum(int(lease["lost"]) for lease in leases),
                "gasWei": of_leases,
                "otherGasWei": sum(gas.values()) - of_leases,  # deposits, withdrawals, leases that are open
            }
        ),
    }


def endings(folder: Path) -> list[dict[str, Any]]:
    """All endings, oldest first."""
    found = [json.loads(path.read_bytes()) for path in folder.glob("*.json")]
    return sorted(found, key=lambda ending: (ending["at"], ending["number"]))


def gas_by_lease(ledger: Path) -> dict[str, int]:
    """Wei by lease ("" for what was of none). A transaction that was written down twice counts once."""
    found: dict[str, tuple[str, int]] = {}
    if ledger.exists():
        for text in ledger.read_text("ascii").splitlines():
            try:
                line = json.loads(text)
                found[line["transaction"]] = (line["lease"], int(line["wei"]))
            except (ValueError, KeyError, TypeError):
                continue  # a last line that was torn off
    total: defaultdict[str, int] = defaultdict(int)
    for lease, wei in found.values():
        total[lease] += wei
    return dict(total)


def render_earnings(found: dict[str, Any], money: Money) -> str:
    """The same for a person: one line a day, and the sums."""
    lines = [f"{'day':<12} {'leases':>6}  {'paid':>18}  {'lost of bonds':>18}  {'gas':>18}"]
    for day in found["days"]:
        row = (money.text(int(day["paid"])), money.text(int(day["lost"])), _coin(day["gasWei"]))
        lines.append(f"{day['day']:<12} {day['leases']:>6}  {row[0]:>18}  {row[1]:>18}  {row[2]:>18}")
    total = found["total"]
    lines.append(f"price       {money.text(int(total['paid']))} from {total['leases']} leases")
    lines.append(f"lost        {money.text(int(total['lost']))} of bonds")
    lines.append(f"gas         {_coin(total['gasWei'])} for these leases, {_coin(total['otherGasWei'])} for all else")
    return "\n".join(lines)


def as_csv(found: dict[str, Any]) -> str:
    """One line a lease."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(found["leases"])
    return out.getvalue()


def _lease(ending: dict[str, Any], gas: dict[str, int]) -> dict[str, Any]:
    day = datetime.fromtimestamp(ending["at"], UTC).date().isoformat() if ending["at"] else "unknown"
    return {**ending, "day": day, "gasWei": str(gas.get(ending["lease"], 0))}


def _as_text(found: dict[str, int]) -> dict[str, Any]:
    return {name: value if name == "leases" else str(value) for name, value in found.items()}


def _coin(wei: str) -> str:
    return f"{(Decimal(wei).scaleb(-WEI_DECIMALS)):.9f} coin"
