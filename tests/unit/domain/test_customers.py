"""The rules of customers, and the view of them."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from domain.customers.commands import (
    AddAddress,
    ChangeProfile,
    GiveConsent,
    Purpose,
    RegisterCustomer,
    RemoveAddress,
    WithdrawConsent,
)
from domain.customers.customer import MAX_ADDRESSES, Customer
from domain.customers.events import (
    AddressAdded,
    AddressRemoved,
    ConsentGiven,
    ConsentWithdrawn,
    CustomerRegistered,
    ProfileChanged,
)
from domain.customers.views import CustomerProfiles
from rayfold.testing import given, rows_of

ADA = UUID(int=1)
AT = datetime(2026, 11, 27, tzinfo=UTC)
REGISTERED = CustomerRegistered(customer_id=ADA, name="Ada", email="ada@example.org", at=AT)
WHERE = {"street": "1 Mill Lane", "postal_code": "N1", "city": "London", "country": "GB"}
HOME = AddressAdded(customer_id=ADA, label="home", **WHERE)
ALLOWED = ConsentGiven(customer_id=ADA, purpose=Purpose.NEWSLETTER, at=AT)


def test_a_customer_is_registered_once() -> None:
    command = RegisterCustomer(customer_id=ADA, name="Ada", email="ada@example.org", at=AT)
    given(Customer).when(command).then(REGISTERED)
    given(Customer, REGISTERED).when(command).then_rejected("customer-exists")


def test_nobody_else_has_a_profile() -> None:
    given(Customer).when(ChangeProfile(customer_id=ADA, name="Eve")).then_not_found()


def test_a_profile_keeps_what_is_not_given() -> None:
    given(Customer, REGISTERED).when(ChangeProfile(customer_id=ADA, name="Ada L.")).then(
        ProfileChanged(customer_id=ADA, name="Ada L.", email="ada@example.org")
    )
    given(Customer, REGISTERED).when(ChangeProfile(customer_id=ADA, name="Ada")).then()


def test_an_address_replaces_the_previous_one_of_the_same_label() -> None:
    moved = {**WHERE, "street": "2 Hill Road"}
    state = (
        given(Customer, REGISTERED, HOME)
        .when(AddAddress(customer_id=ADA, label="home", **moved))
        .then(AddressAdded(customer_id=ADA, label="home", **moved))
    )
    assert [each.street for each in state.addresses] == ["2 Hill Road"]


def test_the_number_of_addresses_is_bounded_and_they_can_be_removed() -> None:
    many = [
        AddressAdded(customer_id=ADA, label=f"n{number}", **WHERE)
        for number in range(MAX_ADDRESSES)
    ]
    one_more = AddAddress(customer_id=ADA, label="more", **WHERE)
    given(Customer, REGISTERED, *many).when(one_more).then_rejected("too-many-addresses")
    gone = RemoveAddress(customer_id=ADA, label="n7")
    state = (
        given(Customer, REGISTERED, *many)
        .when(gone)
        .then(AddressRemoved(customer_id=ADA, label="n7"))
    )
    assert len(state.addresses) == MAX_ADDRESSES - 1
    given(Customer, REGISTERED).when(gone).then_rejected("no-such-address")


def test_consent_is_given_and_withdrawn_once() -> None:
    allow = GiveConsent(customer_id=ADA, purpose=Purpose.NEWSLETTER, at=AT)
    withdraw = WithdrawConsent(customer_id=ADA, purpose=Purpose.NEWSLETTER, at=AT)
    given(Customer, REGISTERED).when(allow).then(ALLOWED)
    given(Customer, REGISTERED, ALLOWED).when(allow).then()
    given(Customer, REGISTERED, ALLOWED).when(withdraw).then(
        ConsentWithdrawn(customer_id=ADA, purpose=Purpose.NEWSLETTER, at=AT)
    )
    given(Customer, REGISTERED).when(withdraw).then()


def test_a_reader_sees_all_of_it() -> None:
    row = rows_of(CustomerProfiles, REGISTERED, HOME, ALLOWED)[ADA]
    assert row.email == "ada@example.org"
    assert [each.city for each in row.addresses] == ["London"]
    assert row.consents == (Purpose.NEWSLETTER,)
