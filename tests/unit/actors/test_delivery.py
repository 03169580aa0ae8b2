"""Commands of processes, which nobody waits for: each has an answer in the end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any
from uuid import uuid4

import pytest

from actors.envelope import Done, Envelope, enclose
from actors.errors import KeyReused
from actors.local import LocalRuntime
from actors.processes.delivery import Delivery, Refusal
from domain.orders.commands import CreateOrder
from eventstore.errors import StoreUnavailable
from eventstore.memory import MemoryLog
from eventstore.records import RawRecord
from rayfold import Receipt, Registry


class Flaky(MemoryLog):
    """Cannot be read the first time."""

    failed = False

    async def read_stream(self, *asked: Any, **how: Any) -> AsyncGenerator[RawRecord, None]:
        if not self.failed:
            self.failed = True
            raise StoreUnavailable("no answer")
        async for raw in super().read_stream(*asked, **how):
            yield raw


class Reused:
    """A bus whose writers know each id already."""

    async def send(self, envelope: Envelope) -> Receipt:
        raise KeyReused(envelope.command_id)


@pytest.mark.parametrize("there", [True, False])
async def test_an_id_that_is_known_already_is_looked_up_until_the_log_answers(there: bool) -> None:
    registry, log = Registry.load("domain"), Flaky()
    envelope = enclose(registry, CreateOrder(order_id=uuid4(), customer_id="ada"))
    if there:
        await LocalRuntime(registry, log).bus.send(envelope)
    answer = await Delivery(registry, log, Reused()).answer(envelope, None)
    assert log.failed
    assert answer == Done(0, 1) if there else isinstance(answer, Refusal)
