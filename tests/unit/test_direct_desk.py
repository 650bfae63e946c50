"""What a consumer brings to a node's counter is taken where the chain says the same, and lies where the chain says."""

from __future__ import annotations

from pathlib import Path

import pytest

from suanli_node.direct.desk import DirectDesk
from suanli_node.direct.relay import DirectRelay
from suanli_node.direct.shelf import Shelf
from suanli_protocol import wire
from suanli_protocol.errors import IntegrityError, SignatureError, SuanliError
from suanli_protocol.lease import Phase, Progress
from suanli_protocol.lease_history import LeaseHistory
from support import builders
from support.leases import Opened, an_opened_lease
from support.places import BLOCK, BLOCK_HASH, OnePlace

CONSUMER = builders.consumer().address


class Scene:
    """A counter without its server."""

    def __init__(self, folder: Path, places: OnePlace) -> None:
        self.asked: list[tuple[bytes, int]] = []
        self.news: list[wire.Event] = []
        self.shelf = Shelf(folder)
        relay = DirectRelay(
            self.shelf,
            lambda: None,  # type: ignore[arg-type,return-value]
            builders.provider(),
            builders.a_domain(),
            self.history,
            lambda _: None,
        )
        self.places = places
        self.desk = DirectDesk(relay, places, self.news.append)

    def history(self, lease: bytes, block: int) -> LeaseHistory:
        self.asked.append((lease, block))
        return self.places.history


def taken(opened: Opened, **lies: object) -> wire.TakenLease:
    told = {name: getattr(opened.view, name) for name in wire.TakenLease.model_fields}
    return wire.TakenLease.model_validate(told | lies)


@pytest.mark.parametrize("lies", [{"block": 0}, {"block": 10**9}, {"block_hash": "0x" + "11" * 32}, {}], ids=str)
def test_where_a_lease_lies_the_chain_says_and_not_the_consumer(tmp_path: Path, lies: dict[str, object]) -> None:
    opened = an_opened_lease()
    scene = Scene(tmp_path / "direct", OnePlace(opened))
    view = scene.desk.take(CONSUMER, taken(opened, **lies))
    assert (view.block, view.block_hash, view.number) == (BLOCK, "0x" + BLOCK_HASH.hex(), 0)
    assert scene.asked == [(opened.id, BLOCK)]
    assert scene.shelf.box(opened.view.id).taken().block == BLOCK
    assert [event.kind for event in scene.news] == ["lease.opened"]


def test_a_transaction_that_opened_something_else_is_not_believed(tmp_path: Path) -> None:
    opened = an_opened_lease()
    scene = Scene(tmp_path / "direct", OnePlace(opened))
    with pytest.raises(IntegrityError):
        scene.desk.take(CONSUMER, taken(opened, transaction="0x" + "22" * 32))
    assert (scene.shelf.leases(), scene.news) == ([], [])


def test_a_lease_that_was_stopped_already_is_taken_too(tmp_path: Path) -> None:
    opened = an_opened_lease()
    stopped = LeaseHistory(Progress(clock=builders.NOW, phase=Phase.STOPPED, flags=1))
    assert Scene(tmp_path / "direct", OnePlace(opened, stopped)).desk.take(CONSUMER, taken(opened)).state == "stopped"


def test_papers_that_cannot_be_read_are_those_of_one_lease(tmp_path: Path) -> None:
    one, other = an_opened_lease(seat=builders.a_seat(1)), an_opened_lease(seat=builders.a_seat(2))
    for opened in (one, other):
        Scene(tmp_path / "direct", OnePlace(opened)).desk.take(CONSUMER, taken(opened))
    (tmp_path / "direct" / one.id.hex() / "taken.json").write_text("{")
    assert Shelf(tmp_path / "direct").leases() == [other.view.id]


@pytest.mark.parametrize("held", [None, an_opened_lease(opened_at=builders.NOW + 1)], ids=["nothing", "another"])
def test_what_the_escrow_does_not_hold_touches_no_disk(tmp_path: Path, held: Opened | None) -> None:
    scene = Scene(tmp_path / "direct", OnePlace(held))
    with pytest.raises(SuanliError):
        scene.desk.take(CONSUMER, taken(an_opened_lease()))
    with pytest.raises(SignatureError):
        scene.desk.take(builders.a_signer(9).address, taken(an_opened_lease()))
    assert list((tmp_path / "direct").iterdir()) == []
