"""The account: its commands, its events, its rules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, assert_never

from pydantic import Field
from rayfold import Aggregate, Command, Event, Message, NotFound, Rejected

AccountId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]
Owner = Annotated[str, Field(min_length=1, max_length=200)]
Cents = Annotated[int, Field(ge=1, le=1_000_000_000)]


class OpenAccount(Command, name="open-account", creates=True):
    """Somebody wants an account."""

    account_id: AccountId
    owner: Owner


class Deposit(Command, name="deposit"):
    """Money comes in."""

    account_id: AccountId
    cents: Cents


class Withdraw(Command, name="withdraw"):
    """Money is to go out."""

    account_id: AccountId
    cents: Cents


class AccountOpened(Event, name="AccountOpened"):
    """The account is there, with nothing on it."""

    account_id: str
    owner: str


class Deposited(Event, name="Deposited"):
    """Money came in."""

    account_id: str
    cents: int


class Withdrawn(Event, name="Withdrawn"):
    """Money went out."""

    account_id: str
    cents: int


AccountCommand = OpenAccount | Deposit | Withdraw
AccountEvent = AccountOpened | Deposited | Withdrawn


class AccountState(Message):
    """What a decision needs to know, and no more."""

    opened: bool = False
    balance_cents: int = 0


class Account(
    Aggregate[AccountState, AccountCommand, AccountEvent],
    category="account",
    id_field="account_id",
    initial=AccountState(),
):
    """An account is never overdrawn."""

    @staticmethod
    def decide(state: AccountState, command: AccountCommand) -> Iterable[AccountEvent]:
        """Return what the command leads to, or refuse it. Pure: no clock, no database."""
        account = command.account_id
        if isinstance(command, OpenAccount):
            if state.opened:
                raise Rejected("account-exists", f"account {account} exists already")
            return [AccountOpened(account_id=account, owner=command.owner)]
        if not state.opened:
            raise NotFound("unknown-account", f"there is no account {account}")
        match command:
            case Deposit():
                return [Deposited(account_id=account, cents=command.cents)]
            case Withdraw():
                if command.cents > state.balance_cents:
                    raise Rejected("insufficient-funds", f"only {state.balance_cents} cents left")
                return [Withdrawn(account_id=account, cents=command.cents)]
            case _:
                assert_never(command)

    @staticmethod
    def evolve(state: AccountState, event: AccountEvent) -> AccountState:
        """Return the state after an event. It happened: nothing is refused any more."""
        match event:
            case AccountOpened():
                return state.replace(opened=True)
            case Deposited():
                return state.replace(balance_cents=state.balance_cents + event.cents)
            case Withdrawn():
                return state.replace(balance_cents=state.balance_cents - event.cents)
            case _:
                assert_never(event)
