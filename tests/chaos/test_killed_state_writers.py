"""Writers of stored states are killed: every receipt is on the log and in the rows, once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from contextlib import suppress
from uuid import UUID, uuid4

import asyncpg

from actors.envelope import Envelope, enclose
from actors.errors import Overloaded, Unavailable
from actors.write_side import WriteSide
from domain.customers.commands import (
    AddAddress,
    ChangeProfile,
    GiveConsent,
    Purpose,
    RegisterCustomer,
    RemoveAddress,
    WithdrawConsent,
)
from domain.customers.customer import Customer
from eventstore.kurrentdb.log import EventLog
from eventstore.records import metadata_of, recorded
from rayfold import Command, Receipt, Refused, Registry

CLIENTS = 24
CUSTOMERS = 64
SECONDS = float(os.environ.get("RAYFOLD_CHAOS_SECONDS", "0"))
"""At least so long; by default until a few writers were killed, all that `make test` waits for."""

KILLS = 4

PROGRESS = 3 * CLIENTS
"""Receipts between two kills: in a busy machine a host takes its time to come up."""

DEADLINE = 60.0
"""Seconds in which so many receipts must have come."""

DRAINED = 60.0
"""Seconds in which the outbox must be empty: whoever is there takes over what others left."""

WHERE = {"street": "1 Mill Lane", "postal_code": "N1", "city": "London", "country": "GB"}


class Progress:
    """Counts receipts, and wakes who waits for so many."""

    def __init__(self) -> None:
        self.count = 0
        self._more = asyncio.Event()

    def one_more(self) -> None:
        """Count a receipt."""
        self.count += 1
        self._more.set()

    async def reached(self, wanted: int) -> None:
        """Wait until there are so many."""
        while self.count < wanted:
            self._more.clear()
            await self._more.wait()


class Client:
    """Sends random commands, again with the same key until there is an outcome."""

    def __init__(
        self, registry: Registry, side: WriteSide, customers: list[UUID], progress: Progress
    ) -> None:
        self._progress = progress
        self._registry = registry
        self._side = side
        self._customers = customers
        self.receipts: list[tuple[str, Receipt]] = []
        self.again = 0

    async def run(self, enough: asyncio.Event) -> None:
        """Until then, one command after the other."""
        while not enough.is_set():
            await self._send(enclose(self._registry, self._any_command()))

    async def _send(self, envelope: Envelope) -> None:
        while True:
            try:
                receipt = await self._side.bus.send(envelope)
            except Refused:
                return
            except (Unavailable, Overloaded):
                self.again += 1
            else:
                self.receipts.append((envelope.command_id, receipt))
                self._progress.one_more()
                return

    def _any_command(self) -> Command:
        customer, label = random.choice(self._customers), random.choice("abc")
        purpose = random.choice(list(Purpose))
        return random.choice(
            [
                RegisterCustomer(customer_id=customer, name="Ada", email="ada@example.org"),
                ChangeProfile(customer_id=customer, name=uuid4().hex),
                ChangeProfile(customer_id=customer, email=f"{uuid4().hex}@example.org"),
                AddAddress(customer_id=customer, label=label, **WHERE),
                RemoveAddress(customer_id=customer, label=label),
                GiveConsent(customer_id=customer, purpose=purpose),
                WithdrawConsent(customer_id=customer, purpose=purpose),
            ]
        )


async def kill_now_and_then(side: WriteSide, progress: Progress) -> int:
    """SIGKILL to any writer's process, each time after commands have gone on."""
    kills, until = 0, asyncio.get_running_loop().time() + SECONDS
    while kills < KILLS or asyncio.get_running_loop().time() < until:
        wanted = progress.count + PROGRESS
        async with asyncio.timeout(DEADLINE):
            await progress.reached(wanted)
        for pid in random.sample(pids := await side.pids(), min(len(pids), 1)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                kills += 1
    return kills


async def test_every_receipt_is_on_the_log_and_in_the_rows_once(
    registry: Registry, side: WriteSide, eventstore: str, postgres: str
) -> None:
    customers = [uuid4() for _ in range(CUSTOMERS)]
    progress = Progress()
    clients = [Client(registry, side, customers, progress) for _ in range(CLIENTS)]
    await side.scale(2)
    enough = asyncio.Event()
    running = [asyncio.create_task(client.run(enough)) for client in clients]
    try:
        kills = await kill_now_and_then(side, progress)
    finally:
        enough.set()
    await asyncio.gather(*running)
    await side.scale(1)

    receipts = [receipt for client in clients for receipt in client.receipts]
    again = sum(client.again for client in clients)
    print(f"{len(receipts)} receipts, {kills} kills, {again} commands sent again")
    assert kills >= KILLS
    connection = await asyncpg.connect(postgres)
    async with asyncio.timeout(DRAINED):
        # Of these customers: other tests of this session have left what no log will ever take.
        waiting = "SELECT count(*) FROM rayfold_state._outbox WHERE stream = ANY($1)"
        streams = [Customer.stream(customer) for customer in customers]
        while True:  # no event tells of it
            if not await connection.fetchval(waiting, streams):
                break
            await asyncio.sleep(0.2)
    versions = {
        row["_id"]: (row["_version"], row["profile_name"])
        for row in await connection.fetch(
            "SELECT _id, _version, profile_name FROM rayfold_state.customer"
        )
    }
    addresses = Counter(
        row["_id"]
        for row in await connection.fetch("SELECT _id FROM rayfold_state.customer_addresses")
    )
    await connection.close()

    log = EventLog(eventstore)
    places: dict[str, tuple[str, int]] = {}
    events = 0
    for customer in customers:
        stream, state, expected = Customer.stream(customer), Customer.initial, 0
        async for raw in log.read_stream(stream):
            assert raw.revision == expected, stream  # in order, without a gap
            expected += 1
            events += 1
            command_id = metadata_of(raw)["commandId"]
            assert command_id not in places, "written twice"
            places[command_id] = (stream, raw.revision)
            state = Customer.fold((each.event for each in recorded(registry, raw)), state)
        if expected:
            assert versions[str(customer)] == (expected - 1, state.profile.name)
            assert addresses[str(customer)] == len(state.addresses)
    await log.close()
    confirmed = dict(receipt for client in clients for receipt in client.receipts)
    for command_id, place in places.items():
        receipt = confirmed[command_id]  # every client waited for its outcome
        assert place == (receipt.stream, receipt.revision)
    # A command that changes nothing has a receipt and no event.
    assert events == len(places) <= len(receipts)
