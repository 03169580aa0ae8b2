"""Accounts with a balance, and tills that count; the second release."""

from __future__ import annotations

from collections.abc import Iterable

from rayfold import Aggregate, Command, Event, Message, Placement, Query, Route, View, on


class Deposit(Command, name="deposit"):
    """Put in so much."""

    account_id: str
    cents: int
    note: str = ""


class PayInterest(Command, name="pay-interest"):
    """A hundredth of what is there."""

    account_id: str


class Deposited(Event, name="Deposited"):
    """So much was put in."""

    account_id: str
    cents: int


class InterestPaid(Event, name="InterestPaid"):
    """So much came on top."""

    account_id: str
    cents: int


class Balance(Message):
    """What is there."""

    cents: int = 0


class Account(
    Aggregate[Balance, Deposit | PayInterest, Deposited | InterestPaid],
    category="account",
    id_field="account_id",
    initial=Balance(),
):
    """Takes whatever comes."""

    @staticmethod
    def decide(
        state: Balance, command: Deposit | PayInterest
    ) -> Iterable[Deposited | InterestPaid]:
        if isinstance(command, PayInterest):
            return [InterestPaid(account_id=command.account_id, cents=state.cents // 100)]
        return [Deposited(account_id=command.account_id, cents=command.cents)]

    @staticmethod
    def evolve(state: Balance, event: Deposited | InterestPaid) -> Balance:
        return Balance(cents=state.cents + event.cents)


class Ring(Command, name="ring"):
    """One more."""

    till_id: str


class Rung(Event, name="Rung"):
    """One more; `times` counts all."""

    till_id: str
    times: int


class Times(Message):
    """How many."""

    times: int = 0


class Till(
    Aggregate[Times, Ring, Rung],
    category="till",
    id_field="till_id",
    initial=Times(),
    placement=Placement.DEDICATED,
):
    """Has an actor of its own."""

    @staticmethod
    def decide(state: Times, command: Ring) -> Iterable[Rung]:
        return [Rung(till_id=command.till_id, times=state.times + 1)]

    @staticmethod
    def evolve(state: Times, event: Rung) -> Times:
        return Times(times=event.times)


class Balances(View, name="balances", key="account_id", stores=("memory", "postgres")):
    """What each account has."""

    account_id: str
    cents: int = 0
    deposits: int = 0

    @staticmethod
    @on(Deposited)
    def deposited(row: Balances, event: Deposited) -> Balances:
        return row.replace(cents=row.cents + event.cents, deposits=row.deposits + 1)

    @staticmethod
    @on(InterestPaid)
    def paid(row: Balances, event: InterestPaid) -> Balances:
        return row.replace(cents=row.cents + event.cents)


class Tills(View, name="tills", key="till_id", stores=("memory", "postgres")):
    """How often each rang."""

    till_id: str
    times: int = 0

    @staticmethod
    @on(Rung)
    def rang(row: Tills, event: Rung) -> Tills:
        return row.replace(times=event.times)


class GetBalance(Query, name="get-balance", view=Balances):
    """One account."""

    account_id: str


class GetTill(Query, name="get-till", view=Tills):
    """One till."""

    till_id: str


ROUTES = [
    Route("POST", "/accounts/{account_id}/deposit", Deposit),
    Route("GET", "/accounts/{account_id}", GetBalance),
    Route("POST", "/tills/{till_id}/ring", Ring),
    Route("GET", "/tills/{till_id}", GetTill),
    Route("POST", "/accounts/{account_id}/interest", PayInterest),
]
