"""Hosts are told what decisions of other hosts have written to their streams."""

from __future__ import annotations

from typing import Any

import pytest

from actors.envelope import Done, enclose
from actors.host.shard import SHARDS, shard_of
from actors.placement.host_client import HostClient
from actors.write_gateway import WriteGateway
from actors.write_settings import WriteSettings
from examples.coupons.redeeming import RedeemCoupon
from rayfold import Placement, Registry


class Rpc:
    """The other end of a host's socket."""

    connected = True

    def __init__(self) -> None:
        self.requests: list[Any] = []

    async def connect(self) -> None:
        pass

    async def call(self, request: Any, on_part: Any) -> list[Any]:
        self.requests.append(request)
        return [(0, 0) for _ in request[2]]

    def close(self) -> None:
        pass


async def _nobody(*_: Any) -> Any:
    raise AssertionError("this test must not look for an actor")


def client() -> tuple[HostClient, Rpc]:
    made, rpc = HostClient(_nobody), Rpc()
    made._rpc = rpc  # type: ignore[assignment]
    return made, rpc


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    return Registry.load("examples.coupons")


async def test_a_note_is_sent_once_with_the_next_batch(registry: Registry) -> None:
    host, rpc = client()
    host.note("customer-ada", 3)
    host.note("customer-ada", 2)
    envelope = enclose(registry, RedeemCoupon(coupon_id="c", customer_id="ada"), timeout=60)
    await host.send(envelope)
    await host.send(envelope)
    assert [written for *_, written in rpc.requests] == [{"customer-ada": 3}, {}]
    await host.close()


async def test_the_writers_of_the_other_streams_of_a_decision_are_told(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = WriteGateway(registry, WriteSettings("", "kdb://nowhere"), make_dedicated=_nobody)
    hosts = [client() for _ in range(2)]
    gateway._names = ["one", "two"]
    gateway._hosts = {"one": hosts[0][0], "two": hosts[1][0]}
    gateway._shards = [shard % 2 for shard in range(SHARDS)]
    coupon = _id("coupon", 0)
    here, elsewhere = _id("customer", 0), _id("customer", 1)
    told = {f"coupon-{coupon}": 7, f"customer-{here}": 1, f"customer-{elsewhere}": 2}
    monkeypatch.setattr(HostClient, "send", _answers(Done(7, 9, told)))
    command = RedeemCoupon(coupon_id=coupon, customer_id=elsewhere)
    await gateway.bus.send(enclose(registry, command))
    assert [each._written for each, _ in hosts] == [{}, {f"customer-{elsewhere}": 2}]
    # An actor that nobody uses is not made to be told something.
    monkeypatch.setattr(registry.aggregates["customer"], "placement", Placement.DEDICATED)
    await gateway.bus.send(enclose(registry, command))
    assert gateway._dedicated.clients == []
    await gateway.stop()


def _id(category: str, host: int) -> str:
    return next(f"x{n}" for n in range(99) if shard_of(f"{category}-x{n}") % 2 == host)


def _answers(outcome: Done) -> Any:
    async def send(*_: Any) -> Done:
        return outcome

    return send
