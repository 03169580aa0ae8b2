"""What can happen to a customer."""

from __future__ import annotations

from uuid import UUID

from domain.customers.commands import Purpose
from rayfold import Event, UtcDatetime


class CustomerRegistered(Event, name="CustomerRegistered"):
    """Somebody became a customer."""

    customer_id: UUID
    name: str
    email: str
    at: UtcDatetime


class ProfileChanged(Event, name="ProfileChanged"):
    """The customer is called and reached like this from now on."""

    customer_id: UUID
    name: str
    email: str


class AddressAdded(Event, name="AddressAdded"):
    """An address is there under a label, in place of another of the same."""

    customer_id: UUID
    label: str
    street: str
    postal_code: str
    city: str
    country: str


class AddressRemoved(Event, name="AddressRemoved"):
    """The address of that label is gone."""

    customer_id: UUID
    label: str


class ConsentGiven(Event, name="ConsentGiven"):
    """Allowed from then on."""

    customer_id: UUID
    purpose: Purpose
    at: UtcDatetime


class ConsentWithdrawn(Event, name="ConsentWithdrawn"):
    """Allowed no more."""

    customer_id: UUID
    purpose: Purpose
    at: UtcDatetime


CustomerEvent = (
    CustomerRegistered
    | ProfileChanged
    | AddressAdded
    | AddressRemoved
    | ConsentGiven
    | ConsentWithdrawn
)
