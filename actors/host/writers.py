"""The hosts of one process: one for event-sourced aggregates, one for those that are state-stored.

They share nothing: neither waits for what the other needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from actors.envelope import Envelope, Outcome
from actors.host.host import Host
from actors.host.limits import HostLimits
from actors.host.state.port import States
from actors.host.state.storage import StateStorage
from eventstore.port import Log
from rayfold import Registry


class Writers:
    """See `Host` for what each method promises."""

    def __init__(
        self,
        registry: Registry,
        eventstore: Log,
        incarnation: str,
        limits: HostLimits | None = None,
        states: States | None = None,
    ) -> None:
        """`states` has the states of state-stored aggregates; None: the domain has none."""
        self._events = Host(registry, eventstore, incarnation, limits)
        self._stored: Host | None = None
        self._storage: StateStorage | None = None
        self._states = states
        self._aggregates = registry.state_stored
        self._commands = {
            command.__rayfold__.name for each in self._aggregates for command in each.commands
        }
        self._categories = {each.category: each for each in self._aggregates}
        if self._aggregates:
            assert states is not None, "a domain with state-stored aggregates needs states"
            self._storage = StateStorage(registry, eventstore, states)
            self._stored = Host(registry, eventstore, incarnation, limits, self._storage)

    async def prepare(self) -> None:
        """Be ready for the domain's states; see `States.prepare` for what it raises."""
        if self._states is not None and self._aggregates:
            await self._states.prepare(self._aggregates)

    async def handle(self, envelopes: Sequence[Envelope]) -> list[Outcome]:
        """Wait until all of the commands have an outcome; return these, in order."""
        return [await outcome for outcome in self.begin(envelopes)]

    def begin(self, envelopes: Sequence[Envelope]) -> list[asyncio.Future[Outcome]]:
        """Take the commands in; return their outcomes to come, in order."""
        if self._stored is None:
            return self._events.begin(envelopes)
        mine = [each.command in self._commands for each in envelopes]
        if all(mine):
            return self._stored.begin(envelopes)
        pairs = list(zip(mine, envelopes, strict=True))
        stored = iter(self._stored.begin([each for is_mine, each in pairs if is_mine]))
        folded = iter(self._events.begin([each for is_mine, each in pairs if not is_mine]))
        return [next(stored if is_mine else folded) for is_mine in mine]

    async def delete(self, stream: str, *, tombstone: bool) -> bool:
        """Delete a stream, with all that is kept of its aggregate; see `Log.delete_stream`."""
        return await self._host_of(stream).delete(stream, tombstone=tombstone)

    async def forget(self, stream: str) -> None:
        """Take no more for granted what is known of a stream, as somebody has deleted it."""
        self._host_of(stream).forget(stream)
        aggregate = self._categories.get(stream.partition("-")[0])
        if aggregate is not None and self._storage is not None:
            await self._storage.deleted(aggregate, stream)

    def catch_up(self, stream: str, revision: int) -> None:
        """See `Host.catch_up`: of event-sourced aggregates, as decisions write to no others."""
        self._events.catch_up(stream, revision)

    def forget_streams(self, gone: Callable[[str], bool]) -> None:
        """See `Host.forget_streams`."""
        for host in self._hosts:
            host.forget_streams(gone)

    async def forget_known(self, knows: Callable[[str], bool]) -> None:
        """See `Host.forget_known`."""
        await asyncio.gather(*(host.forget_known(knows) for host in self._hosts))

    async def refill(self, stream: str) -> None:
        """Write the row of a state-stored aggregate again; see `StateStorage.refill`.

        Between two of its commands: else one of them could write what was known before.
        """
        assert self._stored is not None, "it is asked of state-stored aggregates alone"
        assert self._storage is not None, "it is asked of state-stored aggregates alone"
        async with self._stored.alone_with(stream):
            await self._storage.refill(self._categories[stream.partition("-")[0]], stream)

    def hot(self, most: int) -> list[str]:
        """See `Host.hot`: so many of each kind."""
        return [stream for host in self._hosts for stream in host.hot(most)]

    def warm(self, streams: Iterable[str]) -> None:
        """See `Host.warm`."""
        for stream in streams:
            self._host_of(stream).warm([stream])

    async def passivate(self, resident_bytes: int = 0) -> int:
        """Evict aggregates, and take to the log what others have left in the outbox."""
        evicted = [await host.passivate(resident_bytes) for host in self._hosts]
        return sum(evicted)

    async def take_over(self) -> int:
        """Take to the log what others have left in the outbox; see `StateStorage.take_over`."""
        return await self._storage.take_over() if self._storage is not None else 0

    async def drain(self) -> None:
        """Wait until no command is queued or on its way; then close what only they used."""
        for host in self._hosts:
            await host.drain()
        if self._storage is not None:
            await self._storage.close()
        if self._states is not None:
            await self._states.close()

    @property
    def busy(self) -> bool:
        """Tell whether a command is queued or on its way."""
        return any(host.busy for host in self._hosts)

    def status(self) -> dict[str, Any]:
        """Return counts of both, for operators."""
        counts = [host.status() for host in self._hosts]
        return {name: sum(each[name] for each in counts) for name in counts[0]}

    @property
    def _hosts(self) -> list[Host]:
        return [self._events] if self._stored is None else [self._events, self._stored]

    def _host_of(self, stream: str) -> Host:
        if self._stored is not None and stream.partition("-")[0] in self._categories:
            return self._stored
        return self._events
