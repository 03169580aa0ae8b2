"""A domain that has one of each: what tenants could meet in, if they met anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rayfold import (
    Aggregate,
    Command,
    Complete,
    ComposedQuery,
    Composing,
    Decision,
    Event,
    IntegrationEvent,
    Message,
    NotFound,
    PageQuery,
    Personal,
    ProcessManager,
    Publication,
    Publish,
    Query,
    Read,
    Rejected,
    Route,
    Send,
    SqlProjection,
    SqlQuery,
    Statement,
    StateStored,
    Step,
    View,
    on,
    sql,
    starts,
)


class OpenAccount(Command, name="open-account", creates=True):
    account_id: str
    owner: str


class Deposit(Command, name="deposit"):
    account_id: str
    amount: int


class Transfer(Command, name="transfer"):
    payer: str
    payee: str
    amount: int


class AccountOpened(Event, name="AccountOpened"):
    account_id: str
    owner: str


class Deposited(Event, name="Deposited"):
    account_id: str
    amount: int


class AccountState(Message):
    owner: str = ""
    balance: int = 0


class Account(
    Aggregate[AccountState, OpenAccount | Deposit, AccountOpened | Deposited],
    category="account",
    id_field="account_id",
    initial=AccountState(),
    keep_commands=True,
):
    @staticmethod
    def decide(state: AccountState, command: OpenAccount | Deposit) -> Iterator[Event]:
        match command:
            case OpenAccount(account_id=account_id, owner=owner):
                if state.owner:
                    raise Rejected("already-open", f"{state.owner} has opened it")
                yield AccountOpened(account_id=account_id, owner=owner)
            case Deposit(account_id=account_id, amount=amount):
                if not state.owner:
                    raise NotFound("no-such-account", "nobody has opened it")
                yield Deposited(account_id=account_id, amount=amount)

    @staticmethod
    def evolve(state: AccountState, event: AccountOpened | Deposited) -> AccountState:
        if isinstance(event, AccountOpened):
            return state.replace(owner=event.owner)
        return state.replace(balance=state.balance + event.amount)


class Transferring(
    Decision[Transfer],
    reads={"payer": Read(Account, by="payer"), "payee": Read(Account, by="payee")},
):
    @staticmethod
    def decide(states: dict[str, AccountState], command: Transfer) -> Iterable[Event]:
        if not (states["payer"].owner and states["payee"].owner):
            raise NotFound("no-such-account", "nobody has opened one of them")
        if states["payer"].balance < command.amount:
            raise Rejected("too-little", f"it has {states['payer'].balance}")
        return [
            Deposited(account_id=command.payer, amount=-command.amount),
            Deposited(account_id=command.payee, amount=command.amount),
        ]


class Rename(Command, name="rename"):
    owner: str
    name: str


class Renamed(Event, name="Renamed"):
    owner: str
    name: str


class Named(Message):
    name: str = ""
    times: int = 0


class Owner(
    StateStored[Named, Rename, Renamed], category="owner", id_field="owner", initial=Named()
):
    @staticmethod
    def decide(state: Named, command: Rename) -> Iterable[Event]:
        if state.name == command.name:
            raise Rejected("same-name", f"renamed {state.times} times")
        return [Renamed(owner=command.owner, name=command.name)]

    @staticmethod
    def evolve(state: Named, event: Renamed) -> Named:
        return Named(name=event.name, times=state.times + 1)


class Join(Command, name="join", creates=True):
    member: str
    email: Personal[str]


class Joined(Event, name="Joined"):
    member: str
    email: Personal[str]


class Membership(Message):
    email: str = ""


class Member(
    Aggregate[Membership, Join, Joined], category="member", id_field="member", initial=Membership()
):
    """A person, who may be forgotten: in one tenant."""

    @staticmethod
    def decide(state: Membership, command: Join) -> Iterable[Event]:
        return [Joined(member=command.member, email=command.email)]

    @staticmethod
    def evolve(state: Membership, event: Joined) -> Membership:
        return Membership(email=event.email)


class Accounts(View, name="accounts", key="account_id", indexes=("owner", "balance")):
    account_id: str
    owner: str
    balance: int = 0

    @staticmethod
    @starts(AccountOpened)
    def opened(event: AccountOpened) -> Accounts:
        return Accounts(account_id=event.account_id, owner=event.owner)

    @staticmethod
    @on(Deposited)
    def deposited(row: Accounts, event: Deposited) -> Accounts:
        return row.replace(balance=row.balance + event.amount)


class Owners(View, name="owners", key="owner", indexes=("accounts",)):
    """Keyed by a field's value: many streams come together in a row."""

    owner: str
    accounts: int = 0
    names: tuple[str, ...] = ()

    @staticmethod
    @on(AccountOpened)
    def opened(row: Owners, event: AccountOpened) -> Owners:
        return row.replace(accounts=row.accounts + 1)

    @staticmethod
    @on(Renamed)
    def renamed(row: Owners, event: Renamed) -> Owners:
        return row.replace(names=(*row.names, event.name))


class Members(View, name="members", key="member"):
    member: str
    email: str = ""

    @staticmethod
    @on(Joined)
    def joined(row: Members, event: Joined) -> Members:
        return row.replace(email=event.email)


class GetMember(Query, name="get-member", view=Members):
    member: str


class GetAccount(Query, name="get-account", view=Accounts):
    account_id: str


class ListAccounts(PageQuery, name="list-accounts", view=Accounts):
    owner: str | None = None
    balance: int | None = None


class GetOwner(Query, name="get-owner", view=Owners):
    owner: str


class ListOwners(PageQuery, name="list-owners", view=Owners):
    accounts: int | None = None


class Wealth(Message):
    owner: Owners
    total: int


class GetWealth(ComposedQuery, name="get-wealth", result=Wealth):
    owner: str

    def handle(self) -> Composing[Wealth]:
        owner = yield GetOwner(owner=self.owner)
        if owner is None:
            return None
        accounts = yield ListAccounts(owner=self.owner, limit=200)
        return Wealth(owner=owner, total=sum(each.balance for each in accounts))


class Turnover(SqlProjection, name="turnover"):
    schema = "CREATE TABLE moved (tenant text, account_id text, amount bigint);"

    @staticmethod
    @on(Deposited)
    def deposited(event: Deposited, tenant: str = "") -> Iterable[Statement]:
        yield sql("INSERT INTO moved VALUES ($1, $2, $3)", tenant, event.account_id, event.amount)


class Moved(Message):
    account_id: str
    total: int


class ListMoved(SqlQuery, name="list-moved", projection=Turnover, row=Moved):
    def statement(self, tenant: str = "") -> Statement:
        return sql(
            "SELECT account_id, sum(amount)::bigint AS total FROM moved WHERE tenant = $1"
            " GROUP BY account_id ORDER BY account_id",
            tenant,
        )


class Welcomed(IntegrationEvent, name="welcomed"):
    owner: str


class Welcomes(Publication[Welcomed], name="welcomes", key="owner"):
    """What processes tell."""


class Greeted(Message):
    account_id: str = ""


class Greeting(
    ProcessManager[Greeted, AccountOpened], name="greeting", key="account_id", initial=Greeted()
):
    """Who opens an account gets one."""

    @staticmethod
    def evolve(state: Greeted, happened: object) -> Greeted:
        if isinstance(happened, AccountOpened):
            return Greeted(account_id=happened.account_id)
        return state

    @staticmethod
    @starts(AccountOpened)
    def opened(state: Greeted, event: AccountOpened) -> Iterator[Step]:
        yield Send(Deposit(account_id=state.account_id, amount=1))
        yield Publish(Welcomed(owner=event.owner))
        yield Complete()


ROUTES = [
    Route("POST", "/accounts", OpenAccount),
    Route("POST", "/accounts/{account_id}/deposits", Deposit),
    Route("POST", "/accounts/{payer}/transfers", Transfer),
    Route("POST", "/owners/{owner}/name", Rename),
    Route("POST", "/members", Join),
    Route("GET", "/members/{member}", GetMember),
    Route("GET", "/accounts/{account_id}", GetAccount),
    Route("GET", "/accounts", ListAccounts),
    Route("GET", "/owners/{owner}", GetOwner),
    Route("GET", "/owners", ListOwners),
    Route("GET", "/owners/{owner}/wealth", GetWealth),
    Route("GET", "/moved", ListMoved),
]
