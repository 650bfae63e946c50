"""The tree of errors: stable codes, and the same error on both sides of the wire."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from suanli_protocol import errors
from suanli_protocol.market_client import MarketClient


def tree(kind: type[errors.SuanliError] = errors.SuanliError) -> Iterator[type[errors.SuanliError]]:
    """The class and all below it, as far as errors.py declares them."""
    if kind.__module__ == errors.__name__:
        yield kind
    for below in kind.__subclasses__():
        yield from tree(below)


def test_codes_are_unique_and_every_class_tells_a_person_something() -> None:
    kinds = list(tree())
    assert len({kind.code for kind in kinds}) == len(kinds) > 15
    assert all(kind.title and kind.exit_status for kind in kinds)


def test_the_docstring_shows_the_whole_tree() -> None:
    shown = errors.__doc__ or ""
    assert [kind.__name__ for kind in tree() if kind.__name__ not in shown] == []


def answered(problem: object, status: int = 409) -> errors.SuanliError:
    """What the client raises when the market answers with this body."""
    transport = httpx.MockTransport(lambda request: httpx.Response(status, json=problem))
    with MarketClient("http://market.test", transport=transport) as client, pytest.raises(errors.SuanliError) as raised:
        client.offers()
    return raised.value


SENT = [kind for kind in tree() if kind.http_status != 500 and kind is not errors.ChainRevertedError]


@pytest.mark.parametrize("kind", SENT)
def test_an_error_of_the_market_arrives_as_the_same_class(kind: type[errors.SuanliError]) -> None:
    arrived = answered(kind("why", hint="do this").as_problem())
    assert type(arrived) is kind
    assert (arrived.code, arrived.detail, arrived.hint) == (kind.code, "why", "do this")


def test_a_revert_keeps_its_name_and_an_unknown_code_stays_what_it_is() -> None:
    reverted = answered(errors.ChainRevertedError("LeaseEscrow_SeatTaken", (7,), hint="new seat").as_problem())
    assert type(reverted) is errors.ChainError
    assert (reverted.code, reverted.detail) == ("chain_reverted", "LeaseEscrow_SeatTaken(7)")
    unknown = answered({"code": "of_tomorrow", "detail": "?"})
    assert type(unknown) is errors.MarketError
    assert unknown.code == "of_tomorrow"


@pytest.mark.parametrize("problem", [[], "no", {"detail": "no code"}, {"code": "funds"}])
def test_a_malformed_problem_is_a_market_error(problem: object) -> None:
    assert "HTTP 502" in answered(problem, 502).detail


@pytest.mark.parametrize(
    ("problem", "status", "retryable"),
    [
        ({"code": "storage", "detail": "full", "retryable": True}, 507, True),
        ({"code": "busy", "detail": "later", "retryable": True}, 503, True),
        ({"code": "forbidden", "detail": "no", "retryable": False}, 503, False),
        ({"code": "funds", "detail": "no", "retryable": "yes"}, 402, False),
        ("not a problem", 503, True),
        ("not a problem", 404, False),
    ],
)
def test_whether_to_try_again_is_the_markets_word(problem: object, status: int, retryable: bool) -> None:
    assert answered(problem, status).retryable is retryable
