"""Checking that the log supports a domain's decisions over several aggregates."""

from __future__ import annotations

from actors.errors import EventStoreUnavailable, WriteSideError
from eventstore.errors import StoreUnavailable
from eventstore.port import Log
from rayfold import Registry


async def check_joint_appends(registry: Registry, log: Log) -> None:
    """Check that the log can append to several streams atomically, if the domain needs that.

    Raises:
        WriteSideError: it cannot; the message names the decisions.
        EventStoreUnavailable: it does not answer.
    """
    if not registry.decisions:
        return
    try:
        if await log.is_atomic():
            return
    except StoreUnavailable as error:
        raise EventStoreUnavailable.because(error) from error
    names = dict.fromkeys(each.model.__qualname__ for each in registry.decisions.values())
    raise WriteSideError(
        f"the domain decides over several aggregates ({', '.join(names)}), for which the event "
        "store has no append_records: it needs KurrentDB 26.1 or later, or the embedded store"
    )
