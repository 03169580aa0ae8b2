"""Generations in Redis: a view's pointer is a hash that names the live one.

The pointer and each generation are in slots of their own, so no step changes two of them
atomically. A switch therefore pauses writers of the live one (`hold`), for a limited time.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

import msgspec

from projections.errors import ProjectionError
from projections.poison import Parked
from projections.redis.keys import GenerationKeys, pointer_of
from projections.redis.rows import LAYOUT
from projections.redis.scripts import HOLD, POINT, RECUT, RELEASE, STILL_HELD
from projections.redis.server import Server, answering
from projections.stores.documents import fingerprint
from projections.stores.pointed_generations import HELD, PointedGenerations, Pointer
from rayfold import ViewDefinition

BEGINNING = f"{0:020d}"

PIECE = 1000
"""Parked entries that are read at a time: the server answers no other request meanwhile."""

_BUILDING = "b:"
"""In a pointer, the prefix of the names of generations being built."""

_parked = msgspec.json.Decoder(tuple[str, str, str, int, int, str, bool])


class RedisGenerations(PointedGenerations[str]):
    """See `Generations`. A pause of writers has a token; empty if there was nothing to pause."""

    store = "redis"

    def __init__(self, server: Server, stack: str) -> None:
        self._server = server
        self._stack = stack

    def fingerprint_of(self, view: ViewDefinition) -> str:
        """See `PointedGenerations.fingerprint_of`."""
        return fingerprint(self.store, LAYOUT, view)

    def keys_of(self, view: ViewDefinition, generation: str) -> GenerationKeys:
        """Return the keys of a generation."""
        return GenerationKeys(self._stack, view.name, generation, len(view.lists))

    def pointer_key(self, view: ViewDefinition) -> str:
        """Return the key of a view's pointer."""
        return pointer_of(self._stack, view.name)

    async def pointer(self, view: ViewDefinition) -> Pointer:
        """See `PointedGenerations.pointer`."""
        said = await self._said(view)
        return Pointer(
            said.get("live", ""), said.get("fingerprint", ""), int(said.get("partitions", 0))
        )

    async def _said(self, view: ViewDefinition) -> dict[str, str]:
        with answering():
            found = await self._server.ask(self._server.client.hgetall(self.pointer_key(view)))
        return {name.decode(): value.decode() for name, value in found.items()}

    async def live(self, view: ViewDefinition) -> str:
        """Return the name of the live generation; empty if there is none."""
        with answering():
            found = await self._server.ask(self._server.client.hget(self.pointer_key(view), "live"))
        return found.decode() if found else ""

    async def parked(self, view: ViewDefinition, generation: str) -> AsyncIterator[Parked]:
        """See `PointedGenerations.parked`; an entry may come twice if the hash grows meanwhile."""
        key, cursor = self.keys_of(view, generation).parked, None
        while cursor != 0:
            with answering():
                cursor, found = await self._server.ask(
                    self._server.client.hscan(key, cursor or 0, count=PIECE)
                )
            for each in found.values():
                yield Parked(view.name, *_parked.decode(each)[1:])

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

    async def _check(self) -> None:
        await self._server.check()

    async def _unfinished(self, view: ViewDefinition) -> Collection[str]:
        said = await self._said(view)
        return [each.removeprefix(_BUILDING) for each in said if each.startswith(_BUILDING)]

    async def _begin(self, view: ViewDefinition, partitions: int, *, filling: bool) -> str:
        keys = self.keys_of(view, secrets.token_hex(6))
        said: dict[str, str] = {"partitions": str(partitions)}
        for at in range(partitions):
            said[f"p{at}"] = f"{BEGINNING} {secrets.token_hex(4)}"
            if filling:
                said[f"f{at}"] = "1"
        sizes = ["rows", "all", "parked", "held", *(f"i{at}" for at in range(len(keys.by)))]
        with answering():
            building = f"{_BUILDING}{keys.generation}"
            await self._server.ask(self._server.client.hset(self.pointer_key(view), building, "1"))
            await self._server.ask(
                self._server.client.hset(keys.meta, mapping=said | dict.fromkeys(sizes, "0"))
            )
        return keys.generation

    async def _point(self, view: ViewDefinition, old: str, new: str, partitions: int) -> bool:
        told = old, new, self.fingerprint_of(view), partitions
        return bool(await self._server.run(POINT, [self.pointer_key(view)], told))

    async def _partitions(self, view: ViewDefinition, pointer: Pointer) -> int:
        """Read it from the generation, which is divided before the pointer is updated."""
        keys = self.keys_of(view, pointer.live)
        with answering():
            found = await self._server.ask(self._server.client.hget(keys.meta, "partitions"))
        return int(found) if found else pointer.partitions

    async def _cut(self, view: ViewDefinition, pointer: Pointer, number: int) -> None:
        await self._recut(self.keys_of(view, pointer.live), number)
        with answering():
            await self._server.ask(
                self._server.client.hset(self.pointer_key(view), "partitions", str(number))
            )

    async def _recut(self, keys: GenerationKeys, number: int) -> int | None:
        """Divide a generation anew; return where its partitions begin; None if there is none."""
        marks = [secrets.token_hex(4) for _ in range(number)]
        least = await self._server.run(RECUT, [keys.meta], [number, *marks])
        return None if least is None else int(least)

    async def _positions(self, view: ViewDefinition, generation: str) -> Collection[int]:
        with answering():
            said = await self._server.ask(
                self._server.client.hgetall(self.keys_of(view, generation).meta)
            )
        return _positions_in(said)

    async def _hold(self, view: ViewDefinition, live: str) -> tuple[str, Collection[int]]:
        keys, token = self.keys_of(view, live), secrets.token_hex(8)
        said = await self._server.run(HOLD, [keys.meta, keys.hold], [token, HELD])
        return token if said else "", _positions_in(dict(_pairs(said)))

    async def _replace(
        self, view: ViewDefinition, pointer: Pointer, generation: str, furthest: int, hold: str
    ) -> None:
        at = await self._recut(self.keys_of(view, generation), pointer.partitions)
        if at is None or at < furthest:
            raise ProjectionError(f"the new generation of {view.name!r} is gone")
        old = self.keys_of(view, pointer.live)
        if hold and not await self._server.run(STILL_HELD, [old.hold], [hold, HELD]):
            raise ProjectionError(f"the switch of {view.name!r} took too long")
        if not await self._point(view, pointer.live, generation, pointer.partitions):
            raise ProjectionError(f"another generation of {view.name!r} became live")

    async def _release(self, view: ViewDefinition, live: str, hold: str) -> None:
        await self._server.run(RELEASE, [self.keys_of(view, live).hold], [hold])

    async def _retire(self, view: ViewDefinition, generation: str, old: str) -> None:
        await self.discard(view, old)


def _positions_in(said: Mapping[bytes, bytes]) -> list[int]:
    """Return the checkpoints of all partitions from a generation's `meta`."""
    return [
        int(value[:20])
        for field, value in said.items()
        if field[:1] == b"p" and field[1:].isdigit()
    ]


def _pairs(flat: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))
