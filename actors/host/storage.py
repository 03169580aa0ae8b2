"""Storage of a host's aggregates: how one is loaded, and how a group commit is written.

Mailboxes, decisions and answers do not depend on it. Event-sourced aggregates are folds of the log;
state-stored aggregates are also rows (`actors.host.state`).
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
    """What a host needs of the storage of its aggregates."""

    takes_snapshots: bool
    """Whether loading an aggregate takes longer the longer its stream is."""

    async def load(self, aggregate: AggregateType, stream: str) -> Entity:
        """Return the aggregate in its current state.

        Raises:
            StoreUnavailable, Unavailable: a store that is needed does not answer.
            StreamTombstoned: the stream was deleted for good.
            UnknownEventType, UnreadableEvent, StreamUnreadable: its events cannot be folded.
        """
        ...

    async def commit(self, plans: Sequence[Plan | JointPlan]) -> list[AppendResult]:
        """Write the plans; return a result for each: see `Log.append`.

        Raises:
            StoreUnavailable, Unavailable: no answer; any of the plans may have been written.
        """
        ...

    async def deleted(self, aggregate: AggregateType, stream: str) -> None:
        """Remove everything that is stored for an aggregate whose stream was just deleted.

        Raises:
            StoreUnavailable, Unavailable: part of it may be left.
        """
        ...


class EventStorage:
    """Aggregates that are stored in the log alone."""

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
