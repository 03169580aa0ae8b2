"""Which views keep the effects of a deleted stream."""

from __future__ import annotations

from projections.erasure import views_that_keep
from rayfold import Registry


def test_views_of_many_streams_keep_it_and_those_by_the_aggregates_id_do_not() -> None:
    keeping = views_that_keep(Registry.load("domain"), "order-1")
    assert "sales-by-day" in keeping
    assert "order-details" not in keeping


def test_custom_sql_keeps_what_its_statements_made() -> None:
    registry = Registry.load("examples.shop")
    concerned = {
        category
        for projection in registry.projections.values()
        for category, aggregate in registry.aggregates.items()
        if any(event in projection.handlers for event in aggregate.events)
    }
    assert concerned
    for category in concerned:
        assert {*views_that_keep(registry, f"{category}-1")} & {*registry.projections}
