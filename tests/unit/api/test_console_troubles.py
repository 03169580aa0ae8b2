"""The troubles on the console: each once, the worst first, with a way to repair it."""

from __future__ import annotations

from typing import Any

from api.console.lagging import troubles, why
from api.console.views import shown_views
from api.console.watch import Look
from rayfold import Registry


def part(name: str, kind: str, *views: str, **said: Any) -> dict[str, Any]:
    return {"part": name, "kind": kind, "ready": True, "views": list(views), "position": 9, **said}


def whole(registry: Registry, **said: Any) -> list[dict[str, Any]]:
    """Return parts that keep everything; `said` is said of what is in memory."""
    views = list(registry.views)
    return [
        part("memory:all#0", "memory", *views, **said),
        part("postgres:all#0of1", "postgres", *views),
        *(part(f"sql:{name}", "sql", name) for name in registry.projections),
        *(part(f"process:{name}#0", "process") for name in registry.processes),
        *(part(f"reactor:{name}#0", "reactor") for name in registry.reactors),
    ]


def test_a_healthy_stack_has_no_troubles(registry: Registry) -> None:
    look = Look(whole(registry), [])
    assert troubles(registry, look) == []
    assert why("order-details", look) == []
    states = {kept.state for view in shown_views(registry, look) for kept in view.kept}
    assert states == {"good"}


def test_a_server_that_is_down_is_reported_once(registry: Registry) -> None:
    store = {"part": "eventstore", "kind": "server", "ready": False, "error": "refused"}
    found = troubles(registry, Look([*whole(registry), store], []))
    assert [each.weight for each in found] == ["bad"]
    assert "the event store does not serve" in found[0].said


def test_the_worst_trouble_comes_first_and_links_to_its_remedy(registry: Registry) -> None:
    poison = [{"view": "order-details", "key": "k", "event": "3@order-k", "reason": "broke"}]
    parts = whole(registry, poison=poison, parked=1)
    host = {"part": "write#0", "kind": "write", "ready": False, "error": "TimeoutError"}
    building = {"view": "sales-by-day", "state": "building", "store": "memory", "seconds": 3.0}
    building |= {"events_per_second": 100, "seconds_left": 1.0}
    found = troubles(registry, Look([*parts, host], [building]))
    assert [(each.weight, each.to) for each in found] == [
        ("bad", "/console#parts"),
        ("warn", "/console/parked"),
        ("info", "/console/views/show?view=sales-by-day"),
    ]
    assert "3@order-k" in found[1].said


def test_a_view_that_lags_is_reported_for_that_store_only(registry: Registry) -> None:
    look = Look(whole(registry, lag=500, lag_seconds=7.5, per_second=0.0), [])
    (details,) = (each for each in shown_views(registry, look) if each.name == "order-details")
    assert [(each.store, each.state, each.lag) for each in details.kept] == [
        ("memory", "warn", 500),
        ("postgres", "good", 0),
    ]
    assert {each.weight for each in troubles(registry, look)} <= {"warn", "info"}
    assert "behind the log" in why("order-details", look)[0].sentence


def test_a_view_that_no_part_keeps_is_reported(registry: Registry) -> None:
    parts = whole(registry)
    parts[0]["views"].remove("order-details")
    look = Look(parts, [])
    (details,) = (each for each in shown_views(registry, look) if each.name == "order-details")
    assert [each.state for each in details.kept] == ["bad", "good"]


def test_a_store_that_the_stack_does_not_have_is_not_reported(registry: Registry) -> None:
    assert any("redis" in view.stores for view in registry.views.values())
    look = Look(whole(registry), [])
    stores = {kept.store for view in shown_views(registry, look) for kept in view.kept}
    assert stores == {"memory", "postgres"}
