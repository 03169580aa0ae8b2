"""Writing one partition of some views in Redis, with fenced transactions.

A transaction is collected here and sent to Redis as one script per view, in one request: each view
has its rows, lists and checkpoint in one slot. If one view was written and another not, their
checkpoints show it, and the log is read from the earlier one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import copy
from typing import Any

import msgspec

from projections.errors import Fenced
from projections.poison import Held, Parked
from projections.redis.generations import RedisGenerations
from projections.redis.keys import (
    GenerationKeys,
    held_member,
    held_parts,
    held_range,
    parked_field,
)
from projections.redis.rows import RowCodec
from projections.redis.scripts import CAUGHT_UP, COMMIT, WHOLE
from projections.redis.server import Call, Server
from projections.stores.pointed_writer import PointedWriter
from rayfold import VersionedRow, ViewDefinition

WAIT = 0.02
"""Seconds between two attempts while a switch pauses writers."""

LOOK = 0.5
"""Seconds between checks that everything still exists, while nothing is written."""


class _Kept:
    """One view's generation as the writer knows it."""

    def __init__(self, view: ViewDefinition, keys: GenerationKeys, checkpoint: str) -> None:
        self.view = view
        self.keys = keys
        self.codec = RowCodec(view)
        self.checkpoint = checkpoint
        self.coming = checkpoint
        """The checkpoint that it may have by now: a transaction is in progress."""


class RedisWriter(PointedWriter[RedisGenerations, _Kept]):
    """See `Writer`; `building` has generations being built, by view."""

    def __init__(
        self,
        server: Server,
        generations: RedisGenerations,
        views: Sequence[ViewDefinition],
        partition: int,
        partitions: int,
        building: Mapping[str, str],
    ) -> None:
        super().__init__(generations, views, partition, partitions, building)
        self.server = server

    async def _check(self) -> None:
        await self.server.check()

    async def _open(self, view: ViewDefinition, generation: str) -> None:
        keys = self._generations.keys_of(view, generation)
        said = await self._whole(view, keys)
        if said.get("partitions") != str(self._partitions):
            raise Fenced("the key space is partitioned in another way")
        checkpoint = said[f"p{self._partition}"]
        kept = _Kept(view, keys, checkpoint)
        self._opened(view, kept, _position_of(checkpoint), filling=f"f{self._partition}" in said)

    async def _whole(self, view: ViewDefinition, keys: GenerationKeys) -> dict[str, str]:
        """Return a generation's `meta`; an incomplete generation begins again."""
        state, *more = await self.server.run(WHOLE, keys.written)
        if state != b"OK":
            raise await self._lost(view, keys.generation)
        flat = [each.decode() for each in more[0]]
        return dict(zip(flat[::2], flat[1::2], strict=True))

    @asynccontextmanager
    async def transaction(self, to: Mapping[str, int]) -> AsyncIterator[RedisTransaction]:
        """See `Writer.transaction`."""
        transaction = RedisTransaction(self, to)
        yield transaction
        await self._commit(transaction.changes)

    async def _commit(self, changes: Mapping[str, _Changes]) -> None:
        left = {
            view: (each, _checkpoint(each.to))
            for view, each in changes.items()
            if each.to != self.positions[view] or not each.is_empty
        }
        for view, (_, checkpoint) in left.items():
            self.kept[view].coming = checkpoint
        while left:
            calls = [self._call(view, *each) for view, each in left.items()]
            results = await self.server.run_all(calls)
            for (view, (each, checkpoint)), result in zip([*left.items()], results, strict=True):
                if result == b"OK":
                    self.kept[view].checkpoint = checkpoint
                    self.positions[view] = each.to
                    del left[view]
                elif result == b"FENCED":
                    raise Fenced(f"another process has written {view!r}")
            if left:
                await asyncio.sleep(WAIT)

    def _call(self, view: str, changes: _Changes, checkpoint: str) -> Call:
        kept = self.kept[view]
        arguments = [f"p{self._partition}", kept.checkpoint, checkpoint, *changes.arguments()]
        return COMMIT, kept.keys.written, arguments

    async def _filled(self, kept: _Kept) -> bool:
        told = [self._partition, kept.checkpoint]
        return bool(await self.server.run(CAUGHT_UP, [kept.keys.meta], told) == b"OK")

    async def lost(self) -> None:
        """See `Writer.lost`: a server may be emptied while nothing is written."""
        while True:
            await asyncio.sleep(LOOK)
            for view, kept in list(self.kept.items()):
                if view not in self._building:
                    live = await self._generations.live(kept.view)
                    if live != kept.keys.generation:
                        raise Fenced(f"another generation of {view!r} is live, or none")
                ours = kept.checkpoint
                said = await self._whole(kept.view, kept.keys)
                found = said.get(f"p{self._partition}")
                if found not in (ours, kept.checkpoint, kept.coming):
                    # Another writer has moved it, or the server was restored to an earlier moment.
                    raise Fenced(f"the checkpoint of {view!r} is not what it was")


class _Changes:
    """The changes of a transaction to one view; `to` is its new checkpoint."""

    def __init__(self, to: int, lists: int) -> None:
        self.to = to
        self._lists = lists
        self.rows: dict[bytes, tuple[bytes, list[bytes], list[bytes]]] = {}
        """By key: the value, empty if the row is removed; then the old and new members."""
        self.forgotten: list[bytes] = []
        self.parked: list[tuple[bytes, bytes]] = []
        self.held: list[bytes] = []
        self.released: list[tuple[bytes, bytes]] = []

    def __copy__(self) -> _Changes:
        other = _Changes(self.to, self._lists)
        other.rows, other.forgotten, other.parked = {**self.rows}, [*self.forgotten], [*self.parked]
        other.held, other.released = [*self.held], [*self.released]
        return other

    @property
    def is_empty(self) -> bool:
        """Whether only the checkpoint changes."""
        lists = self.rows, self.forgotten, self.parked, self.held, self.released
        return not any(lists)

    def arguments(self) -> list[Any]:
        """Return the script's arguments, in order."""
        told: list[Any] = [len(self.rows)]
        nothing = [b"", b""] * self._lists
        for key, (value, was, now) in self.rows.items():
            told += key, value
            if was == now:
                told += nothing
            else:
                for pair in zip(was, now, strict=True):
                    told += pair
        told += [len(self.forgotten), *self.forgotten, len(self.released), *_flat(self.released)]
        return [*told, len(self.parked), *_flat(self.parked), len(self.held), *self.held]


class RedisTransaction:
    """See `Transaction`; `to` has checkpoints by view."""

    def __init__(self, writer: RedisWriter, to: Mapping[str, int]) -> None:
        self._writer = writer
        self.changes: dict[str, _Changes] = {}
        for view, position in to.items():
            self._of(view).to = max(position, writer.positions[view])

    def _of(self, view: str) -> _Changes:
        found = self.changes.get(view)
        if found is None:
            lists = 1 + len(self._writer.kept[view].keys.by)
            found = self.changes[view] = _Changes(self._writer.positions[view], lists)
        return found

    async def load(self, view: str, keys: Collection[str]) -> dict[str, VersionedRow]:
        """See `Transaction.load`. If rows are read without fencing, the write is refused."""
        kept = self._writer.kept[view]
        if not keys:
            return {}
        asked = list(keys)
        values = await self._writer.server.ask(
            self._writer.server.client.hmget(kept.keys.rows, asked)
        )
        decode = kept.codec.decode
        return {
            key: decode(value)
            for key, value in zip(asked, values, strict=True)
            if value is not None
        }

    async def store(
        self,
        view: str,
        rows: Mapping[str, VersionedRow | None],
        before: Mapping[str, VersionedRow],
        new: Collection[str] = (),
    ) -> None:
        """See `Transaction.store`.

        Raises:
            RowTooLarge: none of these rows was accepted.
        """
        codec, changes = self._writer.kept[view].codec, self._of(view)
        taken = {}
        for text, row in rows.items():
            key = text.encode()
            value = b"" if row is None else codec.encode(key, row)
            taken[key] = value, codec.members(key, before.get(text)), codec.members(key, row)
        changes.rows |= taken

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """See `Transaction.savepoint`."""
        kept = {view: copy(each) for view, each in self.changes.items()}
        try:
            yield
        except BaseException:
            self.changes = kept
            raise

    async def park(self, parked: Collection[Parked], held: Collection[Held]) -> None:
        """See `Transaction.park`."""
        for each in parked:
            value = msgspec.json.encode(tuple(each))
            self._of(each.view).parked.append((parked_field(each.key, each.stream), value))
        for place in held:
            view, key, stream, revision, position = place
            self._of(view).held.append(held_member(key, position, stream, revision))

    async def release(self, parked: Parked) -> list[Held]:
        """See `Transaction.release`."""
        await self.forget([parked])
        view, key = parked.view, parked.key
        members = await self._writer.server.ask(
            self._writer.server.client.zrangebylex(
                self._writer.kept[view].keys.held, *held_range(key)
            )
        )
        places = (held_parts(member) for member in members)
        return [Held(view, key, stream, revision, at) for at, revision, stream in places]

    async def forget(self, parked: Collection[Parked]) -> None:
        """See `Transaction.forget`."""
        for each in parked:
            changes = self._of(each.view)
            changes.forgotten.append(parked_field(each.key, each.stream))
            if each.key:
                changes.released.append(held_range(each.key))

    async def put_back(self, view: str, position: int) -> None:
        """See `Transaction.put_back`."""
        self._of(view).to = position


def _checkpoint(position: int) -> str:
    return f"{position:020d} {secrets.token_hex(4)}"


def _position_of(checkpoint: str) -> int:
    return int(checkpoint[:20])


def _flat(pairs: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    return [each for pair in pairs for each in pair]
