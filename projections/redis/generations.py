"""Generations in Redis: a view's pointer names the live one, and moves to another in one step.

The pointer and each generation are in slots of their own, so that no step changes two of them. A
switch therefore lets writers of the live one wait (`hold`), for a time that ends by itself.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from projections.errors import ProjectionError, ReadStoreUnavailable
from projections.redis.keys import GenerationKeys, pointer_of
from projections.redis.rows import fingerprint_of
from projections.redis.scripts import HOLD, POINT, RECUT, RELEASE, STILL_HELD
from projections.redis.server import Server, answering
from projections.stores.port import Reached
from rayfold import ViewDefinition

log = logging.getLogger(__name__)

HELD = 90_000
"""Milliseconds after which writers go on whose switch nobody has finished."""

BEGINNING = f"{0:020d}"

_BUILDING = "b:"
"""In a pointer, what the names of generations in the making begin with."""


class Pointer(NamedTuple):
    """Which generation of a view is live, by which definition; empty where there is none."""

    live: str
    fingerprint: str
    partitions: int
    building: list[str]


class RedisGenerations:
    """See `Generations`; what is a writer's or a reader's business with them is here too."""

    def __init__(self, server: Server, stack: str) -> None:
        self._server = server
        self._stack = stack

    def keys_of(self, view: ViewDefinition, generation: str) -> GenerationKeys:
        """Return the keys of a generation."""
        return GenerationKeys(self._stack, view.name, generation, len(view.indexes))

    def pointer_key(self, view: ViewDefinition) -> str:
        """Return the key of a view's pointer."""
        return pointer_of(self._stack, view.name)

    async def pointer(self, view: ViewDefinition) -> Pointer:
        """Return what a view's pointer says."""
        with answering():
            found = await self._server.ask(self._server.client.hgetall(self.pointer_key(view)))
        said = {name.decode(): value.decode() for name, value in found.items()}
        building = [each.removeprefix(_BUILDING) for each in said if each.startswith(_BUILDING)]
        return Pointer(
            said.get("live", ""),
            said.get("fingerprint", ""),
            int(said.get("partitions", 0)),
            building,
        )

    async def live(self, view: ViewDefinition) -> str:
        """Return the name of the live generation; empty where there is none."""
        with answering():
            found = await self._server.ask(self._server.client.hget(self.pointer_key(view), "live"))
        return found.decode() if found else ""

    async def prepare(
        self, views: Sequence[ViewDefinition], partitions: Mapping[str, int]
    ) -> list[ViewDefinition]:
        """See `Generations.prepare`."""
        await self._server.check()
        stale = []
        for view in views:
            pointer = await self.pointer(view)
            for left in pointer.building:
                await self.discard(view, left)
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
        if await self._point(view, lost, new, partitions):
            log.warning("redis has no rows of a view: they are folded", extra={"view": view.name})
            await self.discard(view, lost)
        else:
            await self.discard(view, new)

    async def partition(self, views: Sequence[ViewDefinition], number: int) -> None:
        """See `Generations.partition`."""
        for view in views:
            pointer = await self.pointer(view)
            if not pointer.live or pointer.partitions == number:
                continue
            await self._recut(self.keys_of(view, pointer.live), number)
            with answering():
                await self._server.ask(
                    self._server.client.hset(self.pointer_key(view), "partitions", str(number))
                )

    async def begin(self, view: ViewDefinition) -> str:
        """See `Generations.begin`."""
        return await self._begin(view, 1, filling=False)

    async def finish(self, view: ViewDefinition, generation: str) -> None:
        """Do nothing: lists are kept as rows are written."""

    async def furthest(self, view: ViewDefinition) -> int:
        """See `Generations.furthest`."""
        live = await self.live(view)
        with answering():
            said = await self._server.ask(
                self._server.client.hgetall(self.keys_of(view, live).meta)
            )
        return max(positions_in(said).values(), default=0)

    async def switch(self, view: ViewDefinition, generation: str, reached: Reached) -> None:
        """See `Generations.switch`."""
        pointer = await self.pointer(view)
        if not pointer.live:
            raise ProjectionError(f"no generation of {view.name!r} is live")
        old, built = self.keys_of(view, pointer.live), self.keys_of(view, generation)
        token = secrets.token_hex(8)
        said = await self._server.run(HOLD, [old.meta, old.hold], [token, HELD])
        try:
            furthest = max(positions_in(dict(_pairs(said))).values(), default=0)
            if not await reached(furthest):
                raise ProjectionError(f"the new generation of {view.name!r} did not catch up")
            at = await self._recut(built, pointer.partitions)
            if at is None or at < furthest:
                raise ProjectionError(f"the new generation of {view.name!r} is gone")
            if said and not await self._server.run(STILL_HELD, [old.hold], [token, HELD]):
                raise ProjectionError(f"the switch of {view.name!r} took too long")
            if not await self._point(view, pointer.live, generation, pointer.partitions):
                raise ProjectionError(f"another generation of {view.name!r} became live")
        except BaseException:
            with suppress(ReadStoreUnavailable):  # then it ends by itself
                await self._server.run(RELEASE, [old.hold], [token])
            raise
        await self.discard(view, pointer.live)

    async def discard(self, view: ViewDefinition, generation: str) -> None:
        """See `Generations.discard`."""
        if await self.live(view) == generation:
            return
        with answering():
            await self._server.ask(
                self._server.client.unlink(*self.keys_of(view, generation).whatever)
            )
            await self._server.ask(
                self._server.client.hdel(self.pointer_key(view), f"{_BUILDING}{generation}")
            )

    async def _begin(self, view: ViewDefinition, partitions: int, *, filling: bool) -> str:
        """Make an empty generation; one that is `filling` answers nothing before it caught up."""
        keys = self.keys_of(view, secrets.token_hex(6))
        said: dict[str, str] = {"partitions": str(partitions)}
        for at in range(partitions):
            said[f"p{at}"] = f"{BEGINNING} {secrets.token_hex(4)}"
            if filling:
                said[f"f{at}"] = "1"
        sizes = ["rows", "all", "parked", "held", *(f"i{at}" for at in range(len(keys.by)))]
        with answering():
            pointer = self.pointer_key(view)
            await self._server.ask(
                self._server.client.hset(pointer, f"{_BUILDING}{keys.generation}", "1")
            )
            await self._server.ask(
                self._server.client.hset(keys.meta, mapping=said | dict.fromkeys(sizes, "0"))
            )
        return keys.generation

    async def _point(self, view: ViewDefinition, old: str, new: str, partitions: int) -> bool:
        """Make a generation live in the place of another; False if that was not it."""
        told = old, new, fingerprint_of(view), partitions
        return bool(await self._server.run(POINT, [self.pointer_key(view)], told))

    async def _recut(self, keys: GenerationKeys, number: int) -> int | None:
        """Return where all partitions begin; None if there is no such generation."""
        marks = [secrets.token_hex(4) for _ in range(number)]
        least = await self._server.run(RECUT, [keys.meta], [number, *marks])
        return None if least is None else int(least)


def positions_in(said: Mapping[bytes, bytes]) -> dict[int, int]:
    """Return the checkpoint of each partition, from what a generation's `meta` says."""
    return {
        int(field[1:]): int(value[:20])
        for field, value in said.items()
        if field[:1] == b"p" and field[1:].isdigit()
    }


def _pairs(flat: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))
