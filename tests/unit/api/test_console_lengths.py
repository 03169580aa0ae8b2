"""The console over very much: pages of what is parked, and no page without an end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import unescape
from itertools import islice
from typing import Any

import httpx
import pytest

from api.operators.routes import encode_place
from rayfold import Registry
from tests.unit.api.conftest import Gateway

MANY = 10_000


@pytest.fixture
def parked(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gives how many rows each question was answered with."""
    answered: list[int] = []
    rows = [
        {
            "store": "postgres",
            "view": "order-details" if number % 2 else "sales-by-day",
            "key": f"key-{number}-" + "x" * 900,
            "stream": f"order-{number}",
            "revision": number,
            "position": number,
            "error": "broke " * 200,
        }
        for number in range(MANY)
    ]

    async def page(view: str, key: str, after: Sequence[Any], limit: int) -> list[dict[str, Any]]:
        begin, *_ = after or [-1]
        found = (each for each in rows[begin + 1 :] if view in ("", each["view"]) and not key)
        answered.append(len(given := list(islice(found, limit))))
        return given

    monkeypatch.setattr(gateway.operations, "parked", page)
    return answered


def keys(page: httpx.Response) -> list[int]:
    """Return the rows that are shown."""
    assert page.status_code == 200
    assert len(page.content) < 600_000
    return [int(each) for each in re.findall(r"<td class=\"mono\">key-(\d+)-", page.text)]


def words(page: httpx.Response) -> str:
    """Return what it says, without the spaces in numbers."""
    return re.sub(r"(?<=\d)\s(?=\d{3})", "", unescape(re.sub(r"<[^>]*>", "", page.text)))


def link(page: httpx.Response, name: str) -> str | None:
    found = re.search(rf'href="([^"]+)">{name}</a>', page.text)
    return unescape(found[1]) if found else None


@pytest.mark.parametrize(("asked", "number"), [("", MANY), ("?view=sales-by-day", MANY // 2)])
async def test_every_parked_row_is_on_one_page_and_no_more_are_asked_for(
    gateway: Gateway, parked: list[int], asked: str, number: int
) -> None:
    seen, path, pages = [], f"/console/parked{asked}", 0
    while path:
        page = await gateway.http.get(path)
        seen += keys(page)
        first = link(page, "From the beginning")
        assert first == (f"/console/parked{asked}" if pages else None)
        path, pages = link(page, "Later") or "", pages + 1
    assert pages == number // 100
    assert len(seen) == len(set(seen)) == number
    assert max(parked) == 101


@pytest.mark.usefixtures("parked")
async def test_a_page_says_that_it_does_not_show_all(gateway: Gateway) -> None:
    page = await gateway.http.get("/console/parked")
    assert "Of the rows that are parked 100 are here" in words(page)
    assert (await gateway.http.get("/console/parked?cursor=x")).status_code == 422


@pytest.mark.usefixtures("parked")
async def test_a_page_of_what_was_replayed_leads_back_to_what_is_parked(gateway: Gateway) -> None:
    last = {"position": MANY, "store": "postgres", "view": "", "key": "", "stream": ""}
    page = await gateway.http.get(f"/console/parked?cursor={encode_place(last)}")
    assert "Nothing more is parked" in words(page)
    assert link(page, "From the beginning") == "/console/parked"


class FullPublications:
    """One publication, with everything parked."""

    async def list(self) -> dict[str, Any]:
        held = {"revision": 0, "since": "2026-01-01T00:00:00Z", "error": "no " * 200}
        keys = [{"key": f"key-{n}-", "stream": f"order-{n}", **held} for n in range(MANY)]
        one = {"publication": "news", "target": "http://x", "carries": [], "status": "parked"}
        return {"publications": [one | {"published": 1, "lag": 0, "error": "", "parked": keys}]}


async def test_a_publication_shows_the_first_of_its_parked_keys(registry: Registry) -> None:
    full = Gateway(registry, options={"publications": FullPublications()})
    async with full.http as http:
        page = await http.get("/console/publications")
    assert len(re.findall(r">key-\d+-<", page.text)) == 100
    assert "10000 keys are parked" in words(page)
    assert len(page.content) < 600_000
