"""Verifying the rows of states against a fold of the log, where that is possible.

It is impossible if a stream's first events were truncated, and not possible yet while events are in
the outbox. Hosts go on meanwhile: a row is compared at its own revision.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from actors.host.entity import Entity
from actors.host.state.port import Kept, States
from eventstore.errors import StreamTombstoned
from eventstore.port import Log
from rayfold import Registry, UnknownEventType, UnreadableEvent
from rayfold.aggregate import AggregateType
from rayfold.runtime.together import together
from rayfold.runtime.turns import Turn

PAGE = 32
"""Rows that are compared at a time."""

LOOKS = 3
"""Checks of a differing row before it is reported: it may have been deleted with its stream."""

PAUSE = 0.5
"""Seconds between two of these checks."""


async def verify_states(
    registry: Registry, eventstore: Log, states: States
) -> list[dict[str, Any]]:
    """Return the rows that differ, each as `projections.operations.differences.Difference` has it.

    Raises:
        StoreUnavailable, Unavailable: a store does not answer.
    """
    differences: list[dict[str, Any]] = []
    for aggregate in registry.state_stored:
        after = ""
        while ids := await states.ids(aggregate, after, PAGE):
            after = ids[-1]
            found = await together(
                *(_difference(registry, eventstore, states, aggregate, each) for each in ids)
            )
            differences += [each for each in found if each is not None]
    return differences


async def _difference(
    registry: Registry, eventstore: Log, states: States, aggregate: AggregateType, name: str
) -> dict[str, Any] | None:
    """Return how a row differs from the log; None if it does not, or if that cannot be checked."""
    stream = aggregate.stream(name)
    texts = None
    for look in range(LOOKS):
        if look:
            await asyncio.sleep(PAUSE)
        kept = await states.load(aggregate, stream)
        if kept is None:
            return None
        try:
            texts = await _texts(registry, eventstore, aggregate, stream, kept)
        except (UnknownEventType, UnreadableEvent):
            return None  # verifying its views reports that
        if texts is None:
            return None
    assert texts is not None
    expected, found = texts
    return {
        "store": "state",
        "view": aggregate.category,
        "key": name,
        "expected": expected,
        "found": found,
    }


async def _texts(
    registry: Registry, eventstore: Log, aggregate: AggregateType, stream: str, kept: Kept
) -> tuple[str | None, str] | None:
    """Return the state by the log and by the row; None if they are equal or cannot be compared."""
    if not kept.current and not kept.misfit:
        return None  # of the previous layout: whoever reads it folds it from the log
    entity = Entity(aggregate, stream)
    folded, turn = 0, Turn()
    try:
        async with aclosing(eventstore.read_stream(stream)) as records:
            async for raw in records:
                if folded == 0 and raw.revision != kept.began:
                    return None
                if raw.revision > kept.version:
                    break
                entity.fold(registry, raw)
                folded += 1
                await turn.pass_on()
    except StreamTombstoned:
        pass
    if entity.revision < kept.version and kept.outbox:
        return None
    said = f"not a state: {kept.misfit}" if kept.misfit else _json(kept.state)
    if folded == 0:
        return None, said
    if entity.revision != kept.version:
        return f"revision {entity.revision}", f"revision {kept.version}"
    return None if entity.state == kept.state else (_json(entity.state), said)


def _json(state: Any) -> str:
    text: bytes = state.__pydantic_serializer__.to_json(state)
    return text.decode()
