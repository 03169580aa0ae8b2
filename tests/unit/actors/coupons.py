"""A host that speaks the domain of coupons, and a log that counts its appends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any
from uuid import uuid4

from actors.envelope import enclose
from actors.host.host import Host
from actors.host.limits import HostLimits
from eventstore.memory import MemoryLog
from eventstore.port import AppendResult, JointAppend, StreamAppend
from examples.coupons import coupons as coupons_module
from examples.coupons import customers as customers_module
from examples.coupons.coupons import (
    Coupon,
    CouponRedeemed,
    CouponState,
)
from examples.coupons.customers import Customer, RedemptionNoted
from examples.coupons.redeeming import RedeemCoupon
from rayfold import Command, Decision, Event, Registry, Rejected


class CountingLog(MemoryLog):
    """Counts appends and conflicts, and can hold appends back."""

    def __init__(self) -> None:
        super().__init__()
        self.appends: list[int] = []
        self.open = asyncio.Event()
        self.open.set()
        self.arrived = asyncio.Event()
        self.loses_answers = False

    async def append(self, appends: Sequence[StreamAppend | JointAppend]) -> list[AppendResult]:
        self.appends.append(len(appends))
        self.arrived.set()
        await self.open.wait()
        answers = await super().append(appends)
        if self.loses_answers:
            self.loses_answers = False
            raise TimeoutError("lost")
        return answers


class Coupons:
    """A host, and the domain that it speaks."""

    def __init__(self, registry: Registry, log: MemoryLog, **limits: Any) -> None:
        self.registry = registry
        self.log = log
        self.host = Host(registry, log, f"host-{uuid4().hex[:4]}", HostLimits(**limits))

    async def all(self, *commands: Command, **options: Any) -> list[Any]:
        return await self.host.handle(
            [enclose(self.registry, command, **options) for command in commands]
        )

    async def send(self, command: Command, **options: Any) -> Any:
        [outcome] = await self.all(command, **options)
        return outcome

    async def types(self, stream: str) -> list[str]:
        return [raw.event_type async for raw in self.log.read_stream(stream)]


def redeem(customer: str = "ada", coupon: str = "c") -> RedeemCoupon:
    return RedeemCoupon(coupon_id=coupon, customer_id=customer)


class InspectCoupon(Command, name="inspect-coupon"):
    """Bars a customer of a coupon that is not withdrawn; writes to the customer alone."""

    coupon_id: str
    customer_id: str


class Inspect(Decision[InspectCoupon], reads={"coupon": Coupon, "customer": Customer}):
    """Leads with what it does not write to."""

    @staticmethod
    def decide(states: Any, command: InspectCoupon) -> Iterable[Event]:
        coupon: CouponState = states["coupon"]
        if coupon.withdrawn:
            raise Rejected("withdrawn", "it is withdrawn")
        yield RedemptionNoted(customer_id=command.customer_id, coupon_id=command.coupon_id)


def always(states: Any, command: RedeemCoupon) -> Iterable[Event]:
    return [CouponRedeemed(coupon_id=command.coupon_id, customer_id=command.customer_id)]


def domain_of(*members: Any) -> Registry:
    made = ModuleType(members[0].__module__)
    for each in members:
        setattr(made, each.__name__, each)
    return Registry([coupons_module, customers_module, made])
