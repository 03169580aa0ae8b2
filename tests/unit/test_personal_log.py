"""A log on which personal data is encrypted: nothing of it in clear, wherever it was copied to."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import pytest

from actors.command_middleware import Bus
from actors.envelope import Done, Envelope, enclose
from actors.errors import EventStoreUnavailable, StreamUnreadable, Unavailable
from actors.host.state.memory import MemoryStates
from actors.local import LocalRuntime
from actors.processes import commits
from actors.processes import runner as runner_module
from actors.processes.checkpoints import Layout
from actors.processes.runner import ProcessRunner
from actors.schedules.schedule_runner import ScheduleRunner
from actors.schedules.schedules import Schedules
from deploy.authoring.counterfactual.walk import Counterfactual
from eventstore.errors import StoreUnavailable
from eventstore.memory import MemoryLog
from eventstore.personal.keys import SubjectKey
from eventstore.personal.log import PersonalLog
from eventstore.personal.opening import open_log
from eventstore.personal.sealing import unseal
from eventstore.port import ANY, Appended, Conflict, StreamAppend
from eventstore.records import NewRecord, RawRecord, as_written, recorded
from projections.memory.last_event import Found, LastEvent, look_for
from projections.memory.replica import Replica
from projections.queries import through_time
from projections.queries.log_browser import LogBrowser
from rayfold import FORGOTTEN, Command, Receipt, Registry, UnreadableEvent
from rayfold.runtime.turns import Turn
from rayfold.tenants import within
from tests.contract.processes.stages import until
from tests.memory_keys import MemoryKeys
from tests.personal.people import (
    Account,
    AccountState,
    ChangeEmail,
    CloseAccount,
    Contacts,
    Customer,
    Letter,
    OpenAccount,
    Register,
    Registered,
    WriteLetter,
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


@pytest.fixture
def world() -> World:
    return World()


REGISTER = Register(customer_id="ada", email="secret@example.org", born=1815)


async def test_the_log_has_no_value_in_clear_and_reads_as_if_it_had(world: World) -> None:
    await world.send(REGISTER)
    assert await world.read("customer-ada") == [
        Registered(customer_id="ada", email="secret@example.org", born=1815)
    ]
    await world.assert_nothing_in_clear()


async def test_without_the_key_a_field_reads_as_its_stand_in(world: World) -> None:
    await world.send(REGISTER, Register(customer_id="bob", email="secret-bob@example.org"))
    world.keys.forget("ada")
    assert await world.read("customer-ada") == [Registered(customer_id="ada", email=FORGOTTEN)]
    assert await world.read("customer-bob") == [
        Registered(customer_id="bob", email="secret-bob@example.org")
    ]


async def test_who_comes_back_gets_another_key(world: World) -> None:
    await world.send(REGISTER)
    world.keys.forget("ada")
    await world.send(ChangeEmail(customer_id="ada", email="secret-2@example.org"))
    first, second = await world.read("customer-ada")
    assert (first.email, second.email) == (FORGOTTEN, "secret-2@example.org")


async def test_what_a_host_has_in_memory_is_folded_again(world: World) -> None:
    await world.send(REGISTER)
    world.keys.forget("ada")
    world.runtime.host.forget_streams(lambda stream: stream.startswith("customer-"))
    await world.send(ChangeEmail(customer_id="ada", email="new@example.org"))
    assert (await world.read("customer-ada"))[-1].before == FORGOTTEN
    await world.assert_nothing_in_clear()


async def test_nothing_is_written_on_what_was_known_before_while_somebody_is_forgotten(
    world: World,
) -> None:
    """The host knows the old address still: it is made to fold again, and to decide on that."""
    await world.send(REGISTER)
    world.keys.forget("ada")
    world.keys.being_forgotten.add("ada")
    stale = ChangeEmail(customer_id="ada", email="new@example.org")
    [outcome] = await world.runtime.host.handle([enclose(world.registry, stale)])
    assert isinstance(outcome, Exception)
    world.keys.being_forgotten.clear()
    await world.send(stale)
    assert (await world.read("customer-ada"))[-1].before == FORGOTTEN


async def test_others_in_the_same_commit_are_not_held_up(world: World) -> None:
    world.keys.being_forgotten.add("ada")
    appends = [
        StreamAppend(f"customer-{each}", None, [record(each)]) for each in ("ada", "bob", "eve")
    ]
    kinds = [type(each) for each in await world.log.append(appends)]
    assert kinds == [Conflict, Appended, Appended]


async def test_nor_are_they_where_states_are_stored(world: World) -> None:
    world.keys.being_forgotten.add("ada")
    commands = [OpenAccount(holder=each, name="secret") for each in ("ada", "bob", "eve")]
    found = await world.runtime.host.handle([enclose(world.registry, each) for each in commands])
    assert [type(each) for each in found] == [Unavailable, Done, Done]
    await world.assert_nothing_in_clear()


async def test_nor_is_who_writes_to_the_same_stream(world: World) -> None:
    """A letter of several, in one round."""
    world.keys.being_forgotten.add("ada")
    commands = [
        WriteLetter(letter_id="l1", customer_id=each, to="secret") for each in ("bob", "ada", "eve")
    ]
    found = await world.runtime.host.handle([enclose(world.registry, each) for each in commands])
    assert [type(each) for each in found] == [Done, Unavailable, Done]
    assert [each.customer_id for each in await world.read("letter-l1")] == ["bob", "eve"]
    assert str(found[1]) == "somebody of whom it tells is being forgotten"


async def test_a_command_that_is_kept_for_later_waits_as_any_other(world: World) -> None:
    world.keys.being_forgotten.add("ada")
    envelope = enclose(world.registry, REGISTER)
    with pytest.raises(EventStoreUnavailable, match="being forgotten"):
        await Schedules(world.log).schedule(envelope, datetime.now(UTC) + timedelta(days=1))


async def test_what_was_decided_on_what_was_known_is_waited_for(world: World) -> None:
    """Else it would be written under the next key, once there may be one."""
    await world.send(REGISTER)
    world.keys.forget("ada")
    world.keys.being_forgotten.add("ada")
    may_ask, keys = asyncio.Event(), world.keys.to_write

    async def slow(subjects: Any) -> dict[str, SubjectKey]:
        await may_ask.wait()
        return await keys(subjects)

    world.keys.to_write = slow  # type: ignore[method-assign]
    stale = ChangeEmail(customer_id="ada", email="new@example.org")
    [outcome] = world.runtime.host.begin([enclose(world.registry, stale)])
    forgetting = asyncio.create_task(world.runtime.host.forget_known(lambda stream: True))
    done, _ = await asyncio.wait([forgetting], timeout=0.1)
    assert not done
    may_ask.set()
    await asyncio.wait_for(forgetting, 10)
    world.keys.being_forgotten.clear()
    await asyncio.wait([outcome])
    await world.send(ChangeEmail(customer_id="ada", email="newer@example.org"))
    left = await world.read("customer-ada")
    assert all("secret" not in each.before for each in left[1:])


class SlowStates(MemoryStates):
    """States that are committed once they may be."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may = asyncio.Event(), asyncio.Event()
        self.may.set()

    async def commit(self, changes: Any, relayed: Any) -> Any:
        if changes:
            self.asked.set()
            await self.may.wait()
        return await super().commit(changes, relayed)


def with_states(world: World, states: MemoryStates) -> World:
    world.states = states
    world.runtime = LocalRuntime(world.registry, world.log, states=states)
    return world


async def test_no_command_writes_into_a_row_again_what_was_known_before(world: World) -> None:
    """`close-account` has nothing personal in it, and its fold writes a name."""
    states = SlowStates()
    with_states(world, states)
    await world.send(OpenAccount(holder="ada", name="secret"))
    world.keys.forget("ada")
    states.asked.clear()
    states.may.clear()
    stale = enclose(world.registry, CloseAccount(holder="ada"))
    [outcome] = world.runtime.host.begin([stale])
    await asyncio.wait_for(states.asked.wait(), 10)
    refilling = asyncio.create_task(world.runtime.host.refill("account-ada"))
    await asyncio.sleep(0)
    states.may.set()
    await asyncio.wait_for(refilling, 10)
    assert isinstance(await outcome, Done)
    kept = await states.load(Account, "account-ada")
    assert kept is not None
    assert kept.state == AccountState(name=FORGOTTEN, label=f"{FORGOTTEN}, closed")


async def test_a_row_that_cannot_be_made_again_is_told_of_and_not_tried_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_states(world, MemoryStates())
    await world.send(OpenAccount(holder="ada", name="secret"), CloseAccount(holder="ada"))
    await world.runtime.host.take_over()  # nothing is in the outbox
    read = world.beneath.read_stream

    def cut(stream: str, **options: Any) -> AsyncGenerator[RawRecord, None]:
        return read(stream, **{**options, "after": options.get("after") or 0})

    monkeypatch.setattr(world.beneath, "read_stream", cut)
    with pytest.raises(StreamUnreadable, match="cannot be made again"):
        await asyncio.wait_for(world.runtime.host.refill("account-ada"), 10)
    await world.runtime.host.refill("account-nobody")


async def test_of_an_aggregate_that_was_deleted_for_good_no_row_is_left(world: World) -> None:
    with_states(world, MemoryStates())
    await world.send(OpenAccount(holder="ada", name="secret"))
    await world.beneath.delete_stream("account-ada", tombstone=True)
    for _ in range(2):
        await world.runtime.host.refill("account-ada")
        assert await world.states.load(Account, "account-ada") is None


def record(customer: str) -> NewRecord:
    event = Registered(customer_id=customer, email="secret@example.org")
    data = Registered.__rayfold__.encode(event)
    return NewRecord("Registered", data, {}, str(uuid5(NAMESPACE_URL, customer)))


async def test_a_snapshot_is_encrypted_whole_and_of_no_use_afterwards(world: World) -> None:
    await world.send(
        REGISTER,
        *(ChangeEmail(customer_id="ada", email=f"secret-{n}@example.org") for n in range(80)),
    )
    await world.runtime.host.drain()
    assert [raw async for raw in world.beneath.read_stream("snapshot-customer-ada")]
    await world.assert_nothing_in_clear()
    fresh = World()
    fresh.keys, fresh.beneath, fresh.log = world.keys, world.beneath, world.log
    fresh.runtime = LocalRuntime(fresh.registry, fresh.log)
    await fresh.send(ChangeEmail(customer_id="ada", email="secret-99@example.org"))
    assert (await fresh.read("customer-ada"))[-1].before == "secret-79@example.org"
    world.keys.forget("ada")
    fresh.runtime = LocalRuntime(fresh.registry, fresh.log)
    await fresh.send(ChangeEmail(customer_id="ada", email="x@example.org"))
    assert (await fresh.read("customer-ada"))[-1].before == FORGOTTEN


async def test_of_others_data_no_snapshot_is_taken(world: World) -> None:
    assert Letter.has_data_of_others()
    assert not Customer.has_data_of_others()
    knows = world.registry.may_know
    assert knows("customer-ada", {"ada"})
    assert not knows("customer-bob", {"ada"})
    assert knows("letter-1", {"ada"})
    assert not Registry.load("domain").may_know("order-ada", {"ada"})


async def test_whose_it_is_may_be_a_field(world: World) -> None:
    await world.send(WriteLetter(letter_id="l1", customer_id="ada", to="secret@example.org"))
    await world.assert_nothing_in_clear()
    world.keys.forget("ada")
    assert [each.to for each in await world.read("letter-l1")] == [FORGOTTEN]


async def test_a_person_is_one_tenant_s() -> None:
    """Whatever has their data: what they did, what others wrote of them, what waits."""
    world = World(tenants=True)
    letter = WriteLetter(letter_id="l1", customer_id="ada", to="secret@example.org")
    later = datetime.now(UTC) + timedelta(days=1)
    for tenant in ("acme", "globex"):
        await world.send(REGISTER, letter, OpenAccount(holder="ada", name="secret"), tenant=tenant)
        envelope = enclose(world.registry, letter, tenant=tenant)
        await Schedules(world.log).schedule(envelope, later)
    await world.assert_nothing_in_clear()
    assert world.keys.subjects == {"acme:ada", "globex:ada"}
    world.keys.forget("acme:ada")
    assert [each.to for each in await world.read("letter-acme:l1")] == [FORGOTTEN]
    assert [each.to for each in await world.read("letter-globex:l1")] == ["secret@example.org"]
    [gone] = await world.read("customer-acme:ada")
    [left] = await world.read("customer-globex:ada")
    assert (gone.email, left.email) == (FORGOTTEN, "secret@example.org")
    waiting = {
        json.loads(raw.data)["stream"]: b"secret" in raw.data
        async for raw in world.log.read_all(["schedule-"])
    }
    assert waiting == {"letter-acme:l1": False, "letter-globex:l1": True}


async def test_a_stored_state_s_events_are_encrypted_where_they_wait(world: World) -> None:
    waiting: list[NewRecord] = []

    class Seen(MemoryStates):
        async def commit(self, changes: Any, settled: Any) -> Any:
            waiting.extend(record for each in changes for record in each.records)
            return await super().commit(changes, settled)

    world.runtime = LocalRuntime(world.registry, world.log, states=Seen())
    await world.send(OpenAccount(holder="ada", name="secret"))
    assert len(waiting) == 1
    assert SECRET not in waiting[0].data
    await world.assert_nothing_in_clear()
    assert [each.name for each in await world.read("account-ada")] == ["secret"]


async def test_a_fingerprint_tells_nothing_of_whom_it_is() -> None:
    registry = Registry.load("tests.personal")
    one = enclose(registry, REGISTER)
    two = enclose(registry, REGISTER.replace(email="other@example.org"))
    assert one.fingerprint == two.fingerprint
    assert one.fingerprint != enclose(registry, REGISTER.replace(customer_id="b")).fingerprint


async def test_a_scheduled_command_is_encrypted(world: World) -> None:
    schedules = Schedules(world.log)
    envelope = enclose(world.registry, REGISTER)
    await schedules.schedule(envelope, datetime.now(UTC) + timedelta(days=1))
    assert await world.everything()
    await world.assert_nothing_in_clear()


class Away:
    """A bus that does not answer until it is back."""

    def __init__(self, bus: Bus) -> None:
        self._bus, self.asked, self.is_back = bus, asyncio.Event(), False

    async def send(self, envelope: Envelope) -> Receipt:
        self.asked.set()
        if not self.is_back:
            raise Unavailable("it is away")
        return await self._bus.send(envelope)


async def test_a_scheduled_command_that_waits_for_an_answer_knows_nobody_who_is_forgotten(
    world: World,
) -> None:
    """It is sent again and again, and would write under the next key what was decrypted."""
    bus = Away(world.runtime.bus)
    await Schedules(world.log).schedule(enclose(world.registry, REGISTER), datetime.now(UTC))
    runner = ScheduleRunner(world.registry, world.log, bus)
    await runner.start()
    try:
        await asyncio.wait_for(bus.asked.wait(), 10)
        world.keys.forget("ada")
        await runner.forget_personal()
        bus.is_back = True
        await until(lambda: runner.fired == 1)
    finally:
        await runner.stop()
    [registered] = await world.read("customer-ada")
    assert registered == Registered(customer_id="ada", email=FORGOTTEN, born=None)


@asynccontextmanager
async def welcoming(world: World) -> AsyncIterator[ProcessRunner]:
    """Run the process that writes letters to who has registered."""
    runner = ProcessRunner(
        world.registry,
        world.registry.processes["welcome"],
        world.log,
        world.runtime.bus,
        layout=Layout(0, 1, 0),
    )
    await runner.start()
    try:
        yield runner
    finally:
        await runner.stop()


async def letter(world: World, letter_id: str) -> str:
    """Return to whom a letter is, once it was written."""
    written: list[Any] = []

    async def is_there() -> bool:
        written[:] = await world.read(f"letter-{letter_id}")
        return bool(written)

    await until(is_there)
    return str(written[0].to)


@pytest.mark.parametrize("told_to_forget", [True, False], ids=["it was told", "it finds out"])
async def test_what_waits_to_be_told_to_a_process_is_told_as_the_log_reads_by_then(
    world: World, monkeypatch: pytest.MonkeyPatch, told_to_forget: bool
) -> None:
    """Else a step would write again who is forgotten; and as long as it may not, hold up all."""
    monkeypatch.setattr(commits, "RETRY", 0.01)
    append, tried, is_down = world.beneath.append, asyncio.Event(), True

    async def down(appends: Any) -> Any:
        if is_down and any(each.stream.startswith("process-welcome") for each in appends):
            tried.set()
            raise StoreUnavailable("away")
        return await append(appends)

    async with welcoming(world) as runner:
        monkeypatch.setattr(world.beneath, "append", down)
        await world.send(REGISTER)
        await asyncio.wait_for(tried.wait(), 10)
        world.keys.forget("ada")
        if told_to_forget:
            await runner.forget_personal()
        else:
            world.keys.being_forgotten.add("ada")
        await world.send(Register(customer_id="bob", email="bob@example.org"))
        is_down = False
        assert await letter(world, "bob-1") == "bob@example.org"
        assert await letter(world, "ada-1") == FORGOTTEN
    assert world.keys.subjects == {"bob"}


async def test_a_process_is_told_of_nobody_who_is_forgotten_while_events_are_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are decrypted, and others have their turn before it is told."""
    paused, may_go_on = asyncio.Event(), asyncio.Event()

    class Long(Turn):
        async def pass_on(self) -> None:
            paused.set()
            await may_go_on.wait()

    monkeypatch.setattr(runner_module, "Turn", Long)
    monkeypatch.setattr(runner_module, "RETRY", 0.01)
    async with welcoming(world) as runner:
        await world.send(REGISTER)
        await asyncio.wait_for(paused.wait(), 10)
        world.keys.forget("ada")
        await runner.forget_personal()
        may_go_on.set()
        assert await letter(world, "ada-1") == FORGOTTEN
    assert world.keys.subjects == set()


async def test_a_process_is_not_told_of_an_event_that_was_deleted_before_somebody_is_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it said before cannot be read again: it would be written under another key."""
    monkeypatch.setattr(commits, "RETRY", 0.01)
    append, tried, is_down = world.beneath.append, asyncio.Event(), True

    async def down(appends: Any) -> Any:
        if is_down and any(each.stream.startswith("process-welcome") for each in appends):
            tried.set()
            raise StoreUnavailable("away")
        return await append(appends)

    async with welcoming(world) as runner:
        monkeypatch.setattr(world.beneath, "append", down)
        await world.send(REGISTER)
        await asyncio.wait_for(tried.wait(), 10)
        await world.beneath.delete_stream("customer-ada")
        world.keys.forget("ada")
        await runner.forget_personal()
        is_down = False
        await until(lambda: "ada" not in runner.open)
        await world.send(Register(customer_id="bob", email="bob@example.org"))
        assert await letter(world, "bob-1") == "bob@example.org"
    assert await world.read("letter-ada-1") == []
    assert world.keys.subjects == {"bob"}


async def test_an_aggregate_through_time_shows_nobody_who_is_forgotten_since(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(through_time, "EVERY", 1)
    await world.send(REGISTER, *(ChangeEmail(customer_id="ada", email="secret") for _ in "123"))
    browser = LogBrowser(world.registry, world.log)
    shown = await browser.through_time("customer-ada")
    assert shown is not None
    assert shown["before"] == {"email": "secret"}
    world.keys.forget("ada")
    shown = await browser.through_time("customer-ada")
    assert shown is not None
    assert shown["before"] == {"email": FORGOTTEN}


@pytest.mark.parametrize("tenant", ["", "acme"])
async def test_a_process_keeps_what_it_saw_and_sent_encrypted(tenant: str) -> None:
    world, ada = World(tenants=bool(tenant)), within(tenant, "ada")
    async with welcoming(world) as runner:
        await world.send(REGISTER, tenant=tenant)
        async with asyncio.timeout(10), aclosing(world.log.subscribe(["letter-"], None)) as found:
            async for batch in found:
                if batch.records:
                    break
        assert (await world.read(f"letter-{ada}-1"))[0].to == "secret@example.org"
        assert any(raw.stream == f"process-welcome-{ada}" for raw in await world.everything())
        await world.assert_nothing_in_clear()
        assert world.keys.subjects == {ada}
        world.keys.forget(ada)
        await runner.forget_personal()
        state = runner.in_memory(ada)
        assert state is None or state.instance.state.email == FORGOTTEN


async def test_a_value_that_was_moved_is_refused_and_not_taken_for_forgotten(
    world: World,
) -> None:
    await world.send(REGISTER, Register(customer_id="bob", email="secret-bob@example.org"))
    [ada] = [raw async for raw in world.beneath.read_stream("customer-ada")]
    moved = NewRecord("Registered", ada.data, {}, "00000000-0000-4000-8000-000000000001")
    await world.beneath.append([StreamAppend("customer-eve", ANY, [moved])])
    with pytest.raises(UnreadableEvent, match="does not decrypt"):
        await world.read("customer-eve")


@pytest.mark.parametrize("sealed", ["", "x", "00.x", f"{'0' * 32}.AAAA", 7, None, {}, {"value": 3}])
async def test_what_nobody_can_decrypt_is_refused(world: World, sealed: Any) -> None:
    """Also a value whose key nobody knows: a table of keys that lost a row forgets nobody."""
    data = json.dumps({"customer_id": "x", "email": {"$personal": sealed}}).encode()
    new = NewRecord("Registered", data, {}, "00000000-0000-4000-8000-000000000002")
    await world.beneath.append([StreamAppend("customer-x", ANY, [new])])
    with pytest.raises(UnreadableEvent):
        await world.read("customer-x")


def test_what_was_encrypted_by_the_first_release_reads_for_ever() -> None:
    """Another place, or another way to write it, would be another key to all that is there."""
    key = SubjectKey(UUID(int=7), "ada", bytes(range(32)))
    data = GOLDEN.encode()
    assert unseal(data, "customer-ada", "Registered", {key.id: key}) == (
        b'{"customer_id":"ada","email":{"$personal":{"value":"ada@example.org","subject":"ada"}},'
        b'"born":{"$personal":{"value":1815,"subject":"ada","forgotten":null}}}'
    )
    assert unseal(data, "customer-ada", "Registered", {key.id: None}) == (
        b'{"customer_id":"ada","email":"[forgotten]","born":null}'
    )


GOLDEN = (
    '{"customer_id":"ada","email":{"$personal":"00000000000000000000000000000007.gpq4YhbEgbv+DwdJ+nlvEVyeNPOh7hADfXSFK6BpR6ZSgG8ImHdmoiC2+TOh"},'
    '"born":{"$personal":"00000000000000000000000000000007.9HbVYynXfBA/LselUBWuDWHOY8SHE2xypwIDFNU9UKo=","forgotten":null}}'
)


async def test_each_value_has_a_nonce_of_its_own(world: World) -> None:
    await world.send(REGISTER, ChangeEmail(customer_id="ada", email="secret@example.org"))
    sealed = [
        field["$personal"].partition(".")[2]
        for raw in await world.everything()
        for field in json.loads(raw.data).values()
        if isinstance(field, dict) and "$personal" in field
    ]
    nonces = [base64.b64decode(each)[:12] for each in sealed]
    assert len(set(nonces)) == len(nonces) == 4


async def test_keys_are_asked_for_in_batches(world: World) -> None:
    for number in range(100):
        await world.send(Register(customer_id=f"c{number}", email="secret@example.org"))
    world.keys.asked = 0
    assert len([raw async for raw in world.log.read_all(["customer-"])]) == 100
    assert world.keys.asked < 10
    world.keys.asked = 0
    async with aclosing(world.log.subscribe(["customer-"], None)) as batches:
        async for batch in batches:
            assert len(batch.records) == 100
            break
    assert world.keys.asked == 1


async def test_a_replica_knows_the_last_event_again_after_it_was_forgotten(world: World) -> None:
    await world.send(REGISTER)
    [raw] = [raw async for raw in world.log.read_stream("customer-ada")]
    last = LastEvent.of(raw)
    world.keys.forget("ada")
    assert await look_for(last, world.log, ["customer-"]) is Found.THERE
    [after] = [raw async for raw in world.log.read_stream("customer-ada")]
    assert as_written(after) == as_written(raw)


async def test_a_view_is_not_rebuilt_before_what_was_decrypted_is_folded(world: World) -> None:
    """A batch that was read before the forgetting may be at hand still, in clear."""
    await world.send(REGISTER)
    replica = Replica(world.registry, ["contacts"], world.log)
    world.keys.forget("ada")
    rebuilding = asyncio.create_task(replica.rebuild("contacts"))
    done, _ = await asyncio.wait([rebuilding], timeout=0.1)
    assert not done
    following = asyncio.create_task(replica.run())
    await asyncio.wait_for(rebuilding, 10)
    following.cancel()
    [(_, document, _)] = replica.rows("contacts")
    assert json.loads(document)["email"] == FORGOTTEN


async def test_commands_are_decided_again_with_what_is_left(world: World) -> None:
    """`rayfold counterfactual` finds no difference, neither before nor after."""
    await world.send(REGISTER, ChangeEmail(customer_id="ada", email="secret-2@example.org"))
    for _ in range(2):
        log = PersonalLog(world.beneath, world.keys, to_compare=True)
        walk = Counterfactual(world.registry, log)
        assert [each async for each in walk.findings()] == []
        assert walk.summary.same == 2
        world.keys.forget("ada") if "ada" in world.keys._keys else None


def test_a_domain_without_personal_data_has_a_log_as_any_other(registry: Registry) -> None:
    assert not registry.is_personal
    assert not isinstance(open_log("kdb://127.0.0.1:1?Tls=false", registry, None), PersonalLog)


async def test_keys_that_cannot_be_had_are_an_outage(world: World) -> None:
    class Away(MemoryKeys):
        async def to_write(self, subjects: Any) -> Any:
            raise StoreUnavailable("no keys")

    log = PersonalLog(MemoryLog(), Away())
    with pytest.raises(StoreUnavailable):
        await log.append([StreamAppend("customer-a", None, [record("a")])])


def test_views_that_are_rebuilt_are_those_that_fold_it(registry: Registry) -> None:
    personal = Registry.load("tests.personal")
    assert personal.views_of_personal_data == ["contacts", "letters"]
    assert Contacts.__rayfold__.name in personal.views_of_personal_data
    assert registry.views_of_personal_data == []
