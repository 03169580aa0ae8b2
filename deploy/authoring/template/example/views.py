"""What readers of accounts see, and how they ask for it."""

from __future__ import annotations

from rayfold import Query, View, on, starts

from deploy.authoring.template.example.account import (
    AccountId,
    AccountOpened,
    Deposited,
    Withdrawn,
)


class Balances(View, name="balances", key="account_id"):
    """Whose an account is, and what is on it."""

    account_id: str
    owner: str
    balance_cents: int = 0

    @staticmethod
    @starts(AccountOpened)
    def opened(event: AccountOpened) -> Balances:
        return Balances(account_id=event.account_id, owner=event.owner)

    @staticmethod
    @on(Deposited)
    def deposited(row: Balances, event: Deposited) -> Balances:
        return row.replace(balance_cents=row.balance_cents + event.cents)

    @staticmethod
    @on(Withdrawn)
    def withdrawn(row: Balances, event: Withdrawn) -> Balances:
        return row.replace(balance_cents=row.balance_cents - event.cents)


class GetBalance(Query, name="get-balance", view=Balances):
    """One account's."""

    account_id: AccountId
