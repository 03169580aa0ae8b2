"""Customers, and how often each has redeemed which coupon."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import Field

from rayfold import Aggregate, Command, Event, Message, Rejected

CustomerId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.:-]*$", max_length=64)]


class BarCustomer(Command, name="bar-customer"):
    """The customer may redeem nothing any more."""

    customer_id: CustomerId


class CustomerBarred(Event, name="CustomerBarred"):
    """The customer may redeem nothing any more."""

    customer_id: str


class RedemptionNoted(Event, name="RedemptionNoted"):
    """The customer has redeemed a coupon, once."""

    customer_id: str
    coupon_id: str


CustomerEvent = CustomerBarred | RedemptionNoted


class CustomerState(Message):
    """What deciding on a customer's redemptions needs to know."""

    barred: bool = False
    redeemed: Mapping[str, int] = Field(default_factory=dict)


class Customer(
    Aggregate[CustomerState, BarCustomer, CustomerEvent],
    category="customer",
    id_field="customer_id",
    initial=CustomerState(),
):
    """A customer. There is no command to create one: without redemptions, it is in its initial
    state."""

    @staticmethod
    def decide(state: CustomerState, command: BarCustomer) -> Iterable[CustomerEvent]:
        """See `Aggregate.decide`."""
        if state.barred:
            raise Rejected("customer-barred", f"customer {command.customer_id!r} is barred already")
        return [CustomerBarred(customer_id=command.customer_id)]

    @staticmethod
    def evolve(state: CustomerState, event: CustomerEvent) -> CustomerState:
        """See `Aggregate.evolve`."""
        match event:
            case CustomerBarred():
                return state.replace(barred=True)
            case RedemptionNoted():
                times = state.redeemed.get(event.coupon_id, 0) + 1
                return state.replace(redeemed={**state.redeemed, event.coupon_id: times})
