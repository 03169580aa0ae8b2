"""What a host does with decisions over several aggregates; on a log in memory."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any
from uuid import UUID, uuid4

import pytest

from actors.envelope import Done, enclose
from actors.errors import (
    AggregateDeleted,
    KeyReused,
    RevisionMismatch,
    StreamUnreadable,
    Unavailable,
)
from actors.local import LocalRuntime
from eventstore.memory import MemoryLog
from eventstore.port import ANY, AppendResult, StreamAppend
from eventstore.records import NewRecord
from examples.coupons.coupons import (
    IssueCoupon,
    WithdrawCoupon,
)
from examples.coupons.customers import BarCustomer
from examples.coupons.redeeming import Redeem
from rayfold import NotFound, Registry, Rejected
from tests.unit.actors.coupons import (
    CountingLog,
    Coupons,
    Inspect,
    InspectCoupon,
    always,
    domain_of,
    redeem,
)

pytestmark = pytest.mark.usefixtures("one_turn")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load("examples.coupons")


@pytest.fixture
def log() -> CountingLog:
    return CountingLog()


@pytest.fixture
def coupons(registry: Registry, log: CountingLog) -> Coupons:
    return Coupons(registry, log)


async def test_events_of_both_are_appended_together_and_the_receipt_names_both(
    coupons: Coupons,
) -> None:
    await coupons.send(IssueCoupon(coupon_id="c"))
    done = await coupons.send(redeem())
    assert done == Done(1, 3, {"coupon-c": 1, "customer-ada": 0})
    assert coupons.log.appends == [1, 1]  # type: ignore[attr-defined]
    assert await coupons.types("coupon-c") == ["CouponIssued", "CouponRedeemed"]
    assert await coupons.types("customer-ada") == ["RedemptionNoted"]


async def test_a_decision_of_a_release_with_another_leading_aggregate_harms_no_other(
    coupons: Coupons,
) -> None:
    issue, ask = (
        enclose(coupons.registry, each) for each in (IssueCoupon(coupon_id="c"), redeem())
    )
    other = [
        ask._replace(stream="customer-ada"),
        issue._replace(stream="customer-ada", command_id=str(uuid4())),
    ]
    outcomes = await coupons.host.handle([issue, *other])
    assert [type(each) for each in outcomes] == [Done, Unavailable, Unavailable]
    assert await coupons.types("customer-ada") == []
    assert isinstance(await coupons.send(redeem()), Done)


async def test_a_rule_over_both_holds_for_all_that_come_at_once(coupons: Coupons) -> None:
    await coupons.send(IssueCoupon(coupon_id="c", times=100, each=2))
    greedy = [redeem(f"customer-{n % 7}") for n in range(50)]
    outcomes = await coupons.all(*greedy, *(redeem(f"customer-{n}") for n in range(7, 250)))
    told = Counter(getattr(each, "rule", "done") for each in outcomes)
    assert told["done"] == 100
    assert set(told) == {"done", "coupon-used-up", "customer-used-up"}
    assert coupons.host.conflicts == 0
    redeemed: Counter[str] = Counter()
    async for raw in coupons.log.read_stream("coupon-c", after=0):
        redeemed[json.loads(raw.data)["customer_id"]] += 1
    assert redeemed.total() == 100
    assert max(redeemed.values()) == 2


async def test_plain_commands_between_decisions_keep_their_order(coupons: Coupons) -> None:
    outcomes = await coupons.all(
        redeem(),
        IssueCoupon(coupon_id="c"),
        redeem(),
        WithdrawCoupon(coupon_id="c"),
        redeem("grace"),
    )
    assert [getattr(each, "rule", "done") for each in outcomes] == [
        "unknown-coupon",
        "done",
        "done",
        "done",
        "coupon-withdrawn",
    ]
    assert isinstance(outcomes[0], NotFound)
    assert outcomes[3].revisions is None


async def test_the_log_says_which_revisions_and_command_a_decision_was_based_on(
    coupons: Coupons,
) -> None:
    await coupons.send(IssueCoupon(coupon_id="c"))
    key = uuid4()
    await coupons.send(redeem(), command_id=key)
    found = [raw async for raw in coupons.log.read_all(["coupon-", "customer-"], after=1)]
    for raw in found:
        metadata = json.loads(raw.metadata)
        assert metadata["commandId"] == metadata["$correlationId"] == str(key)
        assert metadata["$causationId"] == str(key)
        assert json.loads(metadata["streams"]) == {"coupon-c": 1, "customer-ada": 0}
    assert len(found) == 2


async def test_a_repeat_gives_the_first_receipt_also_from_a_host_that_knows_nothing(
    coupons: Coupons, registry: Registry
) -> None:
    await coupons.send(IssueCoupon(coupon_id="c"))
    keys = [uuid4() for _ in range(20)]
    envelopes = [
        enclose(registry, redeem(f"customer-{n % 15}"), command_id=key)
        for n, key in enumerate(keys)
    ]
    first = await coupons.host.handle(envelopes)
    assert await coupons.host.handle(envelopes) == first
    another = Coupons(registry, coupons.log)
    assert await another.host.handle(envelopes) == first
    assert len(await coupons.types("coupon-c")) == 21
    assert isinstance(await another.send(redeem("eve"), command_id=keys[0]), KeyReused)


async def test_copies_that_race_are_one(coupons: Coupons) -> None:
    await coupons.send(IssueCoupon(coupon_id="c"))
    key = uuid4()
    outcomes = await coupons.all(*[redeem()] * 8, command_id=key)
    assert {each.revision for each in outcomes} == {1}
    assert len(await coupons.types("customer-ada")) == 1


async def test_an_aggregate_that_was_only_read_is_checked_and_named_in_the_receipt(
    log: CountingLog,
) -> None:
    inspections = Coupons(domain_of(Inspect), log)
    await inspections.send(IssueCoupon(coupon_id="c"))
    await inspections.send(BarCustomer(customer_id="ada"))
    key = uuid4()
    ask = InspectCoupon(coupon_id="c", customer_id="ada")
    done = await inspections.send(ask, command_id=key)
    assert done.revisions == {"coupon-c": 0, "customer-ada": 1}
    # The coupon, which leads, has no event of it: a repeat is known by the customer's.
    assert await Coupons(inspections.registry, log).send(ask, command_id=key) == done
    other = Coupons(inspections.registry, log)
    await other.send(WithdrawCoupon(coupon_id="c"))
    outcome = await inspections.send(InspectCoupon(coupon_id="c", customer_id="eve"))
    assert isinstance(outcome, Rejected)
    assert await inspections.types("customer-eve") == []


async def test_a_decision_without_events_has_the_position_of_all_that_it_read(
    coupons: Coupons, monkeypatch: pytest.MonkeyPatch
) -> None:
    await coupons.send(IssueCoupon(coupon_id="c"))
    await coupons.send(BarCustomer(customer_id="ada"))
    monkeypatch.setattr(Redeem, "decide", staticmethod(lambda states, command: []))
    assert await coupons.send(redeem()) == Done(0, 2, {"coupon-c": 0, "customer-ada": 0})


async def test_a_revision_is_that_of_the_aggregate_that_leads(coupons: Coupons) -> None:
    await coupons.send(IssueCoupon(coupon_id="c"))
    outcome = await coupons.send(redeem(), expected_revision=3)
    assert isinstance(outcome, RevisionMismatch)
    assert (outcome.expected, outcome.actual) == (3, 0)
    assert (await coupons.send(redeem(), expected_revision=0)).revision == 1


async def test_two_hosts_that_write_to_the_same_aggregates_never_break_the_rule(
    registry: Registry, log: CountingLog
) -> None:
    one, two = Coupons(registry, log, attempts=50), Coupons(registry, log, attempts=50)
    await one.send(IssueCoupon(coupon_id="c", times=60))
    outcomes = await asyncio.gather(
        *(
            (one if n % 3 else two).send(redeem(f"customer-{n % 7 if n < 40 else n}"))
            for n in range(200)
        )
    )
    told = Counter(getattr(each, "rule", type(each).__name__) for each in outcomes)
    assert told["Done"] == 60
    assert set(told) <= {"Done", "coupon-used-up", "customer-used-up"}
    assert one.host.conflicts + two.host.conflicts > 0
    assert len(await one.types("coupon-c")) == 61


async def test_a_refusal_does_not_rest_on_what_another_host_has_changed(
    registry: Registry, log: CountingLog
) -> None:
    one, two = Coupons(registry, log), Coupons(registry, log)
    assert isinstance(await two.send(redeem()), NotFound)
    await one.send(IssueCoupon(coupon_id="c", times=5, each=1))
    assert isinstance(await two.send(redeem()), Done)
    # The one has not seen that, nor the other what comes now: also plain commands look again.
    assert (await one.send(redeem())).rule == "customer-used-up"
    await one.send(WithdrawCoupon(coupon_id="c"))
    outcome = await two.send(WithdrawCoupon(coupon_id="c"))
    assert outcome.rule == "coupon-withdrawn"
    await two.send(BarCustomer(customer_id="ada"))
    assert (await one.send(BarCustomer(customer_id="ada"))).rule == "customer-barred"
    assert await one.types("customer-ada") == ["RedemptionNoted", "CustomerBarred"]


async def test_a_host_that_is_told_of_a_decision_elsewhere_has_no_conflict(
    registry: Registry, log: CountingLog
) -> None:
    customers, coupons = Coupons(registry, log), Coupons(registry, log)
    await coupons.send(IssueCoupon(coupon_id="c"))
    await customers.all(*(redeem(name) for name in ("ada", "eve")))
    for name in ("ada", "eve"):
        done = await coupons.send(redeem(name))
        customers.host.catch_up("customer-ada", done.revisions.get("customer-ada", -1))
    conflicts = customers.host.conflicts
    await customers.send(BarCustomer(customer_id="ada"))
    assert customers.host.conflicts == conflicts
    await customers.send(BarCustomer(customer_id="eve"))
    assert customers.host.conflicts == conflicts + 1
    customers.host.catch_up("customer-unheard-of", 7)


async def test_a_conflict_over_one_customer_costs_the_others_nothing(
    registry: Registry, log: CountingLog
) -> None:
    here, elsewhere = Coupons(registry, log, attempts=2), Coupons(registry, log)
    await here.send(IssueCoupon(coupon_id="c"))
    names = [f"customer-{n}" for n in range(20)]
    await here.all(*(redeem(name) for name in names))
    await elsewhere.send(BarCustomer(customer_id="customer-7"))
    outcomes = await here.all(*(redeem(name) for name in names))
    assert [getattr(each, "rule", "done") for each in outcomes] == [
        "customer-barred" if name == "customer-7" else "done" for name in names
    ]
    assert here.host.conflicts == 1


async def test_a_decision_that_is_overtaken_each_time_is_refused_with_the_stream(
    registry: Registry, log: CountingLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    coupons = Coupons(registry, log, attempts=3)
    await coupons.send(IssueCoupon(coupon_id="c"))
    append = log.append

    async def overtaken(appends: Any) -> list[AppendResult]:
        noise = NewRecord("CustomerBarred", b'{"customer_id":"ada"}', {}, str(uuid4()))
        await append([StreamAppend("customer-ada", ANY, [noise])])
        return await append(appends)

    monkeypatch.setattr(log, "append", overtaken)
    monkeypatch.setattr(Redeem, "decide", staticmethod(always))
    outcome = await coupons.send(redeem())
    assert isinstance(outcome, Unavailable)
    assert "customer-ada" in str(outcome)
    assert await coupons.types("coupon-c") == ["CouponIssued"]


async def test_an_append_of_unknown_outcome_counts_once(
    registry: Registry, log: CountingLog
) -> None:
    coupons = Coupons(registry, log)
    await coupons.send(IssueCoupon(coupon_id="c"))
    envelope = enclose(registry, redeem())
    log.loses_answers = True
    [outcome] = await coupons.host.handle([envelope])
    assert isinstance(outcome, Unavailable)
    [outcome] = await coupons.host.handle([envelope])
    assert outcome.revisions == {"coupon-c": 1, "customer-ada": 0}
    assert await coupons.types("customer-ada") == ["RedemptionNoted"]


async def test_a_store_that_is_down_answers_all_and_comes_back(coupons: Coupons) -> None:
    await coupons.send(IssueCoupon(coupon_id="c"))
    coupons.log.down = True
    outcomes = await coupons.all(redeem(), redeem("eve"), BarCustomer(customer_id="ada"))
    assert {type(each).__name__ for each in outcomes} == {"EventStoreUnavailable"}
    coupons.log.down = False
    outcomes = await coupons.all(redeem(), redeem("eve"), BarCustomer(customer_id="ada"))
    assert {type(each) for each in outcomes} == {Done}
    assert coupons.host.status()["waiting"] == 0
    await coupons.send(WithdrawCoupon(coupon_id="c"))
    coupons.log.down = True  # what is in memory refuses it, and whether that holds nobody can say
    async with asyncio.timeout(60):
        outcome = await coupons.send(WithdrawCoupon(coupon_id="c"))
    assert type(outcome).__name__ == "EventStoreUnavailable"
    assert coupons.host.status()["waiting"] == 0


async def test_a_decision_waits_for_an_aggregate_that_is_being_written_to(
    coupons: Coupons, log: CountingLog
) -> None:
    await coupons.send(IssueCoupon(coupon_id="c"))
    await coupons.send(redeem())
    log.open.clear()
    log.arrived.clear()
    barring = asyncio.create_task(coupons.send(BarCustomer(customer_id="ada")))
    await log.arrived.wait()
    redeeming = asyncio.create_task(coupons.all(redeem(), redeem("eve")))
    log.open.set()
    assert isinstance(await barring, Done)
    refused, done = await redeeming
    assert refused.rule == "customer-barred"
    assert isinstance(done, Done)
    assert coupons.host.conflicts == 0


async def test_a_command_waits_for_a_decision_that_writes_to_its_aggregate(
    coupons: Coupons, log: CountingLog
) -> None:
    await coupons.send(IssueCoupon(coupon_id="c"))
    log.open.clear()
    log.arrived.clear()
    redeeming = asyncio.create_task(coupons.send(redeem()))
    await log.arrived.wait()
    barring = asyncio.create_task(coupons.send(BarCustomer(customer_id="ada")))
    log.open.set()
    assert (await redeeming, (await barring).revision) == (
        Done(1, 3, {"coupon-c": 1, "customer-ada": 0}),
        1,
    )
    assert coupons.host.conflicts == 0


async def test_deleted_and_tombstoned_aggregates_are_what_they_are_to_plain_commands(
    coupons: Coupons, registry: Registry
) -> None:
    await coupons.all(IssueCoupon(coupon_id="c", each=1), IssueCoupon(coupon_id="d"))
    await coupons.send(redeem())
    await coupons.host.delete("customer-ada", tombstone=False)
    key = uuid4()
    done = await coupons.send(redeem(), command_id=key)
    assert done.revisions == {"coupon-c": 2, "customer-ada": 1}
    assert await Coupons(registry, coupons.log).send(redeem(), command_id=key) == done
    await coupons.host.delete("customer-eve", tombstone=True)
    refused, done = await coupons.all(redeem("eve"), redeem("bob"))
    assert isinstance(refused, AggregateDeleted)
    assert isinstance(done, Done)
    await coupons.host.delete("coupon-c", tombstone=True)
    gone = await coupons.all(redeem("eve"), redeem("zoe"))
    assert [type(each) for each in gone] == [AggregateDeleted] * 2
    assert isinstance(await coupons.send(redeem("zoe", "d")), Done)
    assert coupons.host.status()["waiting"] == 0


async def test_an_unreadable_aggregate_fails_only_the_decisions_that_read_it(
    coupons: Coupons, log: CountingLog
) -> None:
    await coupons.send(IssueCoupon(coupon_id="c"))
    noise = NewRecord("Unheard", b"{}", {}, str(uuid4()))
    await log.append([StreamAppend("customer-eve", ANY, [noise])])
    outcomes = await coupons.all(redeem("ada"), redeem("eve"), redeem("bob"), redeem("eve"))
    assert [type(each) for each in outcomes] == [Done, StreamUnreadable, Done, StreamUnreadable]
    assert coupons.host.status()["waiting"] == 0


async def test_a_snapshot_and_eviction_change_nothing(registry: Registry, log: MemoryLog) -> None:
    coupons = Coupons(registry, log, idle_timeout=0.0)
    await coupons.send(IssueCoupon(coupon_id="c", times=2000, each=400))
    for _ in range(4):
        outcomes = await coupons.all(*(redeem(f"customer-{n % 7}") for n in range(300)))
        assert {type(each) for each in outcomes} == {Done}
        await coupons.host.passivate()
    [done] = await Coupons(registry, log).all(redeem())
    assert done.revisions == {"coupon-c": 1201, "customer-ada": 0}


async def test_the_bus_returns_a_receipt_with_all_streams(registry: Registry) -> None:
    runtime = LocalRuntime(registry)
    await runtime.send(IssueCoupon(coupon_id="c"))
    key = UUID(int=7)
    receipt = await runtime.send(redeem(), command_id=key)
    assert receipt.revisions == {"coupon-c": 1, "customer-ada": 0}
    assert (receipt.stream, receipt.revision) == ("coupon-c", 1)
    assert len({receipt, await runtime.send(redeem(), command_id=key)}) == 1
    with pytest.raises(NotFound):
        await runtime.send(redeem(coupon="unheard-of"))
