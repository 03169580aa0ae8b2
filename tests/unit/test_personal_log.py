"""A log with encrypted personal data: none of it is in clear, in any copy."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from actors.envelope import enclose
from actors.host.state.memory import MemoryStates
from actors.local import LocalRuntime
from actors.schedules.schedules import Schedules
from deploy.authoring.counterfactual.walk import Counterfactual
from eventstore.errors import StoreUnavailable
from eventstore.memory import MemoryLog
from eventstore.personal.keys import SubjectKey
from eventstore.personal.log import PersonalLog
from eventstore.personal.opening import open_log
from eventstore.personal.sealing import unseal
from eventstore.port import ANY, StreamAppend
from eventstore.records import NewRecord, as_written
from projections.memory.last_event import Found, LastEvent, look_for
from projections.memory.replica import Replica
from projections.queries import through_time
from projections.queries.log_browser import LogBrowser
from rayfold import FORGOTTEN, Registry, UnreadableEvent
from tests.memory_keys import MemoryKeys
from tests.personal.people import (
    ChangeEmail,
    Contacts,
    Customer,
    Letter,
    OpenAccount,
    Register,
    Registered,
    WriteLetter,
)
from tests.unit.personal_world import REGISTER, SECRET, World, record


@pytest.fixture
def world() -> World:
    return World()


async def test_the_log_has_no_personal_value_in_clear_and_reads_as_before(world: World) -> None:
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


async def test_a_person_who_comes_back_gets_a_new_key(world: World) -> None:
    await world.send(REGISTER)
    world.keys.forget("ada")
    await world.send(ChangeEmail(customer_id="ada", email="secret-2@example.org"))
    first, second = await world.read("customer-ada")
    assert (first.email, second.email) == (FORGOTTEN, "secret-2@example.org")


async def test_a_snapshot_is_encrypted_completely_and_useless_after_a_forgetting(
    world: World,
) -> None:
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


async def test_no_snapshot_is_taken_of_a_state_with_data_of_other_persons(world: World) -> None:
    assert Letter.has_data_of_others()
    assert not Customer.has_data_of_others()
    knows = world.registry.may_know
    assert knows("customer-ada", {"ada"})
    assert not knows("customer-bob", {"ada"})
    assert knows("letter-1", {"ada"})
    assert not Registry.load("domain").may_know("order-ada", {"ada"})


async def test_the_subject_may_be_a_field(world: World) -> None:
    await world.send(WriteLetter(letter_id="l1", customer_id="ada", to="secret@example.org"))
    await world.assert_nothing_in_clear()
    world.keys.forget("ada")
    assert [each.to for each in await world.read("letter-l1")] == [FORGOTTEN]


async def test_a_person_belongs_to_one_tenant() -> None:
    """Wherever the data is: their own events, events of others about them, waiting commands."""
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


async def test_a_fingerprint_does_not_depend_on_personal_data() -> None:
    registry = Registry.load("tests.personal")
    one = enclose(registry, REGISTER)
    two = enclose(registry, REGISTER.replace(email="other@example.org"))
    assert one.fingerprint == two.fingerprint
    assert one.fingerprint != enclose(registry, REGISTER.replace(customer_id="b")).fingerprint


async def test_an_aggregate_through_time_shows_no_forgotten_data(
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


async def test_a_value_moved_to_another_event_is_refused_and_not_read_as_forgotten(
    world: World,
) -> None:
    await world.send(REGISTER, Register(customer_id="bob", email="secret-bob@example.org"))
    [ada] = [raw async for raw in world.beneath.read_stream("customer-ada")]
    moved = NewRecord("Registered", ada.data, {}, "00000000-0000-4000-8000-000000000001")
    await world.beneath.append([StreamAppend("customer-eve", ANY, [moved])])
    with pytest.raises(UnreadableEvent, match="does not decrypt"):
        await world.read("customer-eve")


@pytest.mark.parametrize("sealed", ["", "x", "00.x", f"{'0' * 32}.AAAA", 7, None, {}, {"value": 3}])
async def test_a_value_that_cannot_be_decrypted_is_refused(world: World, sealed: Any) -> None:
    """Also a value whose key is unknown: a lost row in the table of keys is not a forgetting."""
    data = json.dumps({"customer_id": "x", "email": {"$personal": sealed}}).encode()
    new = NewRecord("Registered", data, {}, "00000000-0000-4000-8000-000000000002")
    await world.beneath.append([StreamAppend("customer-x", ANY, [new])])
    with pytest.raises(UnreadableEvent):
        await world.read("customer-x")


def test_data_encrypted_by_the_first_release_can_still_be_read() -> None:
    """A change in how values are encrypted would make all existing data unreadable."""
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


async def test_keys_are_requested_in_batches(world: World) -> None:
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


async def test_a_replica_recognises_the_last_event_after_a_forgetting(world: World) -> None:
    await world.send(REGISTER)
    [raw] = [raw async for raw in world.log.read_stream("customer-ada")]
    last = LastEvent.of(raw)
    world.keys.forget("ada")
    assert await look_for(last, world.log, ["customer-"]) is Found.THERE
    [after] = [raw async for raw in world.log.read_stream("customer-ada")]
    assert as_written(after) == as_written(raw)


async def test_a_view_is_not_rebuilt_before_what_was_decrypted_is_folded(world: World) -> None:
    """A batch read before the forgetting may still be in memory in clear."""
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
    """`rayfold counterfactual` finds no difference, before and after the forgetting."""
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


async def test_keys_that_are_unavailable_are_an_outage(world: World) -> None:
    class Away(MemoryKeys):
        async def to_write(self, subjects: Any) -> Any:
            raise StoreUnavailable("no keys")

    log = PersonalLog(MemoryLog(), Away())
    with pytest.raises(StoreUnavailable):
        await log.append([StreamAppend("customer-a", None, [record("a")])])


def test_the_views_to_rebuild_are_those_with_personal_data(registry: Registry) -> None:
    personal = Registry.load("tests.personal")
    assert personal.views_of_personal_data == ["contacts", "letters"]
    assert Contacts.__rayfold__.name in personal.views_of_personal_data
    assert registry.views_of_personal_data == []
