"""What operators do about parked events: which store folds on, and which folds anew."""

from __future__ import annotations

from typing import Any

import pytest

from eventstore.memory import MemoryLog
from projections import discarded_events as discards
from projections.errors import UnknownTarget
from projections.folding import Discarded, Parked
from projections.operations.parked_events import ParkedEventOperations
from projections.supervision.actor_handle import ActorHandle
from rayfold import Registry
from tests.integration.projections import small
from tests.integration.projections.test_sql_projection import Lenient

REGISTRY = Registry([small])
REGISTRY.projections["lenient-sum"] = Lenient

ROW = Parked("totals", "a", "counter-a", 1, 2, "broke")
STREAM = Parked("totals", "", "counter-b", 0, 3, "unreadable")
STRICT = Parked("strict", "a", "counter-a", 1, 2, "broke")
SKIPPED = Parked("lenient-sum", "1@counter-a", "counter-a", 1, 2, "refused")


class Stores:
    """Parts that keep these parked; whatever is folded again is mended."""

    def __init__(self, **parked: list[Parked]) -> None:
        self.kept = {kind: list(each) for kind, each in parked.items()}
        self.parts = [ActorHandle(kind, kind, _Actor(self, kind), []) for kind in parked]
        self.did: list[tuple[str, ...]] = []

    async def rebuilt(self, view: str) -> None:
        self.did.append(("rebuilt", view))
        self._mend(lambda each: each.view == view)

    async def fold_on(self, view: str, key: str) -> bool:
        self.did.append(("fold on", view, key))
        self._mend(lambda each: (each.view, each.key) == (view, key))
        return True

    def _mend(self, mended: Any) -> None:
        for parked in self.kept.values():
            parked[:] = [each for each in parked if not mended(each)]


class _Actor:
    def __init__(self, stores: Stores, kind: str) -> None:
        self._stores, self._kind = stores, kind

    @property
    def parked(self) -> Any:
        return self

    async def remote(self) -> list[tuple[Any, ...]]:
        return [tuple(each) for each in self._stores.kept[self._kind]]


async def test_a_row_in_postgres_is_folded_on() -> None:
    stores = Stores(postgres=[ROW])
    [done] = await ParkedEventOperations(REGISTRY, MemoryLog(), stores).replay("totals", "a")
    assert stores.did == [("fold on", "totals", "a")]
    assert (done["store"], done["key"], done["parked"]) == ("postgres", "a", False)


@pytest.mark.parametrize(
    ("parked", "key"),
    [
        ({"memory": [ROW], "postgres": [ROW]}, "a"),
        ({"postgres": [STREAM]}, "counter-b"),
        ({"postgres": [STRICT]}, "a"),
    ],
)
async def test_what_cannot_be_folded_on_is_folded_anew(parked: Any, key: str) -> None:
    stores, log = Stores(**parked), MemoryLog()
    mending = ParkedEventOperations(REGISTRY, log, stores)
    view = parked["postgres"][0].view
    done = await mending.discard(view, key)
    assert stores.did == [("rebuilt", view)]
    assert [each["parked"] for each in done] == [False] * len(done)
    one = parked["postgres"][0]
    assert await discards.load(log, [view]) == {
        Discarded(one.view, one.key, one.stream, one.revision)
    }


async def test_an_event_of_a_projection_is_executed_again() -> None:
    stores = Stores(sql=[SKIPPED])
    await ParkedEventOperations(REGISTRY, MemoryLog(), stores).discard("lenient-sum", "1@counter-a")
    assert stores.did == [("fold on", "lenient-sum", "1@counter-a")]


async def test_nothing_is_decided_about_what_is_not_parked() -> None:
    log = MemoryLog()
    mending = ParkedEventOperations(REGISTRY, log, Stores(postgres=[ROW, STREAM]))
    for view, key in (("totals", "b"), ("strict", "a"), ("totals", "")):
        with pytest.raises(UnknownTarget):
            await mending.discard(view, key)
    assert await discards.load(log, ["totals", "strict"]) == frozenset()
