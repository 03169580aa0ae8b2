"""The customer: its rules, and what its events make of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from pydantic import Field

from domain.customers.commands import (
    AddAddress,
    ChangeProfile,
    CustomerCommand,
    GiveConsent,
    Purpose,
    RegisterCustomer,
    RemoveAddress,
    WithdrawConsent,
)
from domain.customers.events import (
    AddressAdded,
    AddressRemoved,
    ConsentGiven,
    ConsentWithdrawn,
    CustomerEvent,
    CustomerRegistered,
    ProfileChanged,
)
from rayfold import Message, NotFound, Rejected, StateStored, UtcDatetime

MAX_ADDRESSES = 50


class Address(Message):
    """A delivery address."""

    label: str
    street: str
    postal_code: str
    city: str
    country: str


class Profile(Message):
    """The customer's name and email address."""

    name: str = ""
    email: str = ""


class CustomerState(Message):
    """A row of `customer`, with rows of `customer_addresses` and `customer_consents`."""

    registered_at: UtcDatetime | None = None
    profile: Profile = Profile()
    addresses: tuple[Address, ...] = ()
    consents: dict[Purpose, UtcDatetime] = Field(default_factory=dict)

    def address(self, label: str) -> Address | None:
        """Return the address of that label."""
        return next((each for each in self.addresses if each.label == label), None)


class Customer(
    StateStored[CustomerState, CustomerCommand, CustomerEvent],
    category="customer",
    id_field="customer_id",
    initial=CustomerState(),
):
    """A person who buys."""

    @staticmethod
    def decide(state: CustomerState, command: CustomerCommand) -> Iterable[CustomerEvent]:
        """See `Aggregate.decide`."""
        customer = command.customer_id
        if isinstance(command, RegisterCustomer):
            if state.registered_at is not None:
                raise Rejected("customer-exists", f"customer {customer} exists already")
            return [CustomerRegistered(**dict(command))]
        if state.registered_at is None:
            raise NotFound("unknown-customer", f"there is no customer {customer}")
        match command:
            case ChangeProfile():
                changed = Profile(
                    name=command.name or state.profile.name,
                    email=command.email or state.profile.email,
                )
                if changed == state.profile:
                    return []
                return [ProfileChanged(customer_id=customer, **dict(changed))]
            case AddAddress():
                is_new = state.address(command.label) is None
                if is_new and len(state.addresses) >= MAX_ADDRESSES:
                    raise Rejected(
                        "too-many-addresses", f"a customer has at most {MAX_ADDRESSES} addresses"
                    )
                return [AddressAdded(**dict(command))]
            case RemoveAddress():
                if state.address(command.label) is None:
                    raise Rejected("no-such-address", f"there is no address {command.label!r}")
                return [AddressRemoved(**dict(command))]
            case GiveConsent():
                if command.purpose in state.consents:
                    return []
                return [ConsentGiven(**dict(command))]
            case WithdrawConsent():
                if command.purpose not in state.consents:
                    return []
                return [ConsentWithdrawn(**dict(command))]
            case _:
                assert_never(command)

    @staticmethod
    def evolve(state: CustomerState, event: CustomerEvent) -> CustomerState:
        """See `Aggregate.evolve`."""
        match event:
            case CustomerRegistered():
                profile = Profile(name=event.name, email=event.email)
                return state.replace(registered_at=event.at, profile=profile)
            case ProfileChanged():
                return state.replace(profile=Profile(name=event.name, email=event.email))
            case AddressAdded():
                fields = {name: getattr(event, name) for name in Address.model_fields}
                address, before = Address(**fields), state.address(event.label)
                if before is None:
                    return state.replace(addresses=(*state.addresses, address))
                return state.replace(
                    addresses=tuple(address if each is before else each for each in state.addresses)
                )
            case AddressRemoved():
                left = tuple(each for each in state.addresses if each.label != event.label)
                return state.replace(addresses=left)
            case ConsentGiven():
                return state.replace(consents={**state.consents, event.purpose: event.at})
            case ConsentWithdrawn():
                consents = dict(state.consents)
                consents.pop(event.purpose, None)
                return state.replace(consents=consents)
            case _:
                assert_never(event)
