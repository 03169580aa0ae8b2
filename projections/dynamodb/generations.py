"""Generations in DynamoDB: a view's pointer names the live one, and moves in one transaction.

A checkpoint is an item: where its partition is, into how many the keys are cut, and a *mark* that
is another one after each write. Whoever does not know the last mark is not the one who wrote it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from projections.dynamodb.journal import finish_journal
from projections.dynamodb.keys import BUILDING, LIVE, GenerationKeys, Key, view_key
from projections.dynamodb.rows import Item, fingerprint_of
from projections.dynamodb.table import Action, Check, Delete, NotSo, Put, Table, Unchanged, Update
from projections.errors import ProjectionError, ReadStoreUnavailable
from projections.stores.port import Reached
from rayfold import ViewDefinition

log = logging.getLogger(__name__)

HELD = 90_000
"""Milliseconds after which writers go on whose switch nobody has finished."""

GRACE = 5.0
"""Seconds after which rows go that were live: a question that has begun ends sooner."""

ATTEMPTS = 20
"""Of a step that a writer may be faster than."""

IS_NEW = Check("attribute_not_exists(pk)", {})

_IS_SETTLED = Check("attribute_exists(#mark) AND attribute_not_exists(#journal)", {})
"""Of a checkpoint: whatever its mark is, no write is half done."""


class Pointer(NamedTuple):
    """Which generation of a view is live, by which definition; empty where there is none."""

    live: str
    fingerprint: str
    partitions: int


_NONE = Pointer("", "", 0)


class DynamoGenerations:
    """See `Generations`; what is a writer's or a reader's business with them is here too."""

    def __init__(self, table: Table, stack: str) -> None:
        self._table = table
        self._stack = stack
        self._leaving: set[asyncio.Task[None]] = set()

    def keys_of(self, view: ViewDefinition, generation: str) -> GenerationKeys:
        """Return the keys of a generation."""
        return GenerationKeys(self._stack, view.name, generation, len(view.indexes))

    def pointer_key(self, view: ViewDefinition) -> Key:
        """Return the key of a view's pointer."""
        return Key(view_key(self._stack, view.name), LIVE)

    async def pointer(self, view: ViewDefinition) -> Pointer:
        """Return what a view's pointer says."""
        [found] = await self._table.get([self.pointer_key(view)])
        return pointer_in(found)

    async def checkpoints(self, keys: GenerationKeys) -> dict[int, Item]:
        """Return a generation's checkpoints, by partition."""
        return {int(each["sk"]): each async for each in self._table.all(keys.checkpoints)}

    async def prepare(
        self, views: Sequence[ViewDefinition], partitions: Mapping[str, int]
    ) -> list[ViewDefinition]:
        """See `Generations.prepare`."""
        await self._table.ensure()
        stale = []
        for view in views:
            pointer = await self.pointer(view)
            pk = view_key(self._stack, view.name)
            left = [each["sk"] async for each in self._table.all(pk, BUILDING)]
            for each in left:
                await self.discard(view, each.removeprefix(BUILDING))
            if not pointer.live:
                await self.begin_again(view, "", partitions[view.name])
                continue
            if pointer.fingerprint != fingerprint_of(view):
                stale.append(view)
            await self.partition([view], partitions[view.name])
        return stale

    async def begin_again(self, view: ViewDefinition, lost: str, partitions: int) -> None:
        """Put an empty generation in the place of one that is lost, or never was there.

        It answers nothing until it has come to the log's end. Whoever is second changes nothing.
        """
        new = await self._begin(view, partitions, filling=True)
        try:
            await self._table.transact([self._pointing(view, lost, new, partitions)])
        except NotSo:
            await self.discard(view, new)
            return
        await self._begun(view, new)
        log.warning("dynamodb has no rows of a view: they are folded", extra={"view": view.name})
        if lost:
            await self._remove(self.keys_of(view, lost))

    async def partition(self, views: Sequence[ViewDefinition], number: int) -> None:
        """See `Generations.partition`."""
        for view in views:
            pointer = await self.pointer(view)
            if pointer.live and pointer.partitions != number:
                await self._recut(view, pointer, number)

    async def _recut(self, view: ViewDefinition, pointer: Pointer, number: int) -> None:
        keys = self.keys_of(view, pointer.live)
        old = await self.hold(keys)
        try:
            least = min((each["position"] for each in old.values()), default=0)
            filling = any("filling" in each for each in old.values())
            actions: list[Action] = []
            for at in range(max(number, len(old))):
                key = keys.checkpoint(at)
                check = _still(old[at]) if at in old else IS_NEW
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
            with suppress(ReadStoreUnavailable):  # then it ends by itself
                await self.release(keys)
            raise

    async def _settled(self, keys: GenerationKeys) -> dict[int, Item]:
        """Return the checkpoints, with no write half done."""
        while True:
            found = await self.checkpoints(keys)
            begun = [at for at, each in found.items() if "journal" in each]
            if not begun:
                return found
            for at in begun:
                await finish_journal(self._table, keys, at)

    async def begin(self, view: ViewDefinition) -> str:
        """See `Generations.begin`."""
        return await self._begin(view, 1, filling=False)

    async def finish(self, view: ViewDefinition, generation: str) -> None:
        """Do nothing: lists are kept as rows are written."""

    async def furthest(self, view: ViewDefinition) -> int:
        """See `Generations.furthest`."""
        pointer = await self.pointer(view)
        found = await self.checkpoints(self.keys_of(view, pointer.live))
        return max((each["position"] for each in found.values()), default=0)

    async def switch(self, view: ViewDefinition, generation: str, reached: Reached) -> None:
        """See `Generations.switch`."""
        pointer = await self.pointer(view)
        if not pointer.live:
            raise ProjectionError(f"no generation of {view.name!r} is live")
        old, built = self.keys_of(view, pointer.live), self.keys_of(view, generation)
        live = await self.hold(old)
        try:
            furthest = max((each["position"] for each in live.values()), default=0)
            if not await reached(furthest):
                raise ProjectionError(f"the new generation of {view.name!r} did not catch up")
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
                        *(Unchanged(old.checkpoint(n), _still(each)) for n, each in live.items()),
                    ]
                )
            except NotSo as error:
                raise ProjectionError(f"the switch of {view.name!r} took too long") from error
        except BaseException:
            with suppress(ReadStoreUnavailable):  # then it ends by itself
                await self.release(old)
            raise
        await self._begun(view, generation)
        self._remove_later(old)

    async def hold(self, keys: GenerationKeys) -> dict[int, Item]:
        """Let writers wait, for a time that ends by itself; return the checkpoints as they stay."""
        for _ in range(ATTEMPTS):
            found = await self._settled(keys)
            until = {"hold": int(time.time() * 1000) + HELD}
            try:
                return {
                    at: await self._table.update(Update(keys.checkpoint(at), until, _IS_SETTLED))
                    for at in found
                }
            except NotSo:
                continue  # a journal was begun, or the keys were cut
        raise ReadStoreUnavailable("writers do not let anybody in between: try again")

    async def release(self, keys: GenerationKeys) -> None:
        """Let writers go on."""
        for at, each in (await self.checkpoints(keys)).items():
            with suppress(NotSo):
                await self._table.update(
                    Update(keys.checkpoint(at), {"mark": each["mark"], "hold": None}, _still(each))
                )

    async def discard(self, view: ViewDefinition, generation: str) -> None:
        """See `Generations.discard`."""
        if (await self.pointer(view)).live == generation:
            return
        await self._remove(self.keys_of(view, generation))
        await self._begun(view, generation)

    def _remove_later(self, keys: GenerationKeys) -> None:
        """Remove what was live: whoever asks it now has its answer first."""

        async def later() -> None:
            await asyncio.sleep(GRACE)
            try:
                await self._remove(keys)
            except ReadStoreUnavailable as error:
                log.warning("a generation is left", extra={"error": str(error)})

        task = asyncio.create_task(later())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _remove(self, keys: GenerationKeys) -> None:
        for pk in keys.partition_keys:
            found = [Key(each["pk"], each["sk"]) async for each in self._table.all(pk)]
            await self._table.write(Delete(each) for each in found)

    async def close(self) -> None:
        """End what goes on by itself: the next owner removes what is left."""
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)

    async def _begin(self, view: ViewDefinition, partitions: int, *, filling: bool) -> str:
        """Make an empty generation; one that is `filling` answers nothing before it caught up."""
        name = secrets.token_hex(6)
        keys = self.keys_of(view, name)
        building = Key(view_key(self._stack, view.name), f"{BUILDING}{name}")
        item = beginning(partitions, 0, filling=filling)
        begun = [Put(keys.checkpoint(at), item) for at in range(partitions)]
        await self._table.write([Put(building, {"view": view.name})])
        await self._table.write(begun)
        return name

    async def _begun(self, view: ViewDefinition, generation: str) -> None:
        """Note that a generation is not in the making any more."""
        building = Key(view_key(self._stack, view.name), f"{BUILDING}{generation}")
        await self._table.write([Delete(building)])

    def _pointing(
        self, view: ViewDefinition, old: str, new: str, partitions: int, fingerprint: str = ""
    ) -> Update:
        """Return what makes a generation live in the place of another."""
        check = Check("#live = :old", {":old": old}) if old else IS_NEW
        changes = {
            "live": new,
            "fingerprint": fingerprint or fingerprint_of(view),
            "partitions": partitions,
        }
        return Update(self.pointer_key(view), changes, check)


def pointer_in(item: Item | None) -> Pointer:
    """Return what an item of a pointer says."""
    if item is None:
        return _NONE
    return Pointer(item["live"], item["fingerprint"], item["partitions"])


def beginning(partitions: int, position: int, *, filling: bool = False) -> dict[str, Any]:
    """Return a new checkpoint, which nobody knows who has the one before."""
    item = {"of": partitions, "position": position, "mark": secrets.token_hex(8)}
    return {**item, "filling": True} if filling else item


def _still(item: Item) -> Check:
    return Check("#mark = :mark", {":mark": item["mark"]})
