"""The index of the book's offers: an immutable tree whose parts say the best that any of their offers could be. Pure.

A search (search.py) leaves out a part that cannot serve a bid, and looks at the others in the order of the least that
they could ask. What a part says may flatter its offers, never slight them: so nothing is missed, and each offer found
is still judged by `conditions.feasible`. A changed index shares all but the changed paths with the one before, which
goes on to show what it showed: a view of the book costs nothing and needs no lock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from suanli_market.clearing.conditions import Facts, StandingOffer
from suanli_market.clearing.entry import Entry

LEAF_MAX = 8
_SIDE_MIN = 16  # a cut leaves at least one offer in this many on either side
_SLACK = 3  # levels by which a part may outgrow the height that it was planned with


@dataclass(slots=True, eq=False)
class Leaf:
    """A few entries. Never changed once made."""

    marks: int
    tops: tuple[int, ...]
    size: int
    height: int
    children: tuple[Entry, ...]


@dataclass(slots=True, eq=False)
class Fork:
    """Two parts on either side of a cut. Never changed once made."""

    marks: int
    tops: tuple[int, ...]
    size: int
    height: int
    children: tuple[Part, Part]
    cut: Cut
    planned: int  # the height when this part was last laid out


Part = Leaf | Fork
Cut = tuple[int, int]  # which key, and its least value on the upper side
Change = tuple[Entry, bool]  # the entry now stands (True) or is gone (False)


class Index(Collection[StandingOffer]):
    """The open offers, to be searched and to be iterated over (in no order that matters)."""

    __slots__ = ("busy", "idle")

    def __init__(self, idle: Part | None = None, busy: Part | None = None) -> None:
        self.idle, self.busy = idle, busy

    @property
    def roots(self) -> tuple[Part, ...]:
        return tuple(part for part in (self.idle, self.busy) if part is not None)

    @classmethod
    def of(cls, offers: Iterable[StandingOffer], facts: Facts) -> Index:
        """The index of the offers, given their accounts."""
        return cls().changed(stand=[Entry.of(offer, facts.account(offer.offer.provider)) for offer in offers])

    def changed(self, *, stand: Sequence[Entry] = (), leave: Sequence[Entry] = ()) -> Index:
        """The index in which some entries stand and others are gone: also those in whose place new ones stand."""
        return Index(*(_with(root, leave, stand, busy) for root, busy in ((self.idle, False), (self.busy, True))))

    def __len__(self) -> int:
        return sum(part.size for part in self.roots)

    def __contains__(self, offer: object) -> bool:
        return any(offer == other for other in self)

    def __iter__(self) -> Iterator[StandingOffer]:
        return (entry.offer for part in self.roots for entry in entries(part))


def entries(part: Part | None) -> Iterator[Entry]:
    """The entries of a part."""
    waiting: list[Part] = [part] if part is not None else []
    while waiting:
        match waiting.pop():
            case Leaf(children=found):
                yield from found
            case Fork(children=parts):
                waiting.extend(parts)


def _with(root: Part | None, leave: Sequence[Entry], stand: Sequence[Entry], busy: bool) -> Part | None:
    changes: list[Change] = [(entry, False) for entry in leave if entry.busy is busy]
    changes += [(entry, True) for entry in stand if entry.busy is busy]
    return _changed(root, changes, 0) if changes else root


def _changed(part: Part | None, changes: Sequence[Change], depth: int) -> Part | None:
    if isinstance(part, Fork):
        return _fork_changed(part, changes, depth)
    found = {entry.id: entry for entry in part.children} if part is not None else {}
    for entry, stands in changes:
        if stands:
            found[entry.id] = entry
        else:
            found.pop(entry.id, None)
    return _laid_out(list(found.values()), depth) if found else None


def _fork_changed(fork: Fork, changes: Sequence[Change], depth: int) -> Part | None:
    (key, least), (low, high) = fork.cut, fork.children
    below: list[Change] = []
    above: list[Change] = []
    for change in changes:
        (below if change[0].keys[key] < least else above).append(change)
    new_low = _changed(low, below, depth + 1) if below else low
    new_high = _changed(high, above, depth + 1) if above else high
    if new_low is None or new_high is None:
        return new_high if new_low is None else new_low
    joined = _fork(new_low, new_high, fork.cut, fork.planned)
    if joined.height > joined.planned + _SLACK:
        return _laid_out(list(entries(joined)), depth)
    return joined


def _laid_out(found: list[Entry], depth: int) -> Part:
    """A part of these entries (one at least), cut by one key after the other."""
    if len(found) <= LEAF_MAX:
        return _leaf(found)
    key, least = cut = _cut(found, depth)
    low = _laid_out([entry for entry in found if entry.keys[key] < least], depth + 1)
    high = _laid_out([entry for entry in found if entry.keys[key] >= least], depth + 1)
    return _fork(low, high, cut, max(low.height, high.height) + 1)


def _cut(found: list[Entry], depth: int) -> Cut:
    """Near the middle by the key whose turn it is; by the next key if that leaves one side too small.

    The last key is an offer's id: it differs between any two.
    """
    keys = len(found[0].keys)
    for turn in range(keys - 1):
        key = (depth + turn) % (keys - 1)
        least = _middle(sorted(entry.keys[key] for entry in found))
        if least is not None:
            return key, least
    return keys - 1, sorted(entry.id for entry in found)[len(found) // 2]


def _middle(values: list[int]) -> int | None:
    """The value next to the median at which the sorted values can be cut; None if one side would be too small."""
    margin = max(1, len(values) // _SIDE_MIN)
    middle, steps = len(values) // 2, len(values) // 2 - margin
    if values[middle - steps - 1] == values[middle + steps]:  # nothing to cut: such offers are alike
        return None
    for place in _outwards(middle, steps):
        if values[place - 1] != values[place]:
            return values[place]
    return None


def _outwards(middle: int, steps: int) -> Iterator[int]:
    yield middle
    for step in range(1, steps + 1):
        yield middle - step
        yield middle + step


def _leaf(found: list[Entry]) -> Leaf:
    marks = 0
    for entry in found:
        marks |= entry.marks
    columns = zip(*[entry.tops for entry in found], strict=True)
    return Leaf(marks, tuple(map(max, columns)), len(found), 0, tuple(found))


def _fork(low: Part, high: Part, cut: Cut, planned: int) -> Fork:
    return Fork(
        low.marks | high.marks,
        tuple([ours if ours > theirs else theirs for ours, theirs in zip(low.tops, high.tops, strict=True)]),
        low.size + high.size,
        (low.height if low.height > high.height else high.height) + 1,
        (low, high),
        cut,
        planned,
    )
