"""A reader that has found its event ends the call to the server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.orders.events import OrderCreated, OrderPaid
from eventstore.correlation import correlated
from eventstore.memory import MemoryLog
from eventstore.one_record import first_record, last_record, record_at
from eventstore.port import ANY, StreamAppend
from eventstore.records import NewRecord, RawRecord
from eventstore.tenancy import MixedTenancy, check_tenancy
from projections.operations.verification import fold_afresh
from projections.queries.history import History
from projections.queries.through_time import ThroughTime
from rayfold import Registry

ORDER = UUID(int=7)
STREAM = f"order-{ORDER}"
REGISTRY = Registry.load("domain")


class OpenReads(MemoryLog):
    """Counts the reads that are open, each a call to a server elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open = 0

    async def _counted(
        self, reading: AsyncGenerator[RawRecord, None]
    ) -> AsyncGenerator[RawRecord, None]:
        self.open += 1
        try:
            async for raw in reading:
                yield raw
        finally:
            self.open -= 1

    def read_stream(self, *of: Any, **how: Any) -> AsyncGenerator[RawRecord, None]:
        return self._counted(super().read_stream(*of, **how))

    def read_all(self, *of: Any, **how: Any) -> AsyncGenerator[RawRecord, None]:
        return self._counted(super().read_all(*of, **how))


async def is_refused(log: MemoryLog) -> None:
    with pytest.raises(MixedTenancy):
        await check_tenancy(log, REGISTRY.prefixes, tenants=True)


ENDS: dict[str, Callable[[MemoryLog], Awaitable[Any]]] = {
    "first": lambda log: first_record(log, STREAM),
    "last": lambda log: last_record(log, STREAM),
    "one": lambda log: record_at(log, STREAM, 1),
    "a search": lambda log: correlated(log, REGISTRY.prefixes, str(uuid4()), scan=1),
    "verify": lambda log: fold_afresh(REGISTRY, log, 1),
    "through time": lambda log: ThroughTime(REGISTRY, log).at(STREAM, 0),
    "as it was": lambda log: History(REGISTRY, log).as_of(
        REGISTRY.views["order-details"], str(ORDER), STREAM, 0
    ),
    "tenancy": is_refused,
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_read_that_is_left_early_is_closed(end: str) -> None:
    log = OpenReads()
    at = datetime(2026, 1, 1, tzinfo=UTC)
    created = OrderCreated(order_id=ORDER, customer_id="ada", currency="EUR", at=at)
    paid = OrderPaid(order_id=ORDER, at=at)
    events = [created, paid, paid]
    records = [
        NewRecord(type(each).__name__, each.model_dump_json().encode(), {}, str(uuid4()))
        for each in events
    ]
    await log.append([StreamAppend(STREAM, ANY, records)])
    await ENDS[end](log)
    assert log.open == 0
