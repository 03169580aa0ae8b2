"""What readers of customers see, and how they ask for it."""

from __future__ import annotations

from uuid import UUID

from domain.customers.commands import Email, Purpose
from domain.customers.customer import Address
from domain.customers.events import (
    AddressAdded,
    AddressRemoved,
    ConsentGiven,
    ConsentWithdrawn,
    CustomerRegistered,
    ProfileChanged,
)
from rayfold import PageQuery, Query, UtcDatetime, View, on, starts


class CustomerProfiles(
    View,
    name="customer-profiles",
    key="customer_id",
    stores=("memory", "postgres", "redis"),
    indexes=("email",),
):
    """One customer, with addresses and consents."""

    customer_id: UUID
    name: str
    email: str
    addresses: tuple[Address, ...] = ()
    consents: tuple[Purpose, ...] = ()
    registered_at: UtcDatetime

    @staticmethod
    @starts(CustomerRegistered)
    def registered(event: CustomerRegistered) -> CustomerProfiles:
        return CustomerProfiles(
            customer_id=event.customer_id,
            name=event.name,
            email=event.email,
            registered_at=event.at,
        )

    @staticmethod
    @on(ProfileChanged)
    def changed(customer: CustomerProfiles, event: ProfileChanged) -> CustomerProfiles:
        return customer.replace(name=event.name, email=event.email)

    @staticmethod
    @on(AddressAdded)
    def address_added(customer: CustomerProfiles, event: AddressAdded) -> CustomerProfiles:
        added = Address(**{name: getattr(event, name) for name in Address.model_fields})
        known = [each.label for each in customer.addresses]
        if event.label not in known:
            return customer.replace(addresses=(*customer.addresses, added))
        return customer.replace(
            addresses=tuple(
                added if each.label == event.label else each for each in customer.addresses
            )
        )

    @staticmethod
    @on(AddressRemoved)
    def address_removed(customer: CustomerProfiles, event: AddressRemoved) -> CustomerProfiles:
        left = tuple(each for each in customer.addresses if each.label != event.label)
        return customer.replace(addresses=left)

    @staticmethod
    @on(ConsentGiven)
    def allowed(customer: CustomerProfiles, event: ConsentGiven) -> CustomerProfiles:
        return customer.replace(consents=(*customer.consents, event.purpose))

    @staticmethod
    @on(ConsentWithdrawn)
    def refused(customer: CustomerProfiles, event: ConsentWithdrawn) -> CustomerProfiles:
        left = tuple(each for each in customer.consents if each is not event.purpose)
        return customer.replace(consents=left)


class GetCustomer(Query, name="get-customer", view=CustomerProfiles):
    """One customer."""

    customer_id: UUID


class ListCustomers(PageQuery, name="list-customers", view=CustomerProfiles):
    """All customers, or those with this email address; oldest first."""

    email: Email | None = None
