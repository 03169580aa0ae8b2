"""Customers who may be forgotten; each is welcomed by a process, which knows their address."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, assert_never

from rayfold import (
    Aggregate,
    Command,
    CommandRejected,
    Complete,
    Event,
    Message,
    Personal,
    ProcessManager,
    Query,
    Rejected,
    Route,
    Schedule,
    Send,
    StateStored,
    Step,
    TimedOut,
    View,
    on,
    on_timeout,
    starts,
)


class Register(Command, name="register", creates=True):
    customer_id: str
    email: Personal[str]
    born: Personal[int | None] = None


class ChangeEmail(Command, name="change-email"):
    customer_id: str
    email: Personal[str]


class Registered(Event, name="Registered"):
    customer_id: str
    email: Personal[str]
    born: Personal[int | None] = None


class EmailChanged(Event, name="EmailChanged"):
    customer_id: str
    before: Personal[str]
    email: Personal[str]


class CustomerState(Message):
    email: str = ""


class Customer(
    Aggregate[CustomerState, Register | ChangeEmail, Registered | EmailChanged],
    category="customer",
    id_field="customer_id",
    initial=CustomerState(),
    keep_commands=True,
    snapshot_every=3,
):
    @staticmethod
    def decide(
        state: CustomerState, command: Register | ChangeEmail
    ) -> list[Registered | EmailChanged]:
        match command:
            case Register():
                if state.email:
                    raise Rejected("registered", "they are")
                return [
                    Registered(
                        customer_id=command.customer_id, email=command.email, born=command.born
                    )
                ]
            case ChangeEmail():
                return [
                    EmailChanged(
                        customer_id=command.customer_id, before=state.email, email=command.email
                    )
                ]
            case _:
                assert_never(command)

    @staticmethod
    def evolve(state: CustomerState, event: Registered | EmailChanged) -> CustomerState:
        return state.replace(email=event.email)


class WriteLetter(Command, name="write-letter", creates=True, subject="customer_id"):
    letter_id: str
    customer_id: str
    to: Personal[str]


class LetterWritten(Event, name="LetterWritten", subject="customer_id"):
    letter_id: str
    customer_id: str
    to: Personal[str]


class LetterState(Message):
    to: str = ""


class Letter(
    Aggregate[LetterState, WriteLetter, LetterWritten],
    category="letter",
    id_field="letter_id",
    initial=LetterState(),
):
    """Of somebody else than its id says."""

    @staticmethod
    def decide(state: LetterState, command: WriteLetter) -> list[LetterWritten]:
        return [LetterWritten(**command.model_dump())]

    @staticmethod
    def evolve(state: LetterState, event: LetterWritten) -> LetterState:
        return state.replace(to=event.to)


class WelcomeState(Message):
    customer_id: str = ""
    email: str = ""


class Welcome(
    ProcessManager[WelcomeState, Registered],
    name="welcome",
    key="customer_id",
    initial=WelcomeState(),
):
    """Writes a letter at once, and another one in a year."""

    @staticmethod
    def evolve(
        state: WelcomeState, happened: Registered | TimedOut | CommandRejected[Any]
    ) -> WelcomeState:
        match happened:
            case Registered():
                return WelcomeState(customer_id=happened.customer_id, email=happened.email)
            case _:
                return state

    @staticmethod
    @starts(Registered)
    def greet(state: WelcomeState, event: Registered) -> Iterator[Step]:
        yield _letter(state, 1)
        yield Schedule("a-year", after=timedelta(days=365))

    @staticmethod
    @on_timeout("a-year")
    def again(state: WelcomeState, timeout: TimedOut) -> Iterator[Step]:
        yield _letter(state, 2)
        yield Complete()


def _letter(state: WelcomeState, number: int) -> Send:
    return Send(
        WriteLetter(
            letter_id=f"{state.customer_id}-{number}",
            customer_id=state.customer_id,
            to=state.email,
        )
    )


class OpenAccount(Command, name="open-account", creates=True):
    holder: str
    name: Personal[str]


class AccountOpened(Event, name="AccountOpened"):
    holder: str
    name: Personal[str]


class CloseAccount(Command, name="close-account"):
    holder: str


class AccountClosed(Event, name="AccountClosed"):
    holder: str


class AccountState(Message):
    name: str = ""
    label: str = ""


class Account(
    StateStored[AccountState, OpenAccount | CloseAccount, AccountOpened | AccountClosed],
    category="account",
    id_field="holder",
    initial=AccountState(),
):
    """Its state is a row that people can read."""

    @staticmethod
    def decide(
        state: AccountState, command: OpenAccount | CloseAccount
    ) -> list[AccountOpened | AccountClosed]:
        match command:
            case OpenAccount():
                return [AccountOpened(holder=command.holder, name=command.name)]
            case CloseAccount():
                return [AccountClosed(holder=command.holder)]
            case _:
                assert_never(command)

    @staticmethod
    def evolve(state: AccountState, event: AccountOpened | AccountClosed) -> AccountState:
        match event:
            case AccountOpened():
                return state.replace(name=event.name, label=event.name)
            case AccountClosed():
                return state.replace(label=f"{state.name}, closed")
            case _:
                assert_never(event)


class Contacts(View, name="contacts", key="customer_id"):
    customer_id: str
    email: str = ""
    born: int | None = None

    @staticmethod
    @on(Registered)
    def add(row: Contacts, event: Registered) -> Contacts:
        return row.replace(email=event.email, born=event.born)


class Letters(View, name="letters", key="letter_id", stores=("memory",)):
    letter_id: str
    to: str = ""

    @staticmethod
    @on(LetterWritten)
    def add(row: Letters, event: LetterWritten) -> Letters:
        return row.replace(to=event.to)


class GetContact(Query, name="get-contact", view=Contacts):
    customer_id: str


class GetLetter(Query, name="get-letter", view=Letters):
    letter_id: str


ROUTES = [
    Route("POST", "/customers", Register),
    Route("POST", "/customers/{customer_id}/email", ChangeEmail),
    Route("GET", "/customers/{customer_id}", GetContact),
    Route("GET", "/letters/{letter_id}", GetLetter),
]
