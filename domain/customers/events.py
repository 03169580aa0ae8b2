"""What can happen to a customer."""

from __future__ import annotations

from uuid import UUID

from domain.customers.commands import Purpose
from rayfold import Event, UtcDatetime


class CustomerRegistered(Event, name="CustomerRegistered"):
    """A customer was registered."""

    customer_id: UUID
    name: str
    email: str
    at: UtcDatetime


class ProfileChanged(Event, name="ProfileChanged"):
    """The customer's name or email changed."""

    customer_id: UUID
    name: str
    email: str


class AddressAdded(Event, name="AddressAdded"):
    """A delivery address was added, or replaced the one with the same label."""

    customer_id: UUID
    label: str
    street: str
    postal_code: str
    city: str
    country: str


class AddressRemoved(Event, name="AddressRemoved"):
    """The delivery address with this label was removed."""

    customer_id: UUID
    label: str


class ConsentGiven(Event, name="ConsentGiven"):
    """The customer gave consent for a purpose."""

    customer_id: UUID
    purpose: Purpose
    at: UtcDatetime


class ConsentWithdrawn(Event, name="ConsentWithdrawn"):
    """The customer withdrew the consent for a purpose."""

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
