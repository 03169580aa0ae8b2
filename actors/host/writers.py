"""The two hosts of a process: one for event-sourced aggregates, one for state-stored ones.

They share nothing: neither waits for a store that only the other needs.
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
        """`states` stores the state-stored aggregates; None if the domain has none."""
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
        """Prepare the storage of the domain's states; see `States.prepare` for what it raises."""
        if self._states is not None and self._aggregates:
            await self._states.prepare(self._aggregates)

    async def handle(self, envelopes: Sequence[Envelope]) -> list[Outcome]:
        """Wait until every command has an outcome; return the outcomes in order."""
        return [await outcome for outcome in self.begin(envelopes)]

    def begin(self, envelopes: Sequence[Envelope]) -> list[asyncio.Future[Outcome]]:
        """Accept commands; return a future for each outcome, in order."""
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
        """Delete a stream and everything stored for its aggregate; see `Log.delete_stream`."""
        return await self._host_of(stream).delete(stream, tombstone=tombstone)

    async def forget(self, stream: str) -> None:
        """Discard the cached state of a stream that another client has deleted."""
        self._host_of(stream).forget(stream)
        aggregate = self._categories.get(stream.partition("-")[0])
        if aggregate is not None and self._storage is not None:
            await self._storage.deleted(aggregate, stream)

    def catch_up(self, stream: str, revision: int) -> None:
        """See `Host.catch_up`; for event-sourced aggregates, as decisions write to no others."""
        self._events.catch_up(stream, revision)

    def forget_streams(self, gone: Callable[[str], bool]) -> None:
        """See `Host.forget_streams`."""
        for host in self._hosts:
            host.forget_streams(gone)

    async def forget_known(self, knows: Callable[[str], bool]) -> None:
        """See `Host.forget_known`."""
        await asyncio.gather(*(host.forget_known(knows) for host in self._hosts))

    async def refill(self, stream: str) -> None:
        """Rewrite the row of a state-stored aggregate; see `StateStorage.refill`.

        This happens between two of its commands: otherwise one of them could write the old state.
        """
        assert self._stored is not None, "it is asked of state-stored aggregates alone"
        assert self._storage is not None, "it is asked of state-stored aggregates alone"
        async with self._stored.alone_with(stream):
            await self._storage.refill(self._categories[stream.partition("-")[0]], stream)

    def hot(self, most: int) -> list[str]:
        """See `Host.hot`: up to `most` streams of each kind."""
        return [stream for host in self._hosts for stream in host.hot(most)]

    def warm(self, streams: Iterable[str]) -> None:
        """See `Host.warm`."""
        for stream in streams:
            self._host_of(stream).warm([stream])

    async def passivate(self, resident_bytes: int = 0) -> int:
        """Evict aggregates, and relay to the log what other writers have left in the outbox."""
        evicted = [await host.passivate(resident_bytes) for host in self._hosts]
        return sum(evicted)

    async def take_over(self) -> int:
        """Relay what other writers have left in the outbox; see `StateStorage.take_over`."""
        return await self._storage.take_over() if self._storage is not None else 0

    async def drain(self) -> None:
        """Wait until no command is queued or in progress; then close what only these hosts used."""
        for host in self._hosts:
            await host.drain()
        if self._storage is not None:
            await self._storage.close()
        if self._states is not None:
            await self._states.close()

    @property
    def busy(self) -> bool:
        """Return whether a command is queued or in progress."""
        return any(host.busy for host in self._hosts)

    def status(self) -> dict[str, Any]:
        """Return the counts of both hosts, for operators."""
        counts = [host.status() for host in self._hosts]
        return {name: sum(each[name] for each in counts) for name in counts[0]}

    @property
    def _hosts(self) -> list[Host]:
        return [self._events] if self._stored is None else [self._events, self._stored]

    def _host_of(self, stream: str) -> Host:
        if self._stored is not None and stream.partition("-")[0] in self._categories:
            return self._stored
        return self._events
