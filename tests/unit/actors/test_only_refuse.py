"""Commands that a host may only refuse, because their aggregates have another writer."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from actors.envelope import Done, Envelope, Outcome, enclose
from actors.errors import NeedsOwnActor, RevisionMismatch, Unavailable
from actors.host import loading
from actors.host.host import Host
from domain.inventory.stock import ReceiveStock, ReserveStock
from eventstore.memory import MemoryLog
from examples.coupons.coupons import IssueCoupon
from examples.coupons.redeeming import RedeemCoupon
from rayfold import Command, NotFound, Registry

pytestmark = pytest.mark.usefixtures("one_turn")


class Two:
    """An aggregate's writer, and a host that is none; on a log in memory."""

    def __init__(self, domain: str) -> None:
        self.registry = Registry.load(domain)
        self.log = MemoryLog()
        self.writer = Host(self.registry, self.log, "writer")
        self.other = Host(self.registry, self.log, "other")

    async def write(self, command: Command, key: UUID | None = None) -> Outcome:
        [outcome] = await self.writer.handle([enclose(self.registry, command, command_id=key)])
        return outcome

    async def ask(self, command: Command, **options: Any) -> Outcome:
        [outcome] = await self.other.handle([self.asked(command, **options)])
        return outcome

    def asked(self, command: Command, **options: Any) -> Envelope:
        return enclose(self.registry, command, **options)._replace(only_refuse=True)

    async def written(self) -> int:
        return len([raw async for raw in self.log.read_all([""])])


@pytest.fixture
def stock() -> Two:
    return Two("domain")


def reserve(quantity: int) -> ReserveStock:
    return ReserveStock(sku="tea", quantity=quantity)


async def test_a_command_to_an_aggregate_that_does_not_exist_is_refused(stock: Two) -> None:
    assert isinstance(await stock.ask(reserve(1)), NotFound)
    assert await stock.written() == 0


async def test_a_command_that_is_not_refused_is_left_to_the_writer(stock: Two) -> None:
    receive = ReceiveStock(sku="tea", quantity=5)
    assert isinstance(await stock.ask(receive), NeedsOwnActor)
    assert await stock.written() == 0
    await stock.write(receive)
    for each in (receive, reserve(5)):
        assert isinstance(await stock.ask(each), NeedsOwnActor)
    assert await stock.written() == 1


async def test_a_command_to_an_existing_aggregate_is_left_to_the_writer(stock: Two) -> None:
    key = uuid4()
    await stock.write(ReceiveStock(sku="tea", quantity=1), key)
    assert isinstance(await stock.ask(reserve(5)), NeedsOwnActor)
    repeated = ReceiveStock(sku="tea", quantity=1)
    assert isinstance(await stock.ask(repeated, command_id=key), NeedsOwnActor)
    assert isinstance(await stock.ask(repeated, expected_revision=7), NeedsOwnActor)
    assert await stock.written() == 1


async def test_a_refusal_is_based_on_what_the_writer_has_written_by_now(
    stock: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def written_meanwhile(*arguments: Any) -> Any:
        monkeypatch.undo()
        await stock.write(ReceiveStock(sku="tea", quantity=9))
        return await loading.last_record(*arguments)

    monkeypatch.setattr(loading, "last_record", written_meanwhile)
    assert isinstance(await stock.ask(reserve(5)), NeedsOwnActor)
    assert await stock.written() == 1


async def test_no_state_is_kept_of_aggregates_that_another_host_writes(stock: Two) -> None:
    key = uuid4()
    await stock.write(ReceiveStock(sku="tea", quantity=1), key)
    await stock.ask(reserve(5))
    await stock.ask(reserve(1))
    await stock.ask(ReceiveStock(sku="tea", quantity=1), command_id=key)
    await stock.ask(ReceiveStock(sku="milk", quantity=1))
    assert stock.other.status()["aggregates"] == 0


async def test_no_state_is_kept_for_commands_that_came_too_late(stock: Two) -> None:
    await stock.write(ReceiveStock(sku="tea", quantity=1))
    late = await stock.ask(reserve(5), timeout=-1.0)
    assert isinstance(late, Unavailable)
    assert stock.other.status()["aggregates"] == 0


async def test_a_writer_keeps_its_folded_state_when_a_command_comes_too_late(
    stock: Two,
) -> None:
    """Otherwise a hot aggregate would be folded again and again, just when it is slow."""
    for _ in range(2):  # the second append has proven what the first took for granted
        await stock.write(ReceiveStock(sku="tea", quantity=1))
    [late] = await stock.writer.handle([enclose(stock.registry, reserve(1), timeout=-1.0)])
    assert isinstance(late, Unavailable)
    assert stock.writer.status()["aggregates"] == 1


async def test_a_wrong_expected_revision_is_refused(stock: Two) -> None:
    outcome = await stock.ask(ReceiveStock(sku="tea", quantity=1), expected_revision=3)
    assert isinstance(outcome, RevisionMismatch)
    assert outcome.actual is None


async def test_commands_to_be_written_do_not_wait_for_those_that_may_only_be_refused(
    stock: Two,
) -> None:
    receive = ReceiveStock(sku="tea", quantity=1)
    mine = enclose(stock.registry, receive)
    outcomes = await stock.other.handle([stock.asked(receive), mine, stock.asked(receive)])
    assert isinstance(outcomes[1], Done)
    assert [type(each) for each in outcomes[::2]] == [NeedsOwnActor] * 2
    assert await stock.written() == 1


async def test_a_decision_over_several_aggregates_is_refused_too_and_left_to_who_leads() -> None:
    two = Two("examples.coupons")
    redeem = RedeemCoupon(coupon_id="summer", customer_id="ada")
    assert isinstance(await two.ask(redeem), NotFound)
    await two.write(IssueCoupon(coupon_id="summer", times=1, each=1))
    assert isinstance(await two.ask(redeem), NeedsOwnActor)
    assert await two.written() == 1
