"""Forgetting a person: their keys are destroyed at once, then decrypted data is removed.

The key's row records the progress, so that it continues after any restart of this process, and can
be requested again at any time:

1. The key is destroyed. Whatever is read from the log from now on has stand-ins.
2. States: process managers and writers fold again what they have in memory, and rows of
   state-stored aggregates are made again. Until then nothing is written of this person
   (`cleared_at`).
3. Views that fold personal data are rebuilt, beside those that serve (`settled_at`).

A failure for one person, or for one view, does not delay others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

from actors.errors import Unavailable, WriteSideError
from eventstore.errors import StoreError
from eventstore.port import Log
from projections.errors import PostgresUnavailable, ProjectionError, UnknownTarget
from rayfold import RayfoldError, Registry
from rayfold.aggregate import AggregateType
from rayfold.runtime.postgres import FAILURES, Connection, connected, why
from rayfold.runtime.postgres_text import is_storable
from rayfold.tenants import NoTenant, tenant_of

if TYPE_CHECKING:  # they import Ray, which then reads its environment
    from actors.process_side import ProcessSide
    from actors.write_side import WriteSide
    from eventstore.personal.postgres import Destroyed
    from projections.operations.rebuilds import Rebuilds

log = logging.getLogger(__name__)

TIMEOUT = 30.0
"""Seconds for Postgres to answer."""

VACUUM = 3600.0
"""Seconds to vacuum a table."""

LOOK = 10.0
"""Seconds between two checks whether the database still has our changes."""

BEGIN = 600.0
"""Seconds that a start waits for pending views; then the stack is published, and they follow
later.
"""

RETRY = 5.0
"""Seconds until a store that did not answer is asked again."""

LONGEST_RETRY = 60.0
"""Seconds until failed rebuilds of views are tried again: doubled each time, as some stores may
rebuild each time. Persons that are forgotten meanwhile do not wait for it.
"""


class Forgetting:
    """Forgets persons in one stack; run by its owner."""

    def __init__(
        self,
        registry: Registry,
        postgres: str,
        writes: WriteSide,
        processes: ProcessSide,
        rebuilds: Rebuilds,
        eventstore: Log,
        is_alone: Callable[[], bool] = lambda: True,
    ) -> None:
        """`is_alone`: no other release is serving from views of its own."""
        self._is_alone = is_alone
        self._registry = registry
        self._log = eventstore
        self._postgres = postgres
        self._writes = writes
        self._processes = processes
        self._rebuilds = rebuilds
        self._asked = asyncio.Event()
        self._errors: dict[str, str] = {}
        """The last errors, by what was tried."""
        self._mark: UUID | None = None
        self._is_behind = False
        # Destroyed keys whose decrypted data is gone from there, so that this is not repeated while
        # something else delays the rest.
        self._of_processes: set[UUID] = set()
        self._of_states: set[UUID] = set()
        self._rebuilt: dict[str, set[UUID]] = {}
        """By view."""

    async def forget(self, subjects: Sequence[str]) -> dict[str, Any]:
        """Destroy the keys of these subjects; see `api.operators.Operations.forget`.

        Raises:
            UnknownTarget: the domain has no personal data, or a subject belongs to no tenant.
            PostgresUnavailable, StoreUnavailable: the keys may or may not be destroyed.
        """
        if not self._registry.is_personal:
            raise UnknownTarget("the domain declares no personal data: there is nothing to forget")
        if self._registry.tenants:
            for each in subjects:
                try:
                    tenant_of(each)
                except NoTenant as error:
                    raise UnknownTarget(str(error)) from error
        from eventstore.personal.postgres import destroy, destroyed_of, keys_of
        from eventstore.personal.witness import note_destroyed

        async with self._connection() as connection:
            ids = await keys_of(connection, subjects)
            if ids:
                await note_destroyed(self._log, ids)  # first, so that no backup brings them back
                await destroy(connection, ids)
            found = await destroyed_of(connection, subjects)
        self._asked.set()
        known = {each.subject for each in found}
        return {
            "forgotten": [_told(each) for each in found],
            "unknown": [each for each in subjects if each not in known],
            "views": self._registry.views_of_personal_data,
        }

    async def status(self) -> dict[str, Any]:
        """Return whose decrypted data may remain, and the last errors.

        Raises:
            PostgresUnavailable: Postgres does not answer.
        """
        left = await self._unsettled() if self._registry.is_personal else []
        return {"left": [_told(each) for each in left], "error": "; ".join(self._errors.values())}

    async def begin(self) -> None:
        """Rebuild views left by an earlier release, if a person was forgotten since.

        This comes before they are read; `run` retries those that fail or take too long. Under a
        release without personal data nobody is forgotten, and nothing is recorded.
        """
        if not self._registry.is_personal:
            return
        try:
            async with asyncio.timeout(BEGIN):
                await self._build_taken_up()
        except (RayfoldError, TimeoutError) as error:
            self._is_behind = True
            why = str(error) or f"not built in {BEGIN:.0f} seconds"
            log.warning("views may still show a forgotten person", extra={"error": why})

    async def _build_taken_up(self) -> None:
        """Rebuild the views that were left, each separately.

        Raises:
            PostgresUnavailable: it is unknown which they are.
            ProjectionError: some of the rebuilds failed.
        """
        from deploy.stack.taken_up import note_built, taken_up

        async with self._connection() as connection:
            left = await taken_up(connection, self._registry, self._rebuilds.stores_of)
        failed = []
        for view, stores in left.items():
            about = {"view": view}
            log.warning(
                "a person was forgotten while nothing served this view: it is rebuilt", extra=about
            )
            try:
                await self._rebuilds.afresh(view, accept_parked=True)
                async with self._connection() as connection:
                    await note_built(connection, view, stores)
            except ProjectionError as error:
                failed.append(f"{view}: {error}")
        if failed:
            raise ProjectionError("; ".join(failed))

    async def run(self) -> None:
        """Remove the remaining data of forgotten persons, forever; also for earlier owners.

        Also rebuild what `begin` could not; neither waits for the other.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._catch_up())
            tasks.create_task(self._keep_forgetting())

    async def _catch_up(self) -> None:
        pause = RETRY
        while self._is_behind:
            if (error := await self._failed("left", self._build_taken_up)) is None:
                self._is_behind = False
                return
            await asyncio.sleep(pause)
            pause = _longer(pause, error)

    async def _keep_forgetting(self) -> None:
        pause, next_rebuild = RETRY, 0.0
        while True:
            if self._asked.is_set():
                self._asked.clear()
                next_rebuild = 0.0
            if await self._failed("keys", self._destroy_again) is None:
                await self._failed("states", self._forget_states)
                if time.monotonic() >= next_rebuild:
                    broken = await self._failed("views", self._forget_views)
                    if broken is None:
                        pause, next_rebuild = RETRY, 0.0
                    else:
                        next_rebuild = time.monotonic() + pause
                        pause = _longer(pause, broken)
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY if self._errors else LOOK):
                    await self._asked.wait()

    async def _failed(self, what: str, do: Callable[[], Awaitable[None]]) -> Exception | None:
        """Do something; if it fails, return the error, and record it for `status` and the log."""
        try:
            await do()
        except Exception as error:
            self._errors[what] = str(error) or type(error).__name__
            expected = isinstance(error, (RayfoldError, StoreError, *FAILURES))
            log.log(
                # All users of Postgres report that, and there may be nobody to forget.
                logging.INFO if isinstance(error, PostgresUnavailable) else logging.WARNING,
                "forgetting is held up",
                extra={"error": self._errors[what]},
                exc_info=None if expected else error,
            )
            return error
        self._errors.pop(what, None)
        return None

    async def _destroy_again(self) -> None:
        """Destroy keys that have returned, as the database was restored or failed over."""
        from eventstore.personal.postgres import destroy, key_set
        from eventstore.personal.witness import witness

        async with self._connection() as connection:
            here = await key_set(connection)
            if here.mark == self._mark:
                return
            found = await witness(self._log, here.id)
            if again := await destroy(connection, found.destroyed):
                # Actors that have started since may have used them.
                self._of_processes, self._of_states = set(), set()
                self._rebuilt.clear()
                log.warning("destroyed keys of forgotten persons that had come back: %d", again)
            self._mark = (await key_set(connection)).mark

    async def _unsettled(self) -> list[Destroyed]:
        from eventstore.personal.postgres import unsettled

        async with self._connection() as connection:
            return await unsettled(connection)

    async def _forget_states(self) -> None:
        left = await self._unsettled()
        held = await self._fold_again([each for each in left if each.id not in self._of_states])
        if held:
            raise Unavailable("; ".join(held.values()))

    async def _forget_views(self) -> None:
        """Rebuild views without persons whose state is cleared, and record that this is all."""
        from eventstore.personal.postgres import settle

        ids = {each.id for each in await self._unsettled()} & self._of_states
        if not ids:
            return
        await self._rebuild(ids)
        if not self._is_alone():
            raise Unavailable("the previous release still serves, and has the data in memory")
        async with self._connection() as connection:
            for table in ("rayfold_personal_key", *self._tables_of_states()):
                # This removes old versions of rows and keys, and planner statistics with their
                # values.
                await connection.execute(f"VACUUM (ANALYZE) {table}", timeout=VACUUM)
            await settle(connection, ids)
        self._of_processes -= ids
        self._of_states -= ids
        self._rebuilt.clear()
        log.info("all data of forgotten persons is gone", extra={"keys": len(ids)})

    async def _fold_again(self, left: Sequence[Destroyed]) -> dict[str, str]:
        """Make all actors fold again, without the persons; return for whom that failed, and why."""
        if not left:
            return {}
        from eventstore.personal.postgres import clear

        subjects = sorted({each.subject for each in left})
        ids = {each.id for each in left}
        if not ids <= self._of_processes:
            await self._processes.forget_personal()  # first, as processes send commands
            self._of_processes |= ids
        await self._writes.forget_personal(subjects)
        held = await self._refill(subjects)
        done = {each.id for each in left if each.subject not in held}
        if done:
            async with self._connection() as connection:
                await clear(connection, done)
            self._of_states |= done
        return held

    async def _refill(self, subjects: Sequence[str]) -> dict[str, str]:
        """Rewrite the rows of state-stored aggregates; return for whom that failed, and why."""
        held = {}
        for aggregate in self._state_stored:
            for each in await self._with_row(aggregate, subjects):
                try:
                    await self._writes.refill(aggregate.stream(each))
                except WriteSideError as error:
                    held[each] = f"of {each}: {error}"
        return held

    async def _with_row(self, aggregate: AggregateType, subjects: Sequence[str]) -> list[str]:
        """Return the subjects that have a row: no actor is asked about the others.

        A dedicated aggregate would need an actor for that, and another one would be evicted.
        """
        from actors.host.state.tables import name_of

        statement = f"SELECT _id FROM {name_of(aggregate.layout().root)} WHERE _id = ANY($1)"
        async with self._connection() as connection:
            rows = await connection.fetch(statement, [*filter(is_storable, subjects)])
        return [row["_id"] for row in rows]

    async def _rebuild(self, ids: set[UUID]) -> None:
        """Rebuild the views that were not rebuilt since these keys were destroyed.

        Raises:
            ProjectionError: some of the rebuilds failed.
        """
        failed = []
        for view in self._registry.views_of_personal_data:
            if ids <= self._rebuilt.get(view, set()):
                continue
            try:
                # The live one must be replaced whatever is parked in the new one: it has the
                # person's data.
                await self._rebuilds.afresh(view, accept_parked=True)
            except ProjectionError as error:
                failed.append(f"{view}: {error}")
            else:
                self._rebuilt[view] = ids
        if failed:
            raise ProjectionError("; ".join(failed))

    @property
    def _state_stored(self) -> list[AggregateType]:
        known = self._registry.with_personal_data
        return [each for each in self._registry.state_stored if each.category in known]

    def _tables_of_states(self) -> list[str]:
        from actors.host.state.tables import name_of

        return [
            name_of(table)
            for aggregate in self._state_stored
            for table in aggregate.layout().tables
        ]

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with connected(
                self._postgres, timeout=TIMEOUT, command_timeout=TIMEOUT
            ) as connection:
                yield connection
        except FAILURES as error:
            raise PostgresUnavailable(f"the keys of personal data: {why(error)}") from error


def _longer(pause: float, error: Exception) -> float:
    """Return the pause before views are rebuilt again, given the last one."""
    if isinstance(error, ProjectionError) and not isinstance(error, PostgresUnavailable):
        return min(2 * pause, LONGEST_RETRY)
    return RETRY


def _told(destroyed: Destroyed) -> dict[str, Any]:
    return {
        "subject": destroyed.subject,
        "forgotten_at": destroyed.forgotten_at.isoformat().replace("+00:00", "Z"),
        "settled": destroyed.settled_at is not None,
    }
