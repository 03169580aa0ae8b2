"""States in this process, for a user's fast tests: the same guarantees, but nothing is on disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from actors.host.state.port import Change, Kept, KeptCommand, StatesUnavailable
from eventstore.records import NewRecord
from rayfold import Message
from rayfold.aggregate import AggregateType


@dataclass
class _Row:
    state: Message
    version: int
    began: int
    commands: dict[int, KeptCommand] = field(default_factory=dict)
    outbox: dict[int, NewRecord] = field(default_factory=dict)
    written_at: float = 0.0


class MemoryStates:
    """See `States` for what each method promises.

    With `down = True` it behaves like an unreachable Postgres.
    """

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}
        self.down = False

    async def prepare(self, aggregates: Sequence[AggregateType]) -> None:
        """See `States.prepare`."""

    async def load(self, aggregate: AggregateType, stream: str) -> Kept | None:
        """See `States.load`."""
        await self._reached()
        row = self._rows.get(stream)
        if row is None:
            return None
        commands, outbox = list(row.commands.values()), sorted(row.outbox.items())
        return Kept(row.state, row.version, row.began, commands, outbox, current=True)

    async def commit(self, changes: Sequence[Change], relayed: dict[str, int]) -> list[bool]:
        """See `States.commit`."""
        await self._reached()
        for stream, revision in relayed.items():
            row = self._rows.get(stream)
            if row is not None:
                row.outbox = {at: each for at, each in row.outbox.items() if at > revision}
        return [self._write(change) for change in changes]

    def _write(self, change: Change) -> bool:
        row = self._rows.get(change.stream)
        if (row.version if row is not None else -1) != change.expected:
            return False
        if row is None:
            row = self._rows[change.stream] = _Row(change.state, change.version, change.began)
        row.state, row.version, row.began = change.state, change.version, change.began
        row.written_at = time.monotonic()
        if change.empties_outbox:
            row.outbox.clear()
        first = change.version + 1 - len(change.records)
        row.outbox |= {first + number: each for number, each in enumerate(change.records)}
        if change.whole:
            row.commands.clear()
        row.commands |= {each.number: each for each in change.commands}
        row.commands = {
            number: each for number, each in row.commands.items() if number > change.forget_up_to
        }
        return True

    async def remove(self, aggregate: AggregateType, stream: str, expected: int) -> bool:
        """See `States.remove`."""
        await self._reached()
        row = self._rows.get(stream)
        if row is None or row.version != expected:
            return False
        del self._rows[stream]
        return True

    async def waiting(
        self, categories: list[str], older_than: float, after: str, limit: int
    ) -> list[str]:
        """See `States.waiting`."""
        await self._reached()
        before = time.monotonic() - older_than
        found = (
            stream for stream, row in self._rows.items() if row.outbox and row.written_at <= before
        )
        return sorted(stream for stream in found if stream > after)[:limit]

    async def ids(self, aggregate: AggregateType, after: str, limit: int) -> list[str]:
        """See `States.ids`."""
        await self._reached()
        prefix = f"{aggregate.category}-"
        ids = (each.removeprefix(prefix) for each in self._rows if each.startswith(prefix))
        return sorted(each for each in ids if each > after)[:limit]

    async def close(self) -> None:
        """See `States.close`."""

    async def _reached(self) -> None:
        if not self.down:
            await asyncio.sleep(0)  # like a real store, it lets other tasks run in between
        if self.down:
            raise StatesUnavailable("Postgres does not answer: it is down")
