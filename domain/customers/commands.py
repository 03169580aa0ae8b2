"""What can be asked of a customer."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field

from rayfold import NOW, Command, Now

Name = Annotated[str, Field(min_length=1, max_length=200)]
Email = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w -]*$", max_length=64)]
Line = Annotated[str, Field(min_length=1, max_length=200)]
Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]


class Purpose(StrEnum):
    """What a customer can consent to."""

    NEWSLETTER = "newsletter"
    PROFILING = "profiling"
    SHARING = "sharing"


class RegisterCustomer(Command, name="register-customer", creates=True):
    """Register a new customer."""

    customer_id: UUID
    name: Name
    email: Email
    at: Now = NOW


class ChangeProfile(Command, name="change-profile"):
    """Change the customer's name or email; a field that is not given stays as it is."""

    customer_id: UUID
    name: Name | None = None
    email: Email | None = None


class AddAddress(Command, name="add-address"):
    """Add a delivery address under a label, or replace the address with that label."""

    customer_id: UUID
    label: Label
    street: Line
    postal_code: Line
    city: Line
    country: Country


class RemoveAddress(Command, name="remove-address"):
    """Remove the delivery address with this label."""

    customer_id: UUID
    label: Label


class GiveConsent(Command, name="give-consent"):
    """Give consent for a purpose."""

    customer_id: UUID
    purpose: Purpose
    at: Now = NOW


class WithdrawConsent(Command, name="withdraw-consent"):
    """Withdraw the consent for a purpose."""

    customer_id: UUID
    purpose: Purpose
    at: Now = NOW


CustomerCommand = (
    RegisterCustomer | ChangeProfile | AddAddress | RemoveAddress | GiveConsent | WithdrawConsent
)
