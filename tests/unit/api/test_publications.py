"""What operators are told of publications, and what they get wrong."""

from __future__ import annotations

from typing import Any

import pytest

from eventstore.errors import StoreUnavailable
from projections.errors import NoSuchPublication
from rayfold import Registry
from tests.unit.api.conftest import Gateway
from tests.unit.api.problems import problem


class Publications:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def list(self, *_: Any) -> dict[str, Any]:
        return {"publications": []}

    async def replay(
        self, name: str, *, key: str | None, after: int | None, until: int | None
    ) -> dict[str, int]:
        if name == "away":
            raise StoreUnavailable("the keys do not answer")
        if name != "news":
            raise NoSuchPublication(f"no publication is named {name!r}")
        self.asked.append((key, after, until))
        return {"released": 1, "parked": 0}


@pytest.fixture
def publications() -> Publications:
    """Return what notes."""
    return Publications()


@pytest.fixture
def told(registry: Registry, publications: Publications) -> Gateway:
    """Return a gateway that reaches them."""
    return Gateway(registry, options={"publications": publications})


PATH = "/operators/publications/replay"


async def test_they_are_listed(told: Gateway) -> None:
    assert (await told.http.get("/publications")).json() == {"publications": []}


async def test_parked_events_or_a_range_are_delivered_again(
    told: Gateway, publications: Publications
) -> None:
    for body in ({}, {"key": "a"}, {"after": 0}, {"until": 2**63 - 1, "key": "a"}):
        answer = await told.http.post(PATH, json={"publication": "news", **body})
        assert answer.json() == {"publication": "news", "released": 1, "parked": 0}
    wanted = [(None, None, None), ("a", None, None), (None, 0, None), ("a", None, 2**63 - 1)]
    assert publications.asked == wanted


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"publication": 1},
        {"publication": "news", "after": -1},
        {"publication": "news", "until": 2**70},
        {"publication": "news", "colour": "red"},
    ],
)
async def test_invalid_input_is_refused(told: Gateway, body: dict[str, Any]) -> None:
    problem(await told.http.post(PATH, json=body), 422)


async def test_an_unknown_publication_is_not_found(told: Gateway) -> None:
    problem(await told.http.post(PATH, json={"publication": "nobody"}), 404, "not-found")


async def test_a_store_that_is_down_is_reported(told: Gateway) -> None:
    answer = await told.http.post(PATH, json={"publication": "away"})
    assert "the keys do not answer" in problem(answer, 503, "part-down")["detail"]


async def test_a_gateway_that_cannot_reach_publications_says_so(gateway: Gateway) -> None:
    assert (await gateway.http.get("/publications")).json() == {"publications": []}
    problem(await gateway.http.post(PATH, json={"publication": "news"}), 404, "not-found")
