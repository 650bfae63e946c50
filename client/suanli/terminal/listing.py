"""A table that stays whole in a narrow terminal: no id, address or amount is ever cut.

What does not fit is given up in this order: air between columns; the length of the columns that may be shortened; the
last column's place in the row, if it may stand on a line of its own below. What is still too wide runs over the edge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

SHORTEST = 10  # to which a column that may be shortened is shortened, in characters
Row = Sequence[Text]


@dataclass(frozen=True)
class Listing:
    """A quiet head, no lines. `right` and `loose` name columns: aligned right, and those that may be shortened."""

    columns: Sequence[str]
    rows: Sequence[Row]
    right: Sequence[str] = ()
    loose: Sequence[str] = ()
    below: bool = False
    head: str = ""
    rule: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room, natural = options.max_width, self._widths()
        if _total(natural, air=3) <= room:
            yield self._table(self.columns, self.rows, natural, air=1)
        elif self.below and _total(natural, air=2) > room:
            yield from self._split(room, natural[:-1])
        else:
            yield self._table(self.columns, self.rows, self._shortened(natural, room), air=0)

    def _widths(self) -> list[int]:
        cells = [[Text(name), *(row[i] for row in self.rows)] for i, name in enumerate(self.columns)]
        return [max(cell.cell_len for cell in column) for column in cells]

    def _shortened(self, widths: list[int], room: int) -> list[int]:
        """The widths with as much taken from the loose columns, in their order, as is too much."""
        found = list(widths)
        for name in self.loose:
            i = list(self.columns).index(name) if name in self.columns else -1
            if 0 <= i < len(found):
                excess = max(0, _total(found, air=2) - room)
                found[i] = max(min(found[i], max(SHORTEST, len(name))), found[i] - excess)
        return found

    def _split(self, room: int, natural: list[int]) -> Iterator[Table | Text]:
        """Each row's last cell on a line of its own, below it."""
        widths = self._shortened(natural, room)
        air = 1 if _total(widths, air=3) <= room else 0
        yield self._table(self.columns[:-1], [], widths, air=air)
        for row in self.rows:
            yield self._table(self.columns[:-1], [row[:-1]], widths, air=air, is_headed=False)
            if row[-1]:
                yield _whole(row[-1], self.head)

    def _table(
        self, columns: Sequence[str], rows: Sequence[Row], widths: list[int], *, air: int, is_headed: bool = True
    ) -> Table:
        table = Table(
            box=box.SIMPLE_HEAD if is_headed else box.SIMPLE,
            show_edge=False,
            pad_edge=False,
            padding=(0, air, 0, air) if air else (0, 1, 0, 0),
            header_style=self.head,
            border_style=self.rule,
            show_header=is_headed,
        )
        for name, width in zip(columns, widths, strict=True):
            side = "right" if name in self.right else "left"
            table.add_column(name, justify=side, no_wrap=True, min_width=width, max_width=width)  # type: ignore[arg-type]
        for row in rows:
            table.add_row(*row)
        return table


def _whole(cell: Text, style: str) -> Text:
    return Text(f"  {cell.plain}", style=style, no_wrap=True, overflow="ignore")


def _total(widths: Sequence[int], *, air: int) -> int:
    return sum(widths) + air * (len(widths) - 1)
