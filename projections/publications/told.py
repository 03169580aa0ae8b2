"""The published events of records, and whether they were delivered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from eventstore.records import RawRecord
from projections.publications.errors import Unpublishable
from projections.publications.outgoing import Derivation, Outgoing
from projections.publications.records import lane_of
from rayfold import PublicationDefinition, Registry
from rayfold.runtime.turns import Turn

Lanes = Callable[[Sequence[str]], Awaitable[Sequence[Mapping[str, Any]]]]
"""Returns what is parked in some lanes: see `ParkedKeys.under`."""


async def told_of(
    registry: Registry,
    definition: PublicationDefinition,
    records: Sequence[RawRecord],
    position: int | None,
    parked_under: Lanes,
) -> list[list[dict[str, Any]]]:
    """Return what a publication derives from each record, one entry per event.

    `position` is the publication's position; None if it does not run.
    """
    derivation = Derivation(registry, definition, "/")  # ids do not depend on the source
    derived: list[list[Outgoing] | Unpublishable] = []
    lanes: dict[str, None] = {}
    turn = Turn()
    for raw in records:
        await turn.pass_on()
        messages: list[Outgoing] | Unpublishable = []
        if raw.event_type in derivation.event_types:
            try:
                messages = derivation.outgoing(raw)
            except Unpublishable as error:
                messages = error
            else:
                lanes |= dict.fromkeys(lane_of(each.key, "") for each in messages)
                lanes[lane_of("", raw.stream)] = None
        derived.append(messages)
    found = await parked_under([*lanes])
    parked = {lane_of(each["key"], each["stream"]): each for each in found}
    return [
        _told(definition, raw, messages, position, parked)
        for raw, messages in zip(records, derived, strict=True)
    ]


def _told(
    definition: PublicationDefinition,
    raw: RawRecord,
    messages: list[Outgoing] | Unpublishable,
    position: int | None,
    parked: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    about = {"publication": definition.name}
    if isinstance(messages, Unpublishable):
        return [{**about, "status": "parked", "error": str(messages)}]
    found = []
    for message in messages:
        waits = parked.get(lane_of(message.key, "")) or parked.get(lane_of("", raw.stream))
        status, reason = "waiting", ""
        if position is None:
            status = "not configured"
        elif waits is not None and waits["position"] <= raw.position:
            status, reason = "parked", waits["error"]
        elif position >= raw.position:
            status = "delivered"
        found.append(
            {
                **about,
                "id": message.id,
                "type": message.name,
                "key": message.key,
                "status": status,
                **({"error": reason} if reason else {}),
            }
        )
    return found
