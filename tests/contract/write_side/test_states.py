"""Stored states and the log: every crash point, other writers, servers that are down."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from actors.errors import (
    AggregateDeleted,
    EventStoreUnavailable,
    InvalidCommand,
    KeyReused,
    StreamUnreadable,
    Unavailable,
)
from actors.host.state.memory import MemoryStates
from actors.host.state.port import Change, States
from actors.host.state.postgres import CONNECTIONS, PostgresStates, connections_of
from actors.host.state.verification import verify_states
from actors.local import LocalRuntime
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
from domain.customers.events import AddressRemoved
from eventstore.errors import StoreUnavailable
from eventstore.memory import MemoryLog
from eventstore.port import AppendResult, StreamAppend
from eventstore.records import NewRecord, recorded
from rayfold import Placement, Registry, Storage
from tests.postgres_server import create_database

WHERE = {"street": "1 Mill Lane", "postal_code": "N1", "city": "London", "country": "GB"}


class FailingLog(MemoryLog):
    """Can lose appends, or their answers; counts what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.takes = True
        self.answers = True
        self.appends = 0

    async def append(self, appends: Sequence[StreamAppend]) -> list[AppendResult]:
        self.appends += 1
        if not self.takes:
            raise StoreUnavailable("it takes nothing")
        found = await super().append(appends)
        if not self.answers:
            raise StoreUnavailable("the answer is lost")
        return found


@pytest.fixture(params=["memory", "postgres"])
async def states(request: pytest.FixtureRequest, registry: Registry) -> AsyncIterator[list[States]]:
    """The same place where states are kept, as two processes have it."""
    if request.param == "memory":
        yield [MemoryStates()] * 2
        return
    dsn = request.getfixturevalue("postgres")
    made: list[States] = [PostgresStates(dsn, registry.state_stored) for _ in range(2)]
    yield made
    for each in made:
        await each.close()


def register(customer: UUID, name: str = "Ada") -> RegisterCustomer:
    return RegisterCustomer(customer_id=customer, name=name, email="ada@example.org")


def rename(customer: UUID, name: str) -> ChangeProfile:
    return ChangeProfile(customer_id=customer, name=name)


async def types(log: MemoryLog, customer: UUID) -> list[tuple[int, str]]:
    """What the log has of a customer."""
    return [(raw.revision, raw.event_type) async for raw in log.read_stream(f"customer-{customer}")]


async def test_what_was_committed_when_its_writer_died_is_relayed_once(
    registry: Registry, states: list[States]
) -> None:
    log, customer, key = FailingLog(), uuid4(), uuid4()
    first = LocalRuntime(registry, log, states=states[0])
    await first.send(register(customer))
    log.takes = False  # dies between the commit and the append
    with pytest.raises(Unavailable):
        await first.send(rename(customer, "Ada L."), command_id=key)
    log.takes = True
    second = LocalRuntime(registry, log, states=states[1])
    receipt = await second.send(rename(customer, "Ada L."), command_id=key)
    assert receipt.revision == 1
    assert await types(log, customer) == [(0, "CustomerRegistered"), (1, "ProfileChanged")]
    with pytest.raises(KeyReused):
        await second.send(rename(customer, "Eve"), command_id=key)


async def test_a_lost_answer_does_not_lead_to_a_second_event(
    registry: Registry, states: list[States]
) -> None:
    log, customer, key = FailingLog(), uuid4(), uuid4()
    first = LocalRuntime(registry, log, states=states[0])
    await first.send(register(customer))
    log.answers = False
    with pytest.raises(Unavailable):
        await first.send(rename(customer, "Ada L."), command_id=key)
    log.answers = True
    for runtime in (first, LocalRuntime(registry, log, states=states[1])):
        assert (await runtime.send(rename(customer, "Ada L."), command_id=key)).revision == 1
    assert len(await types(log, customer)) == 2


async def test_a_first_event_is_relayed_by_whoever_looks_at_the_outbox(
    registry: Registry, states: list[States], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.host.state.storage.ORPHANED", 0.0)
    log, customer = FailingLog(), uuid4()
    log.takes = False
    with pytest.raises(Unavailable):
        await LocalRuntime(registry, log, states=states[0]).send(register(customer))
    log.takes = True
    other = LocalRuntime(registry, log, states=states[1])
    assert await other.host.take_over() >= 1
    assert await types(log, customer) == [(0, "CustomerRegistered")]
    assert await other.host.take_over() == 0


async def test_an_outbox_is_relayed_soon_although_postgres_clock_was_set_back(
    registry: Registry, postgres: str
) -> None:
    log, customer = FailingLog(), uuid4()
    states = PostgresStates(postgres, registry.state_stored)
    log.takes = False
    with pytest.raises(Unavailable):
        await LocalRuntime(registry, log, states=states).send(register(customer))
    connection = await asyncpg.connect(postgres)
    await connection.execute(
        "UPDATE rayfold_state._outbox SET at = at + interval '1 hour' WHERE stream = $1",
        f"customer-{customer}",
    )
    await connection.close()
    assert f"customer-{customer}" in await states.waiting(["customer"], 60.0, "", 10_000)
    await states.close()


async def test_an_outbox_that_can_never_be_relayed_does_not_hide_others(
    registry: Registry, states: list[States], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.host.state.storage.ORPHANED", 0.0)
    monkeypatch.setattr("actors.host.state.storage.TAKEN_OVER", 1)
    log = FailingLog()
    stuck, behind = sorted((uuid4(), uuid4()), key=str)
    runtime = LocalRuntime(registry, log, states=states[0])
    for customer in (stuck, behind):
        await runtime.send(register(customer))
    await runtime.send(rename(stuck, "B"))
    log.takes = False
    answers = await asyncio.gather(
        *(runtime.send(rename(each, "C")) for each in (stuck, behind)), return_exceptions=True
    )
    assert [type(each) for each in answers] == [EventStoreUnavailable] * 2
    log.takes = True
    foreign = NewRecord("AddressRemoved", b"{}", {}, str(uuid4()))
    await log.append([StreamAppend(f"customer-{stuck}", 1, [foreign])])
    log._truncate(f"customer-{stuck}", 2)
    waiting = await states[1].waiting(["customer"], 0.0, "", 10_000)  # some are other tests'
    other = LocalRuntime(registry, log, states=states[1])
    for _ in waiting:
        await other.host.take_over()
    assert [revision for revision, _ in await types(log, behind)] == [0, 1]
    left = await states[1].waiting(["customer"], 0.0, "", 10_000)
    assert f"customer-{stuck}" in left
    assert f"customer-{behind}" not in left


async def test_no_further_state_is_written_while_the_log_accepts_nothing(
    registry: Registry, states: list[States]
) -> None:
    log, customers = FailingLog(), [uuid4() for _ in range(5)]
    runtime = LocalRuntime(registry, log, states=states[0])
    log.takes = False
    for customer in customers:
        with pytest.raises(Unavailable):
            await runtime.send(register(customer))
    kept = [await states[1].load(Customer, Customer.stream(each)) for each in customers]
    assert [each is not None for each in kept] == [True, False, False, False, False]
    log.takes = True
    for customer in customers[1:]:
        await runtime.send(register(customer))
    assert await types(log, customers[0]) == [(0, "CustomerRegistered")]


async def test_events_that_the_log_will_never_accept_delay_no_other_aggregate(
    registry: Registry, states: list[States], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, gone, strange = FailingLog(), uuid4(), uuid4()
    runtime = LocalRuntime(registry, log, states=states[0])
    await runtime.send(register(strange))
    log.takes = False
    answers = await asyncio.gather(
        runtime.send(register(gone)), runtime.send(rename(strange, "B")), return_exceptions=True
    )
    assert [type(each) for each in answers] == [EventStoreUnavailable] * 2
    log.takes = True
    await log.delete_stream(f"customer-{gone}", tombstone=True)
    data = b'{"customer_id":"%s","label":"x"}' % str(strange).encode()
    foreign = NewRecord("AddressRemoved", data, {}, str(uuid4()))
    await log.append([StreamAppend(f"customer-{strange}", 0, [foreign])])
    evolve = Customer.evolve

    def exits(state: Any, event: Any) -> Any:
        return sys.exit("no idea") if isinstance(event, AddressRemoved) else evolve(state, event)

    monkeypatch.setattr(Customer, "evolve", staticmethod(exits))
    await runtime.send(register(uuid4()))
    with pytest.raises(AggregateDeleted):
        await runtime.send(register(gone))
    with pytest.raises(StreamUnreadable, match="no idea"):
        await runtime.send(rename(strange, "C"))
    monkeypatch.setattr("actors.host.state.storage.ORPHANED", 0.0)
    await LocalRuntime(registry, log, states=states[1]).host.take_over()
    differ = {each["key"] for each in await verify_states(registry, log, states[1])}
    assert differ.isdisjoint({str(gone), str(strange)})


async def test_a_writer_with_a_stale_state_reads_the_new_one_before_it_writes(
    registry: Registry, states: list[States]
) -> None:
    log, customer = MemoryLog(), uuid4()
    stale = LocalRuntime(registry, log, states=states[0])
    await stale.send(register(customer))
    other = LocalRuntime(registry, log, states=states[1])
    assert (await other.send(rename(customer, "B"))).revision == 1
    assert (await stale.send(rename(customer, "C"))).revision == 2
    kept = await states[1].load(Customer, Customer.stream(customer))
    assert kept is not None
    assert kept.state.profile.name == "C"


async def test_an_event_written_by_another_client_is_folded_into_the_state(
    registry: Registry, states: list[States]
) -> None:
    log, customer = MemoryLog(), uuid4()
    runtime = LocalRuntime(registry, log, states=states[0])
    await runtime.send(register(customer))
    data = (
        b'{"customer_id":"%s","label":"x","street":"s","postal_code":"p","city":"c","country":"GB"}'
        % str(customer).encode()
    )
    foreign = NewRecord("AddressAdded", data, {}, str(uuid4()))
    await log.append([StreamAppend(f"customer-{customer}", 0, [foreign])])
    assert (await runtime.send(rename(customer, "B"))).revision == 2
    kept = await states[1].load(Customer, Customer.stream(customer))
    assert kept is not None
    assert (kept.version, len(kept.state.addresses)) == (2, 1)
    assert [each for each, _ in await types(log, customer)] == [0, 1, 2]


async def test_a_state_is_loaded_although_its_history_was_cut(
    registry: Registry, states: list[States]
) -> None:
    log, customer = MemoryLog(), uuid4()
    runtime = LocalRuntime(registry, log, states=states[0])
    await runtime.send(register(customer))
    for name in "BCD":
        await runtime.send(rename(customer, name))
    log._truncate(f"customer-{customer}", 3)
    again = LocalRuntime(registry, log, states=states[1])
    assert (await again.send(rename(customer, "E"))).revision == 4
    foreign = NewRecord("AddressRemoved", b"{}", {}, str(uuid4()))
    await log.append([StreamAppend(f"customer-{customer}", 4, [foreign])])
    with pytest.raises(StreamUnreadable):  # it cannot be folded, and is not guessed
        await again.send(rename(customer, "F"))


async def test_a_deleted_customer_leaves_no_row_and_does_not_come_back(
    registry: Registry, states: list[States], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.host.state.storage.ORPHANED", 0.0)
    log, customer = FailingLog(), uuid4()
    log.answers = False
    with pytest.raises(Unavailable):  # so that the outbox still has it
        await LocalRuntime(registry, log, states=states[0]).send(register(customer))
    log.answers = True
    await log.delete_stream(f"customer-{customer}")
    other = LocalRuntime(registry, log, states=states[1])
    await other.host.take_over()
    assert await types(log, customer) == []
    assert await states[1].load(Customer, Customer.stream(customer)) is None
    assert (await other.send(register(customer, "Eve"))).revision == 1


async def test_lists_and_dictionaries_are_stored_and_loaded_unchanged(
    registry: Registry, states: list[States]
) -> None:
    log, customer = MemoryLog(), uuid4()
    runtime = LocalRuntime(registry, log, states=states[0])
    await runtime.send(register(customer))
    for label in ("a", "b", "c", "b"):
        await runtime.send(AddAddress(customer_id=customer, label=label, **WHERE))
    await runtime.send(RemoveAddress(customer_id=customer, label="a"))
    for purpose in Purpose:
        await runtime.send(GiveConsent(customer_id=customer, purpose=purpose))
    await runtime.send(WithdrawConsent(customer_id=customer, purpose=Purpose.NEWSLETTER))
    kept = await states[1].load(Customer, Customer.stream(customer))
    assert kept is not None
    assert [each.label for each in kept.state.addresses] == ["b", "c"]
    assert list(kept.state.consents) == [Purpose.PROFILING, Purpose.SHARING]
    folded = Customer.initial
    async for raw in log.read_stream(f"customer-{customer}"):
        folded = Customer.fold((each.event for each in recorded(registry, raw)), folded)
    assert kept.state == folded


async def test_rows_that_differ_from_the_log_are_found(
    registry: Registry, states: list[States], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.host.state.verification.PAUSE", 0.0)
    monkeypatch.setattr("actors.host.state.verification.PAGE", 3)
    log, customers = FailingLog(), [uuid4() for _ in range(8)]
    runtime = LocalRuntime(registry, log, states=states[0])
    for each in customers:
        await runtime.send(register(each))
        await runtime.send(rename(each, "B"))
    well, changed, cut, gone, behind, waiting, _, _ = customers

    async def found() -> list[tuple[str, str | None, str]]:
        told = await verify_states(registry, log, states[1])
        assert {(each["store"], each["view"]) for each in told} <= {("state", "customer")}
        mine = [each for each in told if each["key"] in {str(c) for c in customers}]
        return [(each["key"], each["expected"], each["found"]) for each in mine]

    assert await found() == []
    kept = await states[0].load(Customer, Customer.stream(changed))
    assert kept is not None
    other = kept.state.replace(addresses=())
    other = other.replace(profile=other.profile.replace(name="Eve"))
    for customer, state, version in ((changed, other, 1), (cut, other, 1), (behind, other, 5)):
        change = Change(
            Customer,
            Customer.stream(customer),
            1,
            version,
            0,
            None,
            state,
            whole=True,
            empties_outbox=True,
        )
        assert await states[0].commit([change], {}) == [True]
    log._truncate(f"customer-{cut}", 1)  # nobody can tell any more
    await log.delete_stream(f"customer-{gone}")
    log.takes = False
    with pytest.raises(Unavailable):
        await runtime.send(rename(waiting, "C"))  # in the outbox, which is not drained
    told = {key: (expected, has) for key, expected, has in await found()}
    assert told.keys() == {str(changed), str(gone), str(behind)}
    expected, has = told[str(changed)]
    assert '"name":"B"' in str(expected)
    assert '"name":"Eve"' in has
    assert told[str(gone)][0] is None
    assert told[str(behind)] == ("revision 1", "revision 5")
    assert str(well) not in told
    log.takes = True
    await runtime.send(rename(well, "D"))  # which takes what is owed along
    assert str(waiting) not in {key for key, _, _ in await found()}


async def test_relayed_events_leave_the_outbox_and_later_ones_wait(
    registry: Registry, states: list[States]
) -> None:
    """Otherwise an event could be in a state, and never on the log."""
    runtime, customers = LocalRuntime(registry, MemoryLog(), states=states[0]), (uuid4(), uuid4())
    for each in customers:
        await runtime.send(register(each))
    stream, other = map(Customer.stream, customers)

    async def change(stream: str, version: int, relayed: dict[str, int]) -> None:
        kept = await states[0].load(Customer, stream)
        assert kept is not None
        record = NewRecord("ConsentGiven", b"{}", {}, str(uuid4()))
        change = Change(Customer, stream, version - 1, version, 0, kept.state, kept.state, [record])
        assert await states[0].commit([change], relayed) == [True]

    async def waiting() -> list[int]:
        kept = await states[0].load(Customer, stream)
        assert kept is not None
        return [revision for revision, _ in kept.outbox]

    for version in (1, 2, 3):
        await change(stream, version, {})
    await states[0].commit([], {stream: 1})
    assert await waiting() == [2, 3]
    await change(other, 1, {stream: 2})
    assert await waiting() == [3]
    assert not await states[0].remove(Customer, stream, 2)
    assert await waiting() == [3]
    assert await states[0].remove(Customer, stream, 3)
    assert await states[0].load(Customer, stream) is None


async def test_a_state_that_postgres_cannot_keep_is_refused_and_harms_no_other(
    registry: Registry, states: list[States]
) -> None:
    if isinstance(states[0], MemoryStates):
        return
    log, good, bad = MemoryLog(), uuid4(), uuid4()
    runtime = LocalRuntime(registry, log, states=states[0])
    answers = await asyncio.gather(
        runtime.send(register(good)),
        runtime.send(register(bad, "a\0b")),
        return_exceptions=True,
    )
    assert isinstance(answers[1], InvalidCommand)
    assert "profile_name has a character" in answers[1].detail
    assert answers[0].revision == 0  # type: ignore[union-attr]
    assert await types(log, bad) == []


async def test_ids_of_commands_are_bounded(
    registry: Registry, states: list[States], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.host.recent_commands.RETENTION", 0.0)
    log, customer = MemoryLog(), uuid4()
    runtime = LocalRuntime(registry, log, states=states[0])
    await runtime.send(register(customer))
    for number in range(500):
        await runtime.send(rename(customer, f"n{number}"))
    kept = await states[1].load(Customer, Customer.stream(customer))
    assert kept is not None
    assert 256 <= len(kept.commands) <= 256 + 66
    assert kept.commands[-1].number == 500


async def test_without_postgres_only_commands_of_stored_states_fail(registry: Registry) -> None:
    from domain.orders.commands import CreateOrder

    log, states, customer = MemoryLog(), MemoryStates(), uuid4()
    runtime = LocalRuntime(registry, log, states=states)
    states.down = True
    with pytest.raises(Unavailable, match="Postgres"):
        await runtime.send(register(customer))
    await runtime.send(CreateOrder(order_id=uuid4(), customer_id="ada"))
    states.down = False
    assert await types(log, customer) == []
    assert (await runtime.send(register(customer))).revision == 0


async def test_a_postgres_that_does_not_answer_is_reported(registry: Registry) -> None:
    states = PostgresStates("postgresql://nobody@127.0.0.1:1/none", registry.state_stored)
    runtime = LocalRuntime(registry, states=states)
    with pytest.raises(Unavailable, match="Postgres does not answer"):
        await runtime.send(register(uuid4()))


async def test_a_postgres_that_was_read_only_is_written_to_again(
    registry: Registry, postgres: str
) -> None:
    """Its sessions go on with the default of the database with which they began."""
    dsn = create_database(postgres, "read_only_for_a_while")
    states = PostgresStates(dsn, registry.state_stored)
    runtime = LocalRuntime(registry, states=states)
    await runtime.send(register(uuid4()))
    admin = await asyncpg.connect(dsn)
    change = "ALTER DATABASE read_only_for_a_while"
    await admin.execute(f"{change} SET default_transaction_read_only = on")
    await admin.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with pytest.raises(Unavailable, match="read-only"):
        await runtime.send(register(uuid4()))
    await admin.execute(f"{change} RESET default_transaction_read_only")
    await admin.close()
    with suppress(Unavailable):  # the last session may have begun before
        await runtime.send(register(uuid4()))
    assert (await runtime.send(register(uuid4()))).revision == 0
    await states.close()


def test_connections_of_hosts_are_counted_where_states_are_stored(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert connections_of(registry, 3, 24) == 3 * CONNECTIONS
    monkeypatch.setattr(Customer, "placement", Placement.DEDICATED)
    assert connections_of(registry, 3, 24) == 27 * CONNECTIONS
    for each in registry.state_stored:
        monkeypatch.setattr(each, "storage", Storage.EVENTS)
    assert connections_of(registry, 3, 24) == 0


async def test_the_tables_have_readable_columns(registry: Registry, postgres: str) -> None:
    states = PostgresStates(postgres, registry.state_stored)
    customer = uuid4()
    runtime = LocalRuntime(registry, states=states)
    await runtime.send(register(customer))
    await runtime.send(AddAddress(customer_id=customer, label="home", **WHERE))
    connection = await asyncpg.connect(postgres)
    row = await connection.fetchrow(
        "SELECT c.profile_name, a.city FROM rayfold_state.customer c"
        " JOIN rayfold_state.customer_addresses a USING (_id) WHERE _id = $1",
        str(customer),
    )
    assert dict(row) == {"profile_name": "Ada", "city": "London"}
    await connection.close()
    await states.close()
