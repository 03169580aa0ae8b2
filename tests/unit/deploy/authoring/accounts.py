"""A small domain in several versions of its code, as its author would change it."""

from __future__ import annotations

import sys
from itertools import count
from types import ModuleType

from rayfold import Registry

_numbers = count()

SOURCE = """
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from pydantic import Field

from rayfold import (
    NOW, Aggregate, Command, Decision, Event, Message, Middleware, Now, Read, Rejected,
    UtcDatetime, upcaster
)


class Account(Message):
    balance: int = 0
    moves: int = 0


class Deposit(Command, name="deposit"):
    account_id: str
    amount: int


class Withdraw(Command, name="withdraw"):
    account_id: str
    amount: int


class Deposited(Event, name="Deposited"):
    account_id: str
    amount: int


class Withdrawn(Event, name="Withdrawn"):
    account_id: str
    amount: int
    fee: int = 0
    slip: UUID = Field(default_factory=uuid4)


class Accounts(
    Aggregate[Account, Deposit | Withdraw, Deposited | Withdrawn],
    category="account",
    id_field="account_id",
    initial=Account(),
    keep_commands=True,
):
    @staticmethod
    def decide(state, command):
        if isinstance(command, Deposit):
            return [Deposited(account_id=command.account_id, amount=command.amount)]
        if command.amount > state.balance:
            raise Rejected("not-covered", "the account has too little")
        return [Withdrawn(account_id=command.account_id, amount=command.amount)]

    @staticmethod
    def evolve(state, event):
        sign = 1 if isinstance(event, Deposited) else -1
        return Account(balance=state.balance + sign * event.amount, moves=state.moves + 1)


class Transfer(Command, name="transfer"):
    account_id: str
    to: str
    amount: int


class Transfers(
    Decision[Transfer],
    reads={"payer": Accounts, "payee": Read(Accounts, by="to")},
):
    @staticmethod
    def decide(states, command):
        if states["payer"].balance < command.amount:
            raise Rejected("not-covered", "the account has too little")
        return [
            Withdrawn(account_id=command.account_id, amount=command.amount),
            Deposited(account_id=command.to, amount=command.amount),
        ]
"""


def domain(*changes: tuple[str, str]) -> Registry:
    """Return the domain, with some of its text replaced by other text."""
    source = SOURCE
    for old, new in changes:
        assert old in source, old
        source = source.replace(old, new)
    module = ModuleType(f"accounts_{next(_numbers)}")
    sys.modules[module.__name__] = module  # where types in annotations are looked up
    exec(source, module.__dict__)
    return Registry([module])
