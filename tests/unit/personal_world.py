"""A write side over an encrypted log, for tests of personal data."""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_URL, uuid5

from actors.host.state.memory import MemoryStates
from actors.local import LocalRuntime
from eventstore.memory import MemoryLog
from eventstore.personal.log import PersonalLog
from eventstore.records import NewRecord, RawRecord, recorded
from rayfold import Command, Registry
from tests.memory_keys import MemoryKeys
from tests.personal.people import (
    Register,
    Registered,
)

SECRET = b"secret"
EVERYTHING = ["customer-", "letter-", "account-", "snapshot-", "schedule-", "process-"]


class World:
    """A write side over an encrypted log, in this process."""

    def __init__(self, *, tenants: bool = False) -> None:
        self.registry = Registry.load("tests.personal", tenants=tenants)
        self.keys, self.beneath = MemoryKeys(), MemoryLog()
        self.log = PersonalLog(self.beneath, self.keys, tenants=tenants)
        self.states = MemoryStates()
        self.runtime = LocalRuntime(self.registry, self.log, states=self.states)

    async def send(self, *commands: Command, tenant: str = "") -> None:
        """Send commands, one after the other."""
        for each in commands:
            await self.runtime.send(each, tenant=tenant)

    async def read(self, stream: str) -> list[Any]:
        """Return the events of a stream as they read now."""
        return [
            each.event
            async for raw in self.log.read_stream(stream)
            for each in recorded(self.registry, raw)
        ]

    async def everything(self) -> list[RawRecord]:
        """Return what stands on the log."""
        return [raw async for raw in self.beneath.read_all(EVERYTHING)]

    async def assert_nothing_in_clear(self) -> None:
        """Look for what no reader without keys may find."""
        for raw in await self.everything():
            assert SECRET not in raw.data + raw.metadata, raw


REGISTER = Register(customer_id="ada", email="secret@example.org", born=1815)


def record(customer: str) -> NewRecord:
    event = Registered(customer_id=customer, email="secret@example.org")
    data = Registered.__rayfold__.encode(event)
    return NewRecord("Registered", data, {}, str(uuid5(NAMESPACE_URL, customer)))
