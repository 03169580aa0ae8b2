"""Wanted releases, running gateways, and what a new domain must be able to read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from deploy.errors import StartError
from deploy.stack import presence, release, routing, upgrade
from deploy.stack.identity import identify
from deploy.stack.lease import Lease
from deploy.stack.presence import Presence, gateways_of
from deploy.stack.release import Release, ReleaseWatch, read_part, wanted_release
from deploy.stack.survival import check_categories, check_event_types, check_log, note_event_types
from eventstore.memory import MemoryLog
from eventstore.port import StreamAppend
from eventstore.records import NewRecord
from rayfold import Registry
from rayfold.runtime.postgres import Connection, connect

PATIENCE = 60.0


@pytest.fixture
async def postgres(server: str) -> AsyncIterator[Connection]:
    """Return a connection to a database without a stack."""
    connection = await connect(server)
    await connection.execute(
        "DROP TABLE IF EXISTS rayfold_release, rayfold_gateway, rayfold_event_type,"
        " rayfold_event_category"
    )
    yield connection
    await connection.close()


async def test_the_wanted_release_is_the_last_one_requested(postgres: Connection) -> None:
    assert await wanted_release(postgres) is None
    first = await release.want(postgres, "shop", "h1", {})
    assert await wanted_release(postgres) == first
    second = await release.want(postgres, "shop2", "h2", {"working_dir": "."})
    assert await wanted_release(postgres) == second
    assert second == Release(2, "shop2", "h2", {"working_dir": "."})


async def test_a_watch_notices_another_release_and_not_its_own(
    server: str, postgres: Connection
) -> None:
    noticed: asyncio.Queue[Release] = asyncio.Queue()
    own = await release.want(postgres, "shop", "mine", {})
    watching = asyncio.create_task(ReleaseWatch(server, own.hash, noticed.put_nowait).run())
    other = await release.want(postgres, "shop", "other", {})
    async with asyncio.timeout(PATIENCE):
        assert await noticed.get() == other
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_only_a_controller_with_the_wanted_release_takes_the_stack_at_once(
    server: str, postgres: Connection
) -> None:
    await postgres.execute("DROP TABLE IF EXISTS rayfold_stack")
    await identify(postgres, "shop", "s1", "id1", "one")
    old, new = Lease(server, "old", "here"), Lease(server, "new", "there")
    await old.take("one")
    lost = asyncio.Event()
    holding = asyncio.create_task(old.hold(lost.set))
    await release.want(postgres, "shop", "two", {})
    async with asyncio.timeout(PATIENCE):
        await new.stand_by("two")  # the other one lives, and renews
        await lost.wait()
        await holding
    assert new.epoch == old.epoch + 1
    await new.release()
    standing_by = asyncio.create_task(Lease(server, "old", "here").stand_by("one"))
    again = Lease(server, "again", "there")
    async with asyncio.timeout(PATIENCE):
        await again.stand_by("two")
    assert not standing_by.done()  # though the lease was free
    standing_by.cancel()
    await asyncio.gather(standing_by, again.release(), return_exceptions=True)


async def test_a_refused_release_is_not_wanted_until_it_is_requested_again(
    server: str, postgres: Connection
) -> None:
    await postgres.execute("DROP TABLE IF EXISTS rayfold_stack")
    await identify(postgres, "shop", "s1", "id1", "one")
    asked = await release.want(postgres, "shop", "two", {})
    await release.refuse(postgres, asked, "it parks keys")
    old, new = Lease(server, "old", "here"), Lease(server, "new", "there")
    async with asyncio.timeout(PATIENCE):
        await old.stand_by("one")  # though another was wanted, it owns the stack
    assert await new._take("two") == "here"
    with pytest.raises(StartError, match=r"release 1 is refused.*: it parks keys"):
        await upgrade._follow(postgres, "two", lambda _: None, 0.0)
    noticed: asyncio.Queue[Release] = asyncio.Queue()
    watching = [
        asyncio.create_task(ReleaseWatch(server, own, noticed.put_nowait).run())
        for own in ("one", "two")
    ]
    async with asyncio.timeout(PATIENCE):
        told = await noticed.get()  # whoever has come for it, and by nobody else
    assert (told.hash, told.refused) == ("two", "it parks keys")
    await release.want(postgres, "shop", "two", {}, accept_parked=True)
    again = await wanted_release(postgres)
    assert again == Release(2, "shop", "two", {}, accept_parked=True)
    await release.refuse(postgres, asked, "it parks keys")  # by who builds it as it was asked first
    assert await wanted_release(postgres) == again
    async with asyncio.timeout(PATIENCE):
        while (await noticed.get()).refused:
            pass
    for each in watching:
        each.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    async with asyncio.timeout(PATIENCE):
        await new.stand_by("two")
    await asyncio.gather(old.release(), new.release())


async def test_an_operator_who_follows_a_release_is_told_that_another_was_requested(
    postgres: Connection,
) -> None:
    """Otherwise the first of two operators would wait for a release that never comes."""
    await release.want(postgres, "shop", "first", {})
    await release.want(postgres, "shop2", "second", {})
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(StartError, match="shop2 was asked for meanwhile"):
            await upgrade._follow(postgres, "first", lambda _: None, 0.0)


async def test_an_operator_who_follows_a_release_is_told_whether_a_controller_of_it_runs(
    server: str, postgres: Connection
) -> None:
    """If none runs, nobody builds its views; and a release that was taken down is not running."""
    await postgres.execute("DROP TABLE IF EXISTS rayfold_stack, rayfold_routing")
    await identify(postgres, "shop", "s1", "id1", "one")

    async def told() -> str:
        return str(await upgrade.progress_of(postgres, "two"))

    assert "waiting for" in await told()
    lease = Lease(server, "new", "there")
    await lease.take("two")
    assert "builds its views" in await told()
    await routing.publish(postgres, lease.epoch, {"domain": "two"})
    assert await told() == "done"
    await routing.publish(postgres, lease.epoch, {"domain": "two", "down": True})
    await lease.release()
    assert "waiting for" in await told()


def test_code_of_the_wanted_release_or_of_one_whose_successor_was_refused_may_run() -> None:
    wanted = Release(1, "shop", "new", {})
    refused = wanted._replace(refused="it parks keys")
    assert [wanted.lets_run(each) for each in ("old", "new")] == [False, True]
    assert [refused.lets_run(each) for each in ("old", "new")] == [True, False]


def test_during_an_upgrade_each_release_has_its_own_read_part() -> None:
    document = {"read": "new", "previous": {"h1": "old"}}
    assert read_part(document, "h1") == "old"
    assert read_part(document, "h2") == "new"
    assert read_part({"read": "new"}, "h1") == "new"


async def test_gateways_are_listed_until_they_leave_or_fall_silent(
    server: str, postgres: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await gateways_of(postgres) == []
    one, other = Presence(server, "here", "h1"), Presence(server, "there", "h2")
    await asyncio.gather(one.enter(), other.enter())
    assert await gateways_of(postgres) == [("here", "h1"), ("there", "h2")]
    await one.leave()
    # Postgres' clock was set back: it is there no longer for that.
    await postgres.execute("UPDATE rayfold_gateway SET seen = seen + interval '1 hour'")
    assert await gateways_of(postgres) == [("there", "h2")]
    monkeypatch.setattr(presence, "LENGTH", 0.0)
    assert await gateways_of(postgres) == []
    await other.leave()


SOURCE = """
from rayfold import Aggregate, Command, Event, Message, upcaster

class Deposit(Command, name="deposit"):
    account_id: str

class Deposited(Event, name={name!r}, version={version}):
    account_id: str
    {field}

class Nothing(Message):
    pass

class Account(
    Aggregate[Nothing, Deposit, Deposited],
    category={category!r}, id_field="account_id", initial=Nothing(),
):
    @staticmethod
    def decide(state: Nothing, command: Deposit) -> list[Deposited]:
        return []

    @staticmethod
    def evolve(state: Nothing, event: Deposited) -> Nothing:
        return state

{more}
"""

UPCASTER = """
@upcaster("Deposited", from_version=1)
def upcast(data):
    return {"cents": 0, **data}
"""

Domain = Callable[..., Registry]

_numbers = count()


@pytest.fixture
def domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Domain:
    """Return what makes a domain whose only event has a field of that kind."""
    monkeypatch.syspath_prepend(tmp_path)

    def domain(
        field: str,
        name: str = "Deposited",
        version: int = 1,
        more: str = "",
        category: str = "account",
    ) -> Registry:
        package = f"made_up_release_{next(_numbers)}"
        text = SOURCE.format(field=field, name=name, version=version, more=more, category=category)
        (tmp_path / f"{package}.py").write_text(text)
        return Registry.load(package)

    return domain


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("cents: int", {}),
        ("cents: float", {}),
        ("cents: int; note: str = ''", {}),
        ("other: int = 0", {}),
        ("cents: str", {"version": 2, "more": UPCASTER}),
    ],
)
async def test_a_domain_that_can_read_all_old_events_is_accepted(
    postgres: Connection, domain: Domain, field: str, more: dict[str, Any]
) -> None:
    await check_event_types(postgres, domain("cents: int"))  # nothing was noted yet
    await note_event_types(postgres, domain("cents: int"))
    await check_event_types(postgres, domain(field, **more))


@pytest.mark.parametrize(
    ("field", "more", "told"),
    [
        ("cents: str", {}, "'cents' of 'Deposited' was another type"),
        ("cents: int; note: str", {}, "have no 'note': give it a default"),
        ("cents: int", {"name": "PaidIn"}, "no event 'Deposited'"),
        ("cents: str", {"version": 2}, "an upcaster from version 1"),
    ],
)
async def test_a_domain_that_cannot_read_old_events_is_refused(
    postgres: Connection, domain: Domain, field: str, more: dict[str, Any], told: str
) -> None:
    await note_event_types(postgres, domain("cents: int"))
    with pytest.raises(StartError, match=told):
        await check_event_types(postgres, domain(field, **more))


async def test_a_release_before_a_version_that_was_raised_is_refused(
    postgres: Connection, domain: Domain
) -> None:
    await note_event_types(postgres, domain("cents: int", version=2, more=UPCASTER))
    with pytest.raises(StartError, match=r"'Deposited' of version 2 may .* or raise it to 3 and"):
        await check_event_types(postgres, domain("cents: int"))
    both = UPCASTER + UPCASTER.replace("from_version=1", "from_version=2")
    third = domain("cents: int", version=3, more=both)
    await check_event_types(postgres, third)
    await note_event_types(postgres, third)
    with pytest.raises(StartError) as refused:  # once, and of the last
        await check_event_types(postgres, domain("cents: int"))
    assert len(refused.value.reasons) == 1
    assert "keep 3, or raise it to 4" in str(refused.value)


async def test_the_log_itself_is_read_with_a_new_domain(domain: Domain) -> None:
    log = MemoryLog()
    data = b'{"account_id": "a", "cents": 1}'
    records = [NewRecord("Deposited", data, {"schemaVersion": "1"}, str(uuid4())) for _ in range(3)]
    await log.append([StreamAppend("account-a", None, records)])
    assert await check_log(log, domain("cents: int")) == 3
    with pytest.raises(StartError, match=r"cannot read the log: .*account-a"):
        await check_log(log, domain("cents: list[int]"))
    with pytest.raises(StartError, match=r"cannot read the log: .*Deposited"):
        await check_log(log, domain("cents: int", name="PaidIn"))


async def test_an_event_type_on_the_log_cannot_move_to_another_category(
    postgres: Connection, domain: Domain
) -> None:
    log, renamed = MemoryLog(), domain("cents: int", category="ledger")
    await check_categories(postgres, log, renamed)  # nothing was noted yet
    await note_event_types(postgres, domain("cents: int"))
    await check_categories(postgres, log, renamed)  # nor is there any on the log
    data = b'{"account_id": "a", "cents": 1}'
    records = [NewRecord("Deposited", data, {"schemaVersion": "1"}, str(uuid4()))]
    await log.append([StreamAppend("account-a", None, records)])
    await check_categories(postgres, log, domain("cents: int"))
    await check_categories(postgres, log, domain("cents: int", name="PaidIn"))  # of another event
    with pytest.raises(StartError, match=r"'account-a'.* give their aggregate the category"):
        await check_categories(postgres, log, renamed)
    into = '\n@upcaster("Deposited", from_version=1)\ndef upcast(data):\n    return '
    both = domain("cents: int", name="PaidIn", category="ledger", more=f'{into}("PaidIn", data)')
    with pytest.raises(StartError, match=r"'account-a'.*'PaidIn' are of the category 'ledger' now"):
        await check_categories(postgres, log, both)
    none = domain("cents: int", name="PaidIn", category="ledger", more=f"{into}None")
    await check_categories(postgres, log, none)  # they were given up


async def test_the_second_release_of_the_tests_survives_the_first(postgres: Connection) -> None:
    one, two = Registry.load("tests.releases.one"), Registry.load("tests.releases.two")
    await note_event_types(postgres, one)
    await check_event_types(postgres, two)
    await note_event_types(postgres, two)
    with pytest.raises(StartError, match="no event 'InterestPaid'"):
        await check_event_types(postgres, one)
