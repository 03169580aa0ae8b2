"""Generations in DynamoDB: a view's pointer is an item, and moves in one transaction.

A checkpoint is an item: the position of its partition, the number of partitions, and a *mark* that
changes with each write. A writer that does not know the last mark did not write it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import suppress
from typing import Any

from projections.dynamodb.journal import finish_journal
from projections.dynamodb.keys import BUILDING, LIVE, GenerationKeys, Key, view_key
from projections.dynamodb.rows import LAYOUT, Item
from projections.dynamodb.table import Action, Check, Delete, NotSo, Put, Table, Update
from projections.errors import ProjectionError, ReadStoreUnavailable
from projections.poison import Parked
from projections.stores.documents import fingerprint
from projections.stores.pointed_generations import HELD, NONE, PointedGenerations, Pointer
from rayfold import ViewDefinition
from rayfold.runtime.together import cancel

log = logging.getLogger(__name__)

ANSWERED = 10.0
"""Seconds for a query: replaced generations are kept that long, and no longer."""

GRACE = 3 * ANSWERED
"""Seconds after which a replaced generation is removed: queries on it have ended."""

ATTEMPTS = 20
"""Attempts at a step in which a writer may be faster."""

Checkpoints = Mapping[int, Item]
"""Checkpoint items by partition."""

_IS_NEW = Check("attribute_not_exists(pk)", {})

_IS_SETTLED = Check("attribute_exists(#mark) AND attribute_not_exists(#journal)", {})
"""A condition on a checkpoint: whatever its mark, no write is incomplete."""


class DynamoGenerations(PointedGenerations[Checkpoints]):
    """See `Generations`. Paused writers are known by the checkpoints that they have left."""

    store = "dynamodb"

    def __init__(self, table: Table, stack: str) -> None:
        self._table = table
        self._stack = stack
        self._leaving: set[asyncio.Task[None]] = set()

    def fingerprint_of(self, view: ViewDefinition) -> str:
        """See `PointedGenerations.fingerprint_of`."""
        return fingerprint(self.store, LAYOUT, view)

    def keys_of(self, view: ViewDefinition, generation: str) -> GenerationKeys:
        """Return the keys of a generation."""
        return GenerationKeys(self._stack, view.name, generation, len(view.lists))

    def pointer_key(self, view: ViewDefinition) -> Key:
        """Return the key of a view's pointer."""
        return Key(view_key(self._stack, view.name), LIVE)

    async def pointer(self, view: ViewDefinition) -> Pointer:
        """See `PointedGenerations.pointer`."""
        [found] = await self._table.get([self.pointer_key(view)])
        return pointer_in(found)

    async def checkpoints(self, keys: GenerationKeys) -> Checkpoints:
        """Return a generation's checkpoints."""
        return {int(each["sk"]): each async for each in self._table.all(keys.checkpoints)}

    async def hold(self, keys: GenerationKeys) -> Checkpoints:
        """Pause writers, for a limited time; return the checkpoints, which then do not change."""
        try:
            for _ in range(ATTEMPTS):
                found = await self._settled(keys)
                # Our writers take it as an identifier; those of an older release as the time when
                # it ends.
                until = {"hold": int(time.time() * 1000) + HELD}
                try:
                    return {
                        at: await self._table.update(
                            Update(keys.checkpoint(at), until, _IS_SETTLED)
                        )
                        for at in found
                    }
                except NotSo:
                    continue  # a journal was begun, or the keys were divided anew
        except BaseException:
            with suppress(ReadStoreUnavailable):  # then the pause ends by itself
                await self.release(keys)
            raise
        await self.release(keys)
        raise ReadStoreUnavailable("the writers could not be paused: try again")

    async def release(self, keys: GenerationKeys) -> None:
        """End the pause of writers."""
        for at, each in (await self.checkpoints(keys)).items():
            with suppress(NotSo):
                await self._table.update(
                    Update(keys.checkpoint(at), {"mark": each["mark"], "hold": None}, _still(each))
                )

    async def parked(self, view: ViewDefinition, generation: str) -> AsyncIterator[Parked]:
        """See `PointedGenerations.parked`."""
        names = Parked._fields[1:]
        async for each in self._table.all(self.keys_of(view, generation).parked_events):
            yield Parked(view.name, *(each[name] for name in names))

    async def discard(self, view: ViewDefinition, generation: str) -> None:
        """See `Generations.discard`."""
        if (await self.pointer(view)).live == generation:
            return
        await self._remove(self.keys_of(view, generation))
        await self._begun(view, generation)

    async def close(self) -> None:
        """Stop background work: the next owner removes what is left."""
        await cancel(*self._leaving)

    async def _check(self) -> None:
        await self._table.ensure()

    async def _unfinished(self, view: ViewDefinition) -> Collection[str]:
        begun = self._table.all(view_key(self._stack, view.name), BUILDING)
        return [each["sk"].removeprefix(BUILDING) async for each in begun]

    async def _begin(self, view: ViewDefinition, partitions: int, *, filling: bool) -> str:
        name = secrets.token_hex(6)
        keys = self.keys_of(view, name)
        item = beginning(partitions, 0, filling=filling)
        begun = [Put(keys.checkpoint(at), item) for at in range(partitions)]
        await self._table.write([Put(self._building_key(view, name), {"view": view.name})])
        await self._table.write(begun)
        return name

    async def _begun(self, view: ViewDefinition, generation: str) -> None:
        """Record that a generation is no longer being built, or waiting for removal."""
        await self._table.write([Delete(self._building_key(view, generation))])

    def _building_key(self, view: ViewDefinition, generation: str) -> Key:
        return Key(view_key(self._stack, view.name), f"{BUILDING}{generation}")

    async def _point(self, view: ViewDefinition, old: str, new: str, partitions: int) -> bool:
        actions: list[Action] = [
            self._pointing(view, old, new, partitions),
            Delete(self._building_key(view, new)),
        ]
        if old:
            actions.append(self._leaves(view, old))
        try:
            await self._table.transact(actions)
        except NotSo:
            return False
        return True

    def _leaves(self, view: ViewDefinition, old: str) -> Put:
        """Return the item that records an old generation, which whoever moves the pointer removes.

        If that process ends before, the next owner finds it here.
        """
        return Put(self._building_key(view, old), {"view": view.name})

    def _pointing(
        self, view: ViewDefinition, old: str, new: str, partitions: int, definition: str = ""
    ) -> Update:
        """Return the actions that make a generation live in place of another."""
        check = Check("#live = :old", {":old": old}) if old else _IS_NEW
        changes = {
            "live": new,
            "fingerprint": definition or self.fingerprint_of(view),
            "partitions": partitions,
        }
        return Update(self.pointer_key(view), changes, check)

    async def _cut(self, view: ViewDefinition, pointer: Pointer, number: int) -> None:
        keys = self.keys_of(view, pointer.live)
        old = await self.hold(keys)
        try:
            least = min((each["position"] for each in old.values()), default=0)
            filling = any("filling" in each for each in old.values())
            actions: list[Action] = []
            for at in range(max(number, len(old))):
                key = keys.checkpoint(at)
                check = _still(old[at]) if at in old else _IS_NEW
                if at < number:
                    item = beginning(number, least, filling=filling)
                    actions.append(Put(key, item, check))
                else:
                    actions.append(Delete(key, check))
            where = self._pointing(view, pointer.live, pointer.live, number, pointer.fingerprint)
            await self._table.transact([*actions, where])
        except NotSo as error:
            raise ReadStoreUnavailable(f"the keys of {view.name!r} were cut meanwhile") from error
        except BaseException:
            with suppress(ReadStoreUnavailable):  # then the pause ends by itself
                await self.release(keys)
            raise

    async def _settled(self, keys: GenerationKeys) -> Checkpoints:
        """Return the checkpoints once no write is incomplete."""
        while True:
            found = await self.checkpoints(keys)
            begun = [at for at, each in found.items() if "journal" in each]
            if not begun:
                return found
            for at in begun:
                await finish_journal(self._table, keys, at)

    async def _positions(self, view: ViewDefinition, generation: str) -> Collection[int]:
        found = await self.checkpoints(self.keys_of(view, generation))
        return [each["position"] for each in found.values()]

    async def _hold(self, view: ViewDefinition, live: str) -> tuple[Checkpoints, Collection[int]]:
        found = await self.hold(self.keys_of(view, live))
        return found, [each["position"] for each in found.values()]

    async def _replace(
        self,
        view: ViewDefinition,
        pointer: Pointer,
        generation: str,
        furthest: int,
        hold: Checkpoints,
    ) -> None:
        old, built = self.keys_of(view, pointer.live), self.keys_of(view, generation)
        made = await self.hold(built)
        if 0 not in made or (at := int(made[0]["position"])) < furthest:
            raise ProjectionError(f"the new generation of {view.name!r} is gone")
        for number in range(1, pointer.partitions):
            item = beginning(pointer.partitions, at)
            await self._table.write([Put(built.checkpoint(number), item)])
        first = beginning(pointer.partitions, at)
        try:
            await self._table.transact(
                [
                    Put(built.checkpoint(0), first, _still(made[0])),
                    self._pointing(view, pointer.live, generation, pointer.partitions),
                    self._leaves(view, pointer.live),
                    *(_fence(old.checkpoint(n), each) for n, each in hold.items()),
                ]
            )
        except NotSo as error:
            raise ProjectionError(f"the switch of {view.name!r} took too long") from error

    async def _release(self, view: ViewDefinition, live: str, hold: Checkpoints) -> None:
        await self.release(self.keys_of(view, live))

    async def _retire(self, view: ViewDefinition, generation: str, old: str) -> None:
        """Remove the old live generation later: current queries on it finish first."""
        await self._begun(view, generation)
        keys = self.keys_of(view, old)

        async def later() -> None:
            await asyncio.sleep(GRACE)
            try:
                await self._remove(keys)
                await self._begun(view, old)
            except ReadStoreUnavailable as error:
                log.warning("a generation is left", extra={"error": str(error)})

        task = asyncio.create_task(later())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _remove(self, keys: GenerationKeys) -> None:
        for pk in keys.partition_keys:
            found = [Key(each["pk"], each["sk"]) async for each in self._table.all(pk)]
            await self._table.write(Delete(each) for each in found)


def pointer_in(item: Item | None) -> Pointer:
    """Return the pointer in an item."""
    if item is None:
        return NONE
    return Pointer(item["live"], item["fingerprint"], item["partitions"])


def beginning(partitions: int, position: int, *, filling: bool = False) -> dict[str, Any]:
    """Return a new checkpoint, whose mark no earlier writer knows."""
    item = {"of": partitions, "position": position, "mark": secrets.token_hex(8)}
    return {**item, "filling": True} if filling else item


def _still(item: Item) -> Check:
    return Check("#mark = :mark", {":mark": item["mark"]})


def _fence(checkpoint: Key, item: Item) -> Update:
    """Return the action that fences a checkpoint's last writer, if the checkpoint is unchanged."""
    return Update(checkpoint, {"mark": secrets.token_hex(8)}, _still(item))
