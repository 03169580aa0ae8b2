"""How operators handle parked events: which store continues folding, and which rebuilds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from eventstore.memory import MemoryLog
from projections import discarded_events as discards
from projections.errors import ActorUnavailable, UnknownTarget
from projections.operations.parked_events import ParkedEventOperations
from projections.parked_pages import Asked
from projections.poison import Discarded, Parked
from rayfold import Registry
from tests.integration.projections import small
from tests.integration.projections.test_sql_projection import Lenient

REGISTRY = Registry([small])
REGISTRY.projections["lenient-sum"] = Lenient

ROW = Parked("totals", "a", "counter-a", 1, 2, "broke")
STREAM = Parked("totals", "", "counter-b", 0, 3, "unreadable")
STRICT = Parked("strict", "a", "counter-a", 1, 2, "broke")
SKIPPED = Parked("lenient-sum", "1@counter-a", "counter-a", 1, 2, "refused")


class Placed:
    """Actors that keep these parked; whatever is folded again is mended."""

    def __init__(self, **parked: list[Parked]) -> None:
        self.kept = {kind: list(each) for kind, each in parked.items()}
        handles: list[Any] = [_Handle(self, kind) for kind in parked]
        self.all = handles
        self.sql_projectors = {"lenient-sum": handles[0]}
        self.did: list[tuple[str, ...]] = []

    def filling(self, view: str, key: str, store: str) -> list[Any]:
        return [each for each in self.all if each.kind == store]

    async def rebuild(self, view: str) -> None:
        self.did.append(("rebuilt", view))
        self.mend(lambda each: each.view == view)

    def mend(self, mended: Any) -> None:
        for parked in self.kept.values():
            parked[:] = [each for each in parked if not mended(each)]


class _Handle:
    def __init__(self, placed: Placed, kind: str) -> None:
        self._placed, self.kind = placed, kind
        self.name, self.ready = kind, True
        self.views = [*REGISTRY.views, *REGISTRY.projections]

    async def parked(self, asked: Asked) -> list[Parked]:
        return asked.of(self._placed.kept[self.kind])

    async def replay(self, view: str, key: str) -> bool:
        self._placed.did.append(("fold on", view, key))
        self._placed.mend(lambda each: (each.view, each.key) == (view, key))
        return True

    async def replay_all(self, view: str, keys: Sequence[str]) -> None:
        self._placed.did.append(("fold on", view, *keys))
        self._placed.mend(lambda each: each.view == view and each.key in keys)


def operations(log: MemoryLog, placed: Placed) -> ParkedEventOperations:
    return ParkedEventOperations(REGISTRY, log, placed, placed.rebuild)


@pytest.mark.parametrize("store", ["postgres", "redis"])
async def test_a_parked_row_in_a_durable_store_is_folded_from_where_it_was_parked(
    store: str,
) -> None:
    placed = Placed(**{store: [ROW]})
    [done] = await operations(MemoryLog(), placed).replay("totals", "a")
    assert placed.did == [("fold on", "totals", "a")]
    assert (done["store"], done["key"], done["parked"]) == (store, "a", False)


@pytest.mark.parametrize(
    ("parked", "key"),
    [
        ({"memory": [ROW], "postgres": [ROW]}, "a"),
        ({"postgres": [STREAM]}, "counter-b"),
        ({"postgres": [STRICT]}, "a"),
    ],
)
async def test_a_view_that_cannot_be_folded_further_is_rebuilt(parked: Any, key: str) -> None:
    placed, log = Placed(**parked), MemoryLog()
    parked_events = operations(log, placed)
    view = parked["postgres"][0].view
    done = await parked_events.discard(view, key)
    assert placed.did == [("rebuilt", view)]
    assert [each["parked"] for each in done] == [False] * len(done)
    one = parked["postgres"][0]
    assert await discards.load(log, [view]) == {
        Discarded(one.view, one.key, one.stream, one.revision)
    }


@pytest.mark.parametrize("others", [{"memory": []}, {"redis": [ROW._replace(revision=4)]}])
async def test_a_discarded_event_is_removed_from_stores_that_have_applied_it_by_a_rebuild(
    others: Any,
) -> None:
    placed = Placed(postgres=[ROW], **others)
    await operations(MemoryLog(), placed).discard("totals", "a")
    assert placed.did == [("rebuilt", "totals")]


async def test_an_event_that_no_store_has_applied_is_discarded_without_a_rebuild() -> None:
    placed = Placed(postgres=[ROW], redis=[ROW])
    await operations(MemoryLog(), placed).discard("totals", "a")
    assert placed.did[0] == ("fold on", "totals", "a")


async def test_of_consumers_that_share_a_table_one_that_answers_is_asked() -> None:
    placed = Placed(competing=[ROW])
    [there] = placed.all
    away = _Handle(placed, "competing")
    away.name, away.ready = "away", False

    async def unavailable(*_: Any) -> Any:
        raise ActorUnavailable("away")

    away.parked = away.replay = unavailable  # type: ignore[method-assign]
    placed.all = [away, there]
    placed.filling = lambda *_: placed.all  # type: ignore[method-assign]
    parked_events = operations(MemoryLog(), placed)
    assert [each["key"] for each in await parked_events.parked()] == ["a"]
    await parked_events.replay("totals", "a")
    assert placed.did == [("fold on", "totals", "a")]


async def test_an_event_of_a_projection_is_executed_again() -> None:
    placed = Placed(sql=[SKIPPED])
    await operations(MemoryLog(), placed).discard("lenient-sum", "1@counter-a")
    assert placed.did == [("fold on", "lenient-sum", "1@counter-a")]


async def test_nothing_is_decided_about_what_is_not_parked() -> None:
    log = MemoryLog()
    parked_events = operations(log, Placed(postgres=[ROW, STREAM]))
    for view, key in (("totals", "b"), ("strict", "a"), ("totals", "")):
        with pytest.raises(UnknownTarget):
            await parked_events.discard(view, key)
    assert await discards.load(log, ["totals", "strict"]) == frozenset()
