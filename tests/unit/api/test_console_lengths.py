"""The console over very much: pages of what is parked, and no page without an end."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import httpx
import pytest

from rayfold import Registry
from tests.unit.api.conftest import Gateway

MANY = 10_000


@pytest.fixture
def parked(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {
            "store": "postgres",
            "view": "order-details" if number % 2 else "sales-by-day",
            "key": f"key-{number}-" + "x" * 900,
            "stream": f"order-{number}",
            "revision": number,
            "error": "broke " * 200,
        }
        for number in range(MANY)
    ]

    async def all_of_it() -> list[dict[str, Any]]:
        return rows

    monkeypatch.setattr(gateway.operations, "parked", all_of_it)


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


@pytest.mark.usefixtures("parked")
@pytest.mark.parametrize(("asked", "number"), [("", MANY), ("?view=sales-by-day", MANY // 2)])
async def test_every_parked_row_is_on_one_page(gateway: Gateway, asked: str, number: int) -> None:
    seen, path, pages = [], f"/console/parked{asked}", 0
    while path:
        page = await gateway.http.get(path)
        seen += keys(page)
        assert (link(page, "Earlier") is None) == (pages == 0)
        path, pages = link(page, "Later") or "", pages + 1
    assert pages == number // 100
    assert len(seen) == len(set(seen)) == number


@pytest.mark.usefixtures("parked")
async def test_a_page_says_which_of_how_many_it_shows(gateway: Gateway) -> None:
    page = await gateway.http.get("/console/parked?from=9900")
    assert "10000 rows are parked, 9901 to 10000 are here" in words(page)
    beyond = await gateway.http.get("/console/parked?from=99999999")
    assert keys(beyond) == keys(page)
    assert (await gateway.http.get("/console/parked?from=x")).status_code == 422


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
