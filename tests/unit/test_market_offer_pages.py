"""The open offers page by page: an offer that stays is in one of the pages, and no page is large or slow to find."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import uvicorn
from sqlalchemy import text

from suanli.commands import offers as command
from suanli.commands.offers import Listing
from suanli.filters import parse
from suanli_market.admission.submissions import Withdrawal
from suanli_market.api import papers, problems
from suanli_market.api.app import bare_app
from suanli_market.clearing.explain import Allowance
from suanli_market.figures import COUNTERS
from suanli_market.metrics import Counters
from suanli_market.store import insert_rows
from suanli_market.tables import OfferRow
from suanli_protocol import wire
from suanli_protocol.answers import ANSWER_BYTES_MAX
from suanli_protocol.capacity import Lanes
from suanli_protocol.errors import ProtocolError
from suanli_protocol.lease import Account
from suanli_protocol.market_client import MarketClient
from suanli_protocol.signing import Signer
from support.builders import CREDIT, a_capacity, a_signer, provider, some_prices
from support.market_desk import Desk, a_desk, an_offer_paper


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with a_desk(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def url(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The market's own routes over the desk's book, on a loopback socket."""
    monkeypatch.setattr(papers, "_listed", Allowance(papers.LISTED_PER_S))
    app = bare_app("0")
    app.state.services = SimpleNamespace(store=desk.store, keeper=desk.keeper)
    problems.install(app, Counters(COUNTERS))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def client(url: str) -> Iterator[MarketClient]:
    with MarketClient(url) as made:
        yield made


def post(desk: Desk, *cores: int, signer: Signer | None = None) -> list[str]:
    """Offers with these prices of a core; their ids."""
    who = (signer or provider()).address
    offers = [an_offer_paper(signer, provider=who, prices=some_prices(core=core).pack()) for core in cores]
    outcomes = desk.submit(*offers)
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    return [wire.to_hex(offer.id) for offer in offers]


def withdraw(desk: Desk, *ids: str) -> None:
    desk.submit(*(Withdrawal("offer", wire.from_hex(id_), provider().address) for id_ in ids))


def ids(page: wire.OfferPage) -> list[str]:
    return [view.id for view in page.offers]


def many_rows(desk: Desk, count: int, *, state: str = "open", attributes: str = "") -> None:
    """Offers as the tables have them, past the admission."""
    (id_,) = post(desk, 1)
    with desk.store.write() as session:
        row = session.get_one(OfferRow, id_).model_dump()
        row |= {"state": state, "attributes": attributes or row["attributes"]}
        insert_rows(session, "offer", [row | {"id": f"0x{n:064x}", "seq": 1_000 + n} for n in range(count)])


def test_pages_have_every_offer_once_in_the_order_of_the_log(desk: Desk, client: MarketClient) -> None:
    posted = post(desk, *range(1, 8))
    pages = [client.offer_page(limit=3)]
    while pages[-1].next is not None:
        pages.append(client.offer_page(after=pages[-1].next, limit=3))
    assert [len(page.offers) for page in pages] == [3, 3, 1]
    assert [id_ for page in pages for id_ in ids(page)] == posted
    assert {page.total for page in pages} == {7}
    whole = client.offer_page(limit=7)
    assert (len(whole.offers), whole.next) == (7, None), "a last page that is full leads to no empty one"


def test_an_offer_that_stays_is_in_one_page_whatever_comes_and_goes(desk: Desk, client: MarketClient) -> None:
    posted = post(desk, *range(1, 9))
    first = client.offer_page(limit=4)
    withdraw(desk, posted[0], posted[3], posted[4])
    later = post(desk, 20, 21)
    assert first.next is not None
    rest = client.offer_page(after=first.next)
    assert ids(first) + ids(rest) == posted[:4] + posted[5:] + later
    assert rest.total == 7


def test_what_is_free_is_the_capacity_less_what_is_used(desk: Desk, client: MarketClient) -> None:
    used = Lanes(cpu_milli=1_000, memory_mib=1_024)
    desk.accounts.held[provider().address] = Account(free=100 * CREDIT, used=used)
    post(desk, 1)
    (view,) = client.offers()
    left = a_capacity() - used
    assert view.free == {
        "cpuMilli": left.cpu_milli, "memoryMib": left.memory_mib, "acceleratorMilli": 0, "diskMib": left.disk_mib,
    }  # fmt: skip


def test_one_providers_offers_are_found_by_its_address_however_it_is_spelled(desk: Desk, client: MarketClient) -> None:
    other = a_signer(77)
    desk.accounts.held[other.address] = Account(free=100 * CREDIT)
    post(desk, 1, 2)
    own = post(desk, 3, signer=other)
    for spelled in (other.address, other.address.lower()):
        assert [view.id for view in client.offers(provider=spelled)] == own


def test_limits_that_make_no_sense_are_refused(url: str) -> None:
    for query in ("limit=0", f"limit={papers.PAGE_MAX + 1}", "after=-2", "provider=0x12", "limit=x"):
        answer = httpx.get(f"{url}/v1/offers?{query}")
        assert (answer.status_code, answer.json()["code"]) == (422, "protocol"), query


def test_a_page_without_a_limit_is_bounded(desk: Desk, url: str) -> None:
    many_rows(desk, papers.PAGE_MAX + 10)
    page = httpx.get(f"{url}/v1/offers").json()
    assert len(page["offers"]) == papers.PAGE
    assert httpx.get(f"{url}/v1/offers?limit={papers.PAGE_MAX}").json()["next"] is not None


def test_large_offers_make_short_pages(desk: Desk, client: MarketClient, url: str) -> None:
    large = json.dumps({"name": "é" * (papers.PAGE_CHARACTERS // 3)}, ensure_ascii=False)
    many_rows(desk, 7, attributes=large)
    sizes = []
    after: int | None = 0
    while after is not None:
        answer = httpx.get(f"{url}/v1/offers?after={after}&limit=500")
        assert len(answer.content) < ANSWER_BYTES_MAX // 4
        page = wire.OfferPage.model_validate(answer.json())
        sizes.append(len(page.offers))
        after = page.next
    assert sum(sizes) == 8
    assert max(sizes) == 3, "the small one and two that are large"
    assert len(client.offers()) == 8


def test_an_offer_larger_than_a_page_is_a_page(desk: Desk, client: MarketClient) -> None:
    many_rows(desk, 2, attributes=json.dumps({"name": "x" * (papers.PAGE_CHARACTERS + 1)}))
    assert len(client.offers()) == 3


def test_a_page_is_found_by_an_index_behind_any_number_of_offers_that_left(desk: Desk) -> None:
    many_rows(desk, 2_000, state="expired")
    columns = "SELECT * FROM offer WHERE state = 'open' AND seq > 0 "
    for cut, index in (("", "ix_offer_state"), ("AND provider = '0x' ", "ix_offer_provider")):
        with desk.store.read() as session:
            plan = session.execute(text(f"EXPLAIN QUERY PLAN {columns}{cut}ORDER BY seq LIMIT 9")).all()
        (step,) = [row[-1] for row in plan]
        assert step.startswith(f"SEARCH offer USING INDEX {index} "), "and nothing is sorted"


def test_offers_are_listed_at_a_bounded_rate(desk: Desk, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(papers.time, "monotonic", lambda: 1e6)
    many_rows(desk, 30)
    with desk.keeper._lock:
        desk.keeper._book.offers |= dict.fromkeys((b"%d" % n for n in range(10_000)), None)  # type: ignore[arg-type]
    with httpx.Client(base_url=url, trust_env=False) as http:
        answers = [http.get("/v1/offers?limit=500") for _ in range(papers.LISTED_PER_S // 500 + 1)]
    assert {answer.status_code for answer in answers[:-1]} == {200}
    assert (answers[-1].status_code, answers[-1].json()["retryable"]) == (429, True)


# A client that reads


def test_a_client_reads_no_more_than_it_wants(desk: Desk, client: MarketClient) -> None:
    posted = post(desk, *range(1, 8))
    assert [view.id for view in client.offers(most=5)] == posted[:5]


@pytest.mark.parametrize("page", [{"next": 0}, {"next": -3}, {"next": 7}], ids=["same", "back", "empty"])
def test_a_page_that_leads_nowhere_is_an_error(page: wire.Json) -> None:
    told = {"offers": [], "total": 9, **page}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=told))
    with (
        MarketClient("http://market.test", transport=transport) as client,
        pytest.raises(ProtocolError, match="nowher"),
    ):
        client.offers()


def listing(client: MarketClient, terms: str = "", limit: int = 100) -> tuple[list[str], list[str]]:
    found = Listing(client, parse(terms, 6), limit)
    return [view.id for view, _ in found.cheapest], found.left_out()


def test_the_cheapest_are_shown_and_what_is_cut_is_said(desk: Desk, client: MarketClient) -> None:
    posted = post(desk, 50, 20, 40, 10, 30)
    assert listing(client) == ([posted[n] for n in (3, 1, 4, 2, 0)], [])
    assert listing(client, limit=2) == ([posted[3], posted[1]], ["… and 3 more; a filter or --limit shows others"])
    shown, left = listing(client, "price>0.000025", limit=2)
    assert (shown, left) == ([posted[4], posted[2]], ["… and 1 more; a filter or --limit shows others"])


def test_a_large_book_is_looked_at_in_part_and_that_is_said(
    desk: Desk, client: MarketClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "READ_MAX", 3)
    posted = post(desk, 5, 4, 3, 2, 1)
    shown, left = listing(client)
    assert shown == [posted[2], posted[1], posted[0]]
    assert left == ["Of 5 open offers 3 were looked at; `suanli quote` has all looked at."]
