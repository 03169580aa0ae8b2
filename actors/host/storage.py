"""Where a host's aggregates are kept: how one is loaded, and how a group commit is written.

Mailboxes, decisions and answers are the same whatever it is. Event-sourced aggregates are folds
over the log; those that are state-stored are rows as well (`actors.host.state`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from actors.host.entity import Entity
from actors.host.joint_plan import JointPlan
from actors.host.loading import load
from actors.host.plan import Plan
from eventstore.port import AppendResult, Log
from rayfold import Registry
from rayfold.aggregate import AggregateType


class Storage(Protocol):
    """What a host asks of the place where its aggregates are kept."""

    takes_snapshots: bool
    """Whether loading an aggregate costs more the longer its stream is."""

    async def load(self, aggregate: AggregateType, stream: str) -> Entity:
        """Return the aggregate as it is now.

        Raises:
            StoreUnavailable, Unavailable: something that is needed does not answer.
            StreamTombstoned: it was deleted for good.
            UnknownEventType, UnreadableEvent, StreamUnreadable: it cannot be made out.
        """
        ...

    async def commit(self, plans: Sequence[Plan | JointPlan]) -> list[AppendResult]:
        """Write what was decided; return an answer for each plan: see `Log.append`.

        Raises:
            StoreUnavailable, Unavailable: no answer; any of them may have been written.
        """
        ...

    async def deleted(self, aggregate: AggregateType, stream: str) -> None:
        """Keep nothing of an aggregate whose stream was deleted just now.

        Raises:
            StoreUnavailable, Unavailable: something of it may be left.
        """
        ...


class EventStorage:
    """The log alone."""

    takes_snapshots = True

    def __init__(self, registry: Registry, log: Log) -> None:
        self._registry = registry
        self._log = log

    async def load(self, aggregate: AggregateType, stream: str) -> Entity:
        """See `Storage.load`."""
        return await load(self._log, self._registry, aggregate, stream)

    async def commit(self, plans: Sequence[Plan | JointPlan]) -> list[AppendResult]:
        """See `Storage.commit`."""
        return await self._log.append([each.append() for each in plans])

    async def deleted(self, aggregate: AggregateType, stream: str) -> None:
        """See `Storage.deleted`."""
