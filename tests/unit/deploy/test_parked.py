"""`rayfold parked`: what it asks a gateway for."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.cli import parked


def test_an_event_of_a_stream_with_a_slash_is_requested_with_the_slash_encoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def ask(_data: None, _url: None, path: str) -> dict[str, Any]:
        asked.append(path)
        at = {"view": "baskets", "key": "a/b", "stream": "basket-a/b", "revision": 3}
        return {"parked": [at], "next_cursor": None}

    monkeypatch.setattr(parked, "ask", ask)
    parked.parked_show("baskets", "a/b")
    assert asked == ["/operators/parked?view=baskets&key=a%2Fb", "/operators/events/basket-a%2Fb/3"]
