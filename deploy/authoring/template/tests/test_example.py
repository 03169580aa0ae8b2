"""The rules of accounts, and what readers see: without a server, in a moment."""

from __future__ import annotations

from rayfold import Registry
from rayfold.testing import given, rows_of

from deploy.authoring.template.example.account import (
    Account,
    AccountOpened,
    AccountState,
    Deposit,
    Deposited,
    OpenAccount,
    Withdraw,
    Withdrawn,
)
from deploy.authoring.template.example.views import Balances

OPENED = AccountOpened(account_id="a1", owner="ada")
DEPOSITED = Deposited(account_id="a1", cents=500)


def test_an_account_is_opened_once() -> None:
    open_account = OpenAccount(account_id="a1", owner="ada")
    given(Account).when(open_account).then(OPENED)
    given(Account, OPENED).when(open_account).then_rejected("account-exists")


def test_what_was_deposited_can_be_withdrawn() -> None:
    account = given(Account, OPENED, DEPOSITED)
    state = account.when(Withdraw(account_id="a1", cents=200)).then(
        Withdrawn(account_id="a1", cents=200)
    )
    assert state == AccountState(opened=True, balance_cents=300)


def test_an_account_is_never_overdrawn() -> None:
    account = given(Account, OPENED, DEPOSITED)
    account.when(Withdraw(account_id="a1", cents=501)).then_rejected("insufficient-funds")


def test_nothing_is_deposited_on_an_account_that_was_never_opened() -> None:
    given(Account).when(Deposit(account_id="a1", cents=1)).then_not_found()


def test_readers_see_the_balance() -> None:
    rows = rows_of(Balances, OPENED, DEPOSITED, Withdrawn(account_id="a1", cents=200))
    assert rows == {"a1": Balances(account_id="a1", owner="ada", balance_cents=300)}


def test_rayfold_finds_no_mistake_in_the_domain() -> None:
    registry = Registry.load("deploy.authoring.template.example")
    assert registry.aggregates == {"account": Account}
