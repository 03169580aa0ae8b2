"""The console with very much data: pages of parked events, and no endless page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import unescape
from itertools import islice
from typing import Any

import httpx
import pytest

from api.operators.parked_places import encode_place
from projections.publications.parked_keys import ParkedKeys
from projections.publications.records import Parked
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
async def test_every_parked_row_is_on_exactly_one_page(
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
async def test_the_page_of_a_replay_leads_back_to_the_parked_rows(gateway: Gateway) -> None:
    last = encode_place((MANY, "", "", "", "postgres"))
    page = await gateway.http.get(f"/console/parked?cursor={last}")
    assert "Nothing more is parked" in words(page)
    assert link(page, "From the beginning") == "/console/parked"


class FullPublications:
    """One publication, with everything parked."""

    def __init__(self) -> None:
        self.parked = ParkedKeys(
            Parked(f"key-{n}-", f"order-{n}", 0, n // 2, "no " * 200, "") for n in range(MANY)
        )

    async def list(self, publication: str, after: Sequence[Any], limit: int) -> dict[str, Any]:
        keys = {"parked_keys": MANY, "parked": self.parked.page(after, limit)}
        one = {"publication": "news", "target": "http://x", "carries": [], "status": "parked"}
        return {"publications": [one | {"published": 1, "lag": 0, "error": "", **keys}]}


async def test_a_publication_shows_its_parked_keys_page_by_page(registry: Registry) -> None:
    full = Gateway(registry, options={"publications": FullPublications()})
    seen: list[str] = []
    async with full.http as http:
        path = "/console/publications"
        for number in range(3):
            shown = await http.get(path)
            found = re.findall(r">(key-\d+-)<", shown.text)
            assert len(found) == 100
            assert "10000 keys are parked" in words(shown)
            assert len(shown.content) < 600_000
            first = link(shown, "From the beginning")
            assert first == ("/console/publications" if number else None)
            seen += found
            path = link(shown, "Later") or ""
    assert sorted(seen, key=lambda key: int(key[4:-1])) == [f"key-{n}-" for n in range(300)]


async def test_publications_are_listed_with_a_page_of_parked_keys(registry: Registry) -> None:
    full = Gateway(registry, options={"publications": FullPublications()})
    seen: list[str] = []
    async with full.http as http:
        asked: dict[str, str] = {"publication": "news"}
        while asked.get("cursor", "first"):
            [one] = (await http.get("/publications", params=asked)).json()["publications"]
            assert one["parked_keys"] == MANY
            assert len(one["parked"]) <= 999
            seen += [each["key"] for each in one["parked"]]
            asked["cursor"] = one["next_cursor"] or ""
        assert len(seen) == len(set(seen)) == MANY
        for wrong in ("limit=0", "limit=1000", "cursor=WzEsIiIsIiJd", "publication=news&cursor=x"):
            assert (await http.get(f"/publications?{wrong}")).status_code == 422
