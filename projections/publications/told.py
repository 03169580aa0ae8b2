"""What others are told of an event: what goes out because of it, and whether that is out yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eventstore.records import RawRecord
from projections.publications.errors import Unpublishable
from projections.publications.outgoing import Derivation
from projections.publications.records import lane_of
from rayfold import PublicationDefinition, Registry


def told_of(
    registry: Registry,
    definition: PublicationDefinition,
    raw: RawRecord,
    position: int | None,
    parked: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Return what a publication makes of a record, a message each; none where it is not concerned.

    `position` is where the publication is; None: it does not run. `parked` is what waits.
    """
    derivation = Derivation(registry, definition, "/")  # ids do not depend on the source
    if raw.event_type not in derivation.event_types:
        return []
    about = {"publication": definition.name}
    lanes = {lane_of(each["key"], each["stream"]): each for each in parked}
    try:
        messages = derivation.outgoing(raw)
    except Unpublishable as error:
        return [{**about, "status": "parked", "error": str(error)}]
    found = []
    for message in messages:
        waits = lanes.get(lane_of(message.key, "")) or lanes.get(lane_of("", raw.stream))
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
