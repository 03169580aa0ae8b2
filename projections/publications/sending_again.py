"""Sending again: all events between two positions of the log, or parked ones of some keys."""

from __future__ import annotations

from contextlib import aclosing, suppress

from eventstore.port import Log
from eventstore.records import RawRecord
from projections.publications.deliveries import Deliveries
from projections.publications.errors import Unpublishable
from projections.publications.outgoing import Derivation, Outgoing
from projections.publications.records import Parked, lane_of
from rayfold.runtime.together import together
from rayfold.runtime.turns import Turn

Found = list[tuple[RawRecord, list[Outgoing] | Unpublishable]]
"""The records of one lane in order, each with its events."""


async def send_again(
    log: Log,
    derivation: Derivation,
    deliveries: Deliveries,
    after: int,
    until: int,
    key: str | None = None,
) -> dict[str, int]:
    """Deliver all events between two positions; return how many were accepted and keys failed.

    Raises:
        StoreUnavailable: the log cannot be read, or the keys of personal data.
    """
    published, failed = 0, set[str]()
    until = min(until, await log.end_position(derivation.prefixes))
    if after >= until:  # the log might have no such position
        return {"published": 0, "failed_keys": 0}
    batches = log.subscribe(derivation.prefixes, after or None, event_types=derivation.event_types)
    async with aclosing(batches):
        async for batch in batches:
            lanes: dict[str, list[Outgoing]] = {}
            turn = Turn()
            for raw in batch.records:
                if raw.position > until:
                    break
                await turn.pass_on()
                with suppress(Unpublishable):  # it was not published before, either
                    for each in derivation.outgoing(raw):
                        if key in (None, each.key) and each.key not in failed:
                            lanes.setdefault(each.key, []).append(each)
            counts = await together(*(deliveries.in_order(e) for e in lanes.values()))
            for name, (taken, error) in zip(lanes, counts, strict=True):
                published += taken
                if error:
                    failed.add(name)
            if batch.position >= until or batch.caught_up:
                break
    return {"published": published, "failed_keys": len(failed)}


async def parked_in(
    derivation: Derivation, records: list[RawRecord], left: dict[str, Parked]
) -> dict[str, Found]:
    """Return the parked events of these records, by lane, in order."""
    found: dict[str, Found] = {}
    turn = Turn()
    for raw in records:
        await turn.pass_on()
        whole = lane_of("", raw.stream)
        told: list[Outgoing] | Unpublishable
        try:
            told = derivation.outgoing(raw)
        except Unpublishable as error:
            told = error
        if whole in left:
            if raw.position >= left[whole].position:
                found.setdefault(whole, []).append((raw, told))
            continue
        if isinstance(told, Unpublishable):
            continue  # from a stream that is parked itself
        for each in told:
            name = lane_of(each.key, "")
            if name in left and raw.position >= left[name].position:
                found.setdefault(name, []).append((raw, [each]))
    return found


async def again(deliveries: Deliveries, found: Found, parked: Parked) -> Parked | None:
    """Deliver these events; return where the lane is parked now, or None.

    Raises:
        StoreUnavailable: see `Deliveries.in_order`.
    """
    for raw, told in found:
        if isinstance(told, Unpublishable):
            error = str(told)
        else:
            _, error = await deliveries.in_order(told)
        if error:
            return Parked(parked.key, raw.stream, raw.revision, raw.position, error, parked.at)
    return None
