"""Live queries of a gateway: which replica it asks for what its listeners follow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from projections.errors import ActorUnavailable
from projections.memory.subscriptions import Subscriptions
from projections.queries.live import LiveQueries
from projections.row_query import RowQuery, RowResult
from projections.supervision.placements import Placements

DEADLINE = 10.0


class Holder:
    """A replica of some views, each row of which says where it is from."""

    def __init__(self, name: str, *views: str, open: int) -> None:
        self.name, self.views, self.open = name, views, open
        self.ready = True
        self.told: set[str] = set()
        self._subscriptions = Subscriptions()

    async def watch(self, watcher: str, rows: Sequence[tuple[str, str]]) -> None:
        self.told |= {view for view, _ in rows}
        self._subscriptions.follow(watcher, list(rows))

    async def changes(self, watcher: str, timeout: float) -> list[Any] | None:
        changed = await self._subscriptions.changes(watcher, timeout)
        if changed is None:
            return None
        if not {view for view, _ in changed} <= {*self.views}:
            raise ActorUnavailable("KeyError")
        return [(view, key, RowResult(self.name.encode(), 0, 1)) for view, key in changed]


class Memory:
    """Answers what is asked once."""

    async def ask(self, query: RowQuery, deadline: float) -> RowResult:
        return RowResult(b"asked", 0, 1)


async def test_a_replica_without_a_followed_view_is_not_asked_for_it() -> None:
    few, all_ = Holder("few", "orders", open=0), Holder("all", "orders", "stock", open=1)
    placements = Placements()
    placements.replicas = [all_, few]  # type: ignore[list-item]
    live = LiveQueries(placements, Memory())  # type: ignore[arg-type]
    orders, stock = live.follow("orders", "a", 0), live.follow("stock", "b", 0)
    async with asyncio.timeout(DEADLINE):
        assert [(await anext(orders))[1], (await anext(orders))[1]] == [b"asked", b"few"]
        assert [(await anext(stock))[1], (await anext(stock))[1]] == [b"asked", b"all"]
        assert (await anext(orders))[1] == b"all"
    assert few.ready
    assert few.told == {"orders"}
    await orders.aclose()
    await stock.aclose()


class Cut(Holder):
    """A replica that is cut off for a while: it gives its answers to nobody."""

    def __init__(self) -> None:
        self.is_cut = False
        self.given_up = asyncio.Event()
        super().__init__("before", "orders", open=0)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "ready" and not value:
            self.given_up.set()

    async def watch(self, watcher: str, rows: Sequence[tuple[str, str]]) -> None:
        if self.is_cut:
            raise ActorUnavailable("cut off")
        await super().watch(watcher, rows)

    async def changes(self, watcher: str, timeout: float) -> list[Any] | None:
        found = await super().changes(watcher, timeout)
        if self.is_cut:
            raise ActorUnavailable("cut off")
        return found

    def change(self) -> None:
        """Let the row that is followed be another one."""
        self.name = "since"
        self._subscriptions.note("orders", "a")


async def test_a_change_whose_message_was_lost_is_sent_again() -> None:
    replica, placements = Cut(), Placements()
    placements.replicas = [replica]  # type: ignore[list-item]
    orders = LiveQueries(placements, Memory()).follow("orders", "a", 0)  # type: ignore[arg-type]
    async with asyncio.timeout(DEADLINE):
        assert [(await anext(orders))[1], (await anext(orders))[1]] == [b"asked", b"before"]
        replica.is_cut = True
        replica.change()
        await replica.given_up.wait()
        replica.is_cut, replica.ready = False, True
        assert (await anext(orders))[1] == b"since"
    await orders.aclose()
