"""A generation of any kind that is being built in Postgres: see `Building`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeAlias

from projections.newly_parked import NewlyParked
from projections.postgres import generations, parked_events
from projections.postgres.connections import connected
from projections.postgres.generations import Connection, Live
from projections.stores.port import Reached

Finish: TypeAlias = Callable[[Connection], Awaitable[None]]
Hold: TypeAlias = Callable[[Connection], Awaitable[int]]


class PostgresBuilding(NamedTuple):
    """`built` will replace `live`.

    `make_ready` does the work that is faster on full tables. For `hold` see `generations.switch`.
    All methods may raise `PostgresUnavailable`.
    """

    dsn: str
    live: Live
    built: str
    make_ready: Finish | None = None
    hold: Hold | None = None

    async def newly_parked(self) -> NewlyParked | None:
        """See `Building.newly_parked`."""
        async with connected(self.dsn) as connection:
            live = self.live
            return await parked_events.newly_parked(
                connection, live.name, live.relation, self.built
            )

    async def finish(self) -> int:
        """See `Building.finish`."""
        async with connected(self.dsn) as connection:
            if self.make_ready is not None:
                await self.make_ready(connection)
            return await generations.position_of(connection, self.live.relation)

    async def switch(self, reached: Reached) -> None:
        """See `Building.switch`."""
        hold = self.hold
        async with connected(self.dsn) as connection:
            holding = None if hold is None else lambda: hold(connection)
            await generations.switch(connection, self.live, self.built, reached, hold=holding)

    async def discard(self) -> None:
        """See `Building.discard`."""
        async with connected(self.dsn) as connection:
            await generations.discard(connection, self.built, self.live.kind)
