"""Writing one partition of some views in DynamoDB, with fenced transactions.

A transaction's changes are collected here, and sent to DynamoDB as one transaction per view, with
the view's checkpoint. If one view was written and another not, their checkpoints show it, and the
log is read from the earlier one.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from projections.dynamodb.generations import DynamoGenerations, pointer_in
from projections.dynamodb.journal import Change, finish_journal, fits, write_journal
from projections.dynamodb.keys import GenerationKeys, Key
from projections.dynamodb.rows import Item, RowCodec
from projections.dynamodb.table import Check, Delete, NotSo, Put, Table, Update
from projections.errors import Fenced, ProjectionError
from projections.poison import Held, Parked
from projections.stores.pointed_generations import HELD
from projections.stores.pointed_writer import PointedWriter
from rayfold import VersionedRow, ViewDefinition

WAIT = 0.05
"""Seconds between two attempts while a switch pauses writers."""

LOOK = 5.0
"""Seconds between checks that everything still exists, while nothing is written."""


class TooMuch(ProjectionError):
    """More items than fit into one transaction: fewer events at a time may help."""


class _Kept:
    """One view's generation as the writer knows it."""

    def __init__(self, view: ViewDefinition, keys: GenerationKeys, mark: str) -> None:
        self.view = view
        self.keys = keys
        self.codec = RowCodec(view, keys)
        self.mark = mark
        self.coming = mark
        """The mark that it may have by now: a transaction is in progress."""
        self.hold: int | None = None
        """The switch for which it waits, as the checkpoint identifies it."""
        self.since = 0.0
        """When that was first seen, by our own clock: hosts' clocks differ."""

    def waits_for(self, hold: int | None) -> None:
        """Record the pause in the checkpoint, also while nothing is written.

        Otherwise the next event, a day later, would wait for a switch that has died.
        """
        if hold != self.hold:
            self.hold, self.since = hold, time.monotonic()


class DynamoWriter(PointedWriter[DynamoGenerations, _Kept]):
    """See `Writer`; `building` has generations being built, by view."""

    def __init__(
        self,
        table: Table,
        generations: DynamoGenerations,
        views: Sequence[ViewDefinition],
        partition: int,
        partitions: int,
        building: Mapping[str, str],
    ) -> None:
        super().__init__(generations, views, partition, partitions, building)
        self.table = table

    async def _open(self, view: ViewDefinition, generation: str) -> None:
        keys = self._generations.keys_of(view, generation)
        await finish_journal(self.table, keys, self._partition)
        [checkpoint] = await self.table.get([keys.checkpoint(self._partition)])
        if checkpoint is None and not await self._generations.checkpoints(keys):
            raise await self._lost(view, generation)
        if checkpoint is None or checkpoint["of"] != self._partitions:
            raise Fenced("the key space is partitioned in another way, or the generation is gone")
        kept = _Kept(view, keys, checkpoint["mark"])
        kept.waits_for(checkpoint.get("hold"))
        self._opened(view, kept, checkpoint["position"], filling="filling" in checkpoint)

    @asynccontextmanager
    async def transaction(self, to: Mapping[str, int]) -> AsyncIterator[DynamoTransaction]:
        """See `Writer.transaction`."""
        transaction = DynamoTransaction(self, to)
        yield transaction
        each = {view: list(changes.values()) for view, changes in transaction.changes.items()}
        for view, changes in each.items():  # before any of them is written
            if not fits(changes) and _events(changes) > 1:
                raise TooMuch(f"{len(changes)} items of {view!r} are too many at once")
        done = await asyncio.gather(
            *(self._commit(view, transaction.to[view], changes) for view, changes in each.items()),
            return_exceptions=True,
        )
        for error in done:
            if error is not None:
                raise error

    async def _commit(self, view: str, position: int, changes: list[Change]) -> None:
        kept = self.kept[view]
        at, mark = kept.keys.checkpoint(self._partition), secrets.token_hex(8)
        kept.coming = mark
        moved: dict[str, Any] = {"mark": mark}
        if fits(changes):
            moved["position"] = position
        else:
            name, entries = await write_journal(self.table, kept.keys, self._partition, changes)
            moved |= {"journal": name, "entries": entries, "next": position}
            changes = []
        while True:
            free = Check("attribute_not_exists(#hold)", {})
            if kept.hold is not None and time.monotonic() - kept.since > HELD / 1000:
                # That switch was not finished.
                free = Check("#hold = :hold", {":hold": kept.hold})
                moved["hold"] = None
            check = Check(
                f"#mark = :known AND attribute_not_exists(#journal) AND {free.text}",
                {":known": kept.mark, **free.values},
            )
            try:
                await self.table.transact([Update(at, moved, check), *changes])
                break
            except NotSo:
                [found] = await self.table.get([at])
                if found is None or found["mark"] != kept.mark or "journal" in found:
                    raise Fenced(f"another process has written {view!r}") from None
                kept.waits_for(found.get("hold"))
            await asyncio.sleep(WAIT)
        if "journal" in moved:
            await finish_journal(self.table, kept.keys, self._partition)
            [found] = await self.table.get([at])
            if found is None or found["mark"] != mark or "journal" in found:
                raise Fenced(f"another process writes {view!r}")
        kept.mark = mark
        kept.waits_for(None)
        self.positions[view] = position

    async def _filled(self, kept: _Kept) -> bool:
        check = Check("#mark = :known", {":known": kept.mark})
        changes = {"mark": kept.mark, "filling": None}
        try:
            await self.table.update(Update(kept.keys.checkpoint(self._partition), changes, check))
        except NotSo:
            return False
        return True

    async def lost(self) -> None:
        """See `Writer.lost`: a table may be emptied or restored while nothing is written."""
        while True:
            await asyncio.sleep(LOOK)
            kept = list(self.kept.values())
            marks = [(each.mark, each.coming) for each in kept]
            places = [each.keys.checkpoint(self._partition) for each in kept]
            pointers = [self._generations.pointer_key(each.view) for each in kept]
            found = await self.table.get([*places, *pointers])
            items, pointed = found[: len(kept)], found[len(kept) :]
            for each, known, item, pointer in zip(kept, marks, items, pointed, strict=True):
                view = each.view.name
                if item is None:
                    raise Fenced(f"rows of {view!r} are lost")
                if view not in self._building and pointer_in(pointer).live != each.keys.generation:
                    raise Fenced(f"another generation of {view!r} is live, or none")
                if (each.mark, each.coming) != known:
                    continue  # it has written meanwhile, and was not refused
                if item["mark"] not in known:
                    raise Fenced(f"the checkpoint of {view!r} is not what it was")
                each.waits_for(item.get("hold"))


class DynamoTransaction:
    """See `Transaction`; `to` has checkpoints by view."""

    def __init__(self, writer: DynamoWriter, to: Mapping[str, int]) -> None:
        self._writer = writer
        self.to: dict[str, int] = {}
        self.changes: dict[str, dict[Key, Change]] = {}
        for view, position in to.items():
            self._of(view)
            self.to[view] = max(position, writer.positions[view])

    def _of(self, view: str) -> dict[Key, Change]:
        self.to.setdefault(view, self._writer.positions[view])
        return self.changes.setdefault(view, {})

    async def load(self, view: str, keys: Collection[str]) -> dict[str, VersionedRow]:
        """See `Transaction.load`. If rows are read without fencing, the write is refused."""
        kept = self._writer.kept[view]
        asked = list(keys)
        found = await self._writer.table.get([kept.keys.row(key) for key in asked])
        return {
            key: kept.codec.decode(item)
            for key, item in zip(asked, found, strict=True)
            if item is not None
        }

    async def store(
        self,
        view: str,
        rows: Mapping[str, VersionedRow | None],
        before: Mapping[str, VersionedRow],
        new: Collection[str] = (),
    ) -> None:
        """See `Transaction.store`."""
        kept, changes = self._writer.kept[view], self._of(view)
        for key, row in rows.items():
            own = kept.keys.row(key)
            if row is None:
                changes[own] = Delete(own)
            else:
                changes[own] = Put(own, kept.codec.encode(key, row))
            was, now = kept.codec.members(key, before.get(key)), kept.codec.members(key, row)
            for old, member in zip(was, now, strict=True):
                if old == member:
                    continue
                if old is not None:
                    changes[old] = Delete(old)
                if member is not None:
                    changes[member] = Put(member, {"key": key})

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """See `Transaction.savepoint`."""
        before = {view: {**changes} for view, changes in self.changes.items()}
        try:
            yield
        except BaseException:
            self.changes = before
            raise

    async def park(self, parked: Collection[Parked], held: Collection[Held]) -> None:
        """See `Transaction.park`."""
        places = [self._keys(each.view).parked(each.key, each.stream) for each in parked]
        known = await self._writer.table.get(places) if places else []
        for place, kept, each in zip(places, known, parked, strict=True):
            changes = self._of(each.view)
            if kept is None or isinstance(changes.get(place), Delete):
                changes[place] = Put(place, _told(each))
        for waits in held:
            place = self._keys(waits.view).held(waits.key, waits.stream, waits.position)
            self._of(waits.view)[place] = Put(place, _told(waits))

    async def release(self, parked: Parked) -> list[Held]:
        """See `Transaction.release`."""
        await self.forget([parked])
        return [
            Held(parked.view, *(each[name] for name in Held._fields[1:]))
            for each in await self._held(parked.view, parked.key)
        ]

    async def forget(self, parked: Collection[Parked]) -> None:
        """See `Transaction.forget`."""
        for each in parked:
            keys, changes = self._keys(each.view), self._of(each.view)
            own = keys.parked(each.key, each.stream)
            gone = [own]
            if each.key:
                gone += [Key(h["pk"], h["sk"]) for h in await self._held(each.view, each.key)]
            changes.update({place: Delete(place) for place in gone})

    async def put_back(self, view: str, position: int) -> None:
        """See `Transaction.put_back`."""
        self._of(view)
        self.to[view] = position

    async def _held(self, view: str, key: str) -> list[Item]:
        keys = self._keys(view)
        return [
            each
            async for each in self._writer.table.all(keys.held_events, keys.held_of(key))
            if each["key"] == key
        ]

    def _keys(self, view: str) -> GenerationKeys:
        return self._writer.kept[view].keys


def _told(each: Parked | Held) -> dict[str, Any]:
    told = each._asdict()
    del told["view"]
    return told


def _events(changes: Sequence[Change]) -> int:
    """Return the number of events that have last changed the rows."""
    return len({c.item["position"] for c in changes if isinstance(c, Put) and "doc" in c.item})
