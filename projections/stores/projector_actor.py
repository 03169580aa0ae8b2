"""The Ray shell around what fills a durable store from the log."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from eventstore.personal.opening import open_log
from projections.parked_pages import Asked
from projections.poison import Parked
from projections.stores.runner import ProjectionRunner
from projections.supervision.actor_work import NICENESS, ActorWork
from projections.supervision.membership import Membership
from projections.supervision.progress import Progress
from rayfold import Registry
from rayfold.runtime.garbage_collection import collect_rarely
from rayfold.runtime.identity import Identity
from rayfold.runtime.node_domain import load_domain
from rayfold.runtime.part_process import begin_part


class LogProjector(Protocol):
    """`Projector`, `SqlProjector`, or `Backfill`."""

    progress: Progress
    runner: ProjectionRunner[Any]

    async def run(self) -> None:
        """Follow the log for ever."""
        ...

    async def replay(self, view: str, key: str) -> bool:
        """Replay what is parked of a view under a key."""
        ...

    async def replay_all(self, view: str, keys: Sequence[str]) -> None:
        """Replay what is parked of a view under these keys."""
        ...

    def parked(self) -> Sequence[Parked]:
        """Return what is parked, `in_order`."""
        ...

    def status(self) -> dict[str, Any]:
        """Return counts, for operators."""
        ...


Make: TypeAlias = Callable[..., LogProjector]
"""Makes a projector from a registry, a log, the DSN of Postgres, and further arguments of `spawn`.

It is sent by name. Without a DSN, the projector does not use Postgres.
"""


class ProjectorActor:
    """Runs as a Ray actor. A restarted one continues at its checkpoint."""

    def __init__(
        self,
        domain: str,
        eventstore: str,
        dsn: str | None,
        identity: Identity,
        keys: str,
        make: Make,
        *arguments: Any,
    ) -> None:
        """`dsn` is None if it does not use Postgres; `keys` is where the keys of personal data
        are.
        """
        os.nice(NICENESS)
        collect_rarely()
        registry = load_domain(domain, identity.tenants)
        identity.check_domain(registry)
        begin_part(named(registry, arguments))
        log = open_log(eventstore, registry, keys)
        self._projector = make(registry, log, dsn, *arguments)
        self._work = ActorWork(Membership(identity, log, dsn), self._projector.run, log)

    async def reached(self, position: int, timeout: float) -> int:
        """Return its position once it is at `position`, or after `timeout` seconds."""
        return await self._running().runner.reached(position, timeout)

    async def parked(self, *asked: Any) -> list[tuple[Any, ...]]:
        """See `Asked.of`; returns plain tuples."""
        return [tuple(parked) for parked in Asked(*asked).of(self._running().parked())]

    async def replay(self, view: str, key: str) -> bool:
        """See `ActorHandle.replay`."""
        return await self._running().replay(view, key)

    async def replay_all(self, view: str, keys: list[str]) -> None:
        """See `ActorHandle.replay_all`."""
        await self._running().replay_all(view, keys)

    async def renew(self, view: str) -> None:
        """See `ProjectionRunner.renew`."""
        await self._running().runner.renew(view)

    async def status(self) -> dict[str, Any]:
        """Return its status for operators, once it has come as far as the log."""
        process = await self._work.process_status()
        await self._projector.runner.settled()
        return {**process, **self._projector.status()}

    async def stop(self) -> None:
        """End the subscription; an open transaction is rolled back."""
        await self._work.stop()

    def _running(self) -> LogProjector:
        self._work.begin()
        return self._projector


def named(registry: Registry, arguments: tuple[Any, ...]) -> str:
    """Return what it fills, for its log file: a store and its views, or a SQL projection.

    It uses only arguments that are names: a store's address may include a password.
    """
    known = {*registry.views, *registry.projections}
    told = [str(arguments[0])] if arguments and "/" not in str(arguments[0]) else []
    views = [each for one in arguments if isinstance(one, list) for each in one if each in known]
    return ":".join([*told, "+".join(views)][: 2 if views else 1])[:80] or "projector"
