"""A rebuild that somebody at a terminal follows."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.cli import rebuild_progress
from deploy.cli.rebuild_progress import follow_rebuild
from deploy.errors import StartError


def test_a_rebuild_unknown_to_a_new_controller_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rebuild_progress, "LOOK", 0.0)
    begun = {"view": "orders", "state": "building", "store": "postgres", "position": 1, "end": 9}

    def ask(path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return {"rebuilds": []} if body is None else {**begun, "events_per_second": 1}

    with pytest.raises(StartError, match="'orders' was stopped"):
        follow_rebuild(ask, "orders")


def test_a_rebuild_that_would_park_served_rows_names_the_option_to_accept_that() -> None:
    asked: list[dict[str, Any] | None] = []

    def ask(path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        asked.append(body)
        return {"state": "failed", "error": "3 keys would be parked", "would_park": True}

    with pytest.raises(StartError) as refused:
        follow_rebuild(ask, "orders")
    why, what_to_do = refused.value.reasons
    assert why.endswith("the live rows are unchanged: 3 keys would be parked")
    assert "--accept-parked" in what_to_do
    with pytest.raises(StartError):
        follow_rebuild(ask, "orders", accept_parked=True)
    assert asked == [{"view": "orders", "accept_parked": each} for each in (False, True)]
