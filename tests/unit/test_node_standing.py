"""How a lease stands: the escrow's word proves it, the lease's events explain it, and nothing else is concluded."""

from __future__ import annotations

from suanli_node.leases.standing import STEP_BLOCKS, Place, Standing, block_before, stand
from suanli_node.leases.verification import Assignment, read_assignment
from suanli_protocol.escrow import CLOSED, UNUSED
from suanli_protocol.events import Settled
from suanli_protocol.lease import Kind, Phase, Progress, reopenable_word
from suanli_protocol.lease_history import LeaseHistory
from support import builders
from support.leases import Opened, an_opened_lease

STOP = Progress(clock=builders.NOW + 5, phase=Phase.STOPPED, flags=1)
CLAIM = Progress(claimed=9, clock=builders.NOW + 7, phase=Phase.CLAIMED, flags=1 << 1)


def assignment_of(opened: Opened) -> Assignment:
    return read_assignment(opened.view, builders.provider().address, builders.a_domain())


def standing(opened: Opened, word: bytes, history: LeaseHistory | None = None) -> Standing:
    return stand(assignment_of(opened), lambda _: word, lambda _: history or LeaseHistory())


def test_a_running_lease_needs_no_events() -> None:
    opened = an_opened_lease()

    def never(_: Assignment) -> LeaseHistory:
        raise AssertionError("not asked for")

    found = stand(assignment_of(opened), lambda _: opened.word(), never)
    assert (found.place, found.stopped, found.stopped_at) == (Place.OPEN, False, None)


def test_progress_is_what_the_events_say_if_the_word_proves_it() -> None:
    opened = an_opened_lease()
    stopped = standing(opened, opened.word(STOP), LeaseHistory(STOP))
    assert (stopped.place, stopped.stopped, stopped.stopped_at) == (Place.OPEN, True, builders.NOW + 5)
    claimed = standing(opened, opened.word(CLAIM), LeaseHistory(CLAIM))
    assert (claimed.place, claimed.stopped, claimed.stopped_at) == (Place.OPEN, True, None)
    assert standing(opened, opened.word(CLAIM), LeaseHistory(STOP)).place is Place.UNKNOWN


def test_an_empty_seat_and_a_strange_word_conclude_nothing() -> None:
    opened = an_opened_lease()
    assert standing(opened, UNUSED).place is Place.ABSENT
    assert standing(opened, b"\x07" * 32).place is Place.UNKNOWN


def test_a_closed_seat_is_closed_with_or_without_its_event() -> None:
    opened = an_opened_lease()
    event = Settled(1, bytes(32), bytes(32), 0, opened.id, 5, 0, Kind.FAILED, bytes(32))
    assert standing(opened, CLOSED).place is Place.CLOSED
    reopenable = reopenable_word(opened.lease.clauses, 5)
    assert standing(opened, reopenable, LeaseHistory(Progress(), event)).place is Place.CLOSED
    assert standing(opened, reopenable).place is Place.UNKNOWN


def test_a_block_before_a_time_is_found_in_steps_that_double() -> None:
    asked: list[int] = []

    class Blocks:
        """One block in each two seconds."""

        def block(self, number: int) -> object:
            """One."""
            asked.append(number)
            return type("Block", (), {"timestamp": number // 2})

    assert block_before(Blocks(), 490, 1000) == 1000 - STEP_BLOCKS  # type: ignore[arg-type]
    assert asked == [936]
    assert block_before(Blocks(), 468, 1000) == 1000 - 3 * STEP_BLOCKS  # type: ignore[arg-type]
    assert block_before(Blocks(), 0, 1000) == 0  # type: ignore[arg-type]
    assert block_before(Blocks(), 5, 40) == 0  # type: ignore[arg-type]
