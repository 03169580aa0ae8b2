"""A stack owns one log, one database and one namespace: checked on Postgres only."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, cast

import asyncpg
import pytest

from deploy.errors import StartError
from deploy.stack import down, release, routing, wanted
from deploy.stack import identity as identities
from deploy.stack import lease as leases
from deploy.stack.foundation import Foundation
from deploy.stack.identity import LAYOUT, identify
from deploy.stack.lease import Lease
from deploy.stack.local_ray import LocalRay
from deploy.stack.owning import Owned, Owner, own
from deploy.stack.release import wanted_release
from deploy.stack.settings import Settings
from deploy.stack.survival import check_event_types
from eventstore.identity import store_id
from eventstore.memory import MemoryLog
from projections.settings import ReadSettings
from rayfold import Registry
from rayfold.runtime.identity import domain_hash
from rayfold.runtime.postgres import Connection, LastingConnection, connect


@pytest.fixture
async def postgres(server: str) -> str:
    """Return the DSN of a database without a stack."""
    connection = await asyncpg.connect(server)
    await connection.execute("DROP TABLE IF EXISTS rayfold_stack, rayfold_wanted, rayfold_routing")
    await connection.close()
    return server


async def identified(dsn: str, name: str = "shop", store: str = "s1", new_id: str = "id1") -> str:
    connection = await asyncpg.connect(dsn)
    try:
        return await identify(connection, name, store, new_id, "domain")
    finally:
        await connection.close()


async def epoch_of(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("SELECT epoch FROM rayfold_stack"))
    finally:
        await connection.close()


async def test_a_log_keeps_the_first_id_that_it_is_given() -> None:
    log = MemoryLog()
    names = await asyncio.gather(*(store_id(log) for _ in range(5)))
    assert set(names) == {await store_id(log)}
    assert await store_id(MemoryLog()) != names[0]


def test_the_hash_of_a_domain_is_stable_and_differs_between_domains() -> None:
    first = domain_hash(Registry.load("domain"))
    assert first == domain_hash(Registry.load("domain"))
    assert first != domain_hash(Registry.load("examples.shop"))


async def test_a_database_belongs_to_the_first_stack(postgres: str) -> None:
    ids = await asyncio.gather(*(identified(postgres, new_id=f"id{n}") for n in range(5)))
    assert len(set(ids)) == 1


async def test_another_stack_name_or_log_or_a_newer_layout_is_refused(postgres: str) -> None:
    await identified(postgres)
    with pytest.raises(StartError, match="belongs to the stack 'shop', not to 'other'"):
        await identified(postgres, name="other")
    with pytest.raises(StartError, match="belongs to another event store"):
        await identified(postgres, store="s2")
    connection = await asyncpg.connect(postgres)
    await connection.execute("UPDATE rayfold_stack SET layout = $1", LAYOUT + 1)
    await connection.close()
    with pytest.raises(StartError, match="of a newer Rayfold"):
        await identified(postgres)


async def test_a_lease_that_is_being_renewed_cannot_be_taken(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEWAL", 0.1)
    await identified(postgres)
    first = Lease(postgres, "first", "there")
    await first.take("domain")
    holding = asyncio.create_task(first.hold(lambda: None))
    with pytest.raises(StartError, match="the stack 'shop' is run by there"):
        await Lease(postgres, "second", "here").take("domain")
    holding.cancel()
    await first.release()
    second = Lease(postgres, "second", "here")
    await second.take("domain")
    assert second.epoch == first.epoch + 1
    await second.release()


async def test_a_lease_taken_after_a_silence_ends_the_previous_owner(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await identified(postgres)
    first = Lease(postgres, "first", "there", length=0.5)
    await first.take("domain")
    second = Lease(postgres, "second", "here")
    await second.take("domain")
    monkeypatch.setattr(leases, "RENEWAL", 0.1)
    lost = asyncio.Event()
    async with asyncio.timeout(60):
        await first.hold(lost.set)
    assert lost.is_set()
    await first.release()
    assert await epoch_of(postgres) == second.epoch
    holding = asyncio.create_task(second.hold(lambda: None))
    with pytest.raises(StartError, match="run by here"):
        await Lease(postgres, "third", "elsewhere").take("domain")
    holding.cancel()
    await second.release()


async def test_a_lease_expires_in_time_although_postgres_clock_was_set_back(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise nobody would own the stack for an hour, and `down` would name the dead owner."""
    monkeypatch.setattr(leases, "RENEWAL", 0.1)
    await identified(postgres)
    connection = await connect(postgres)
    await Lease(postgres, "killed", "there").take("domain")
    await connection.execute("UPDATE rayfold_stack SET until = until + interval '1 hour'")
    assert not await identities.owned_now(connection, leases.LENGTH)
    async with asyncio.timeout(60):
        await Lease(postgres, "heir", "here", length=0.5).stand_by("domain")
    heir = Lease(postgres, "heir", "here")  # of a length that no stall of this machine has
    await heir.take("domain")
    await connection.execute("UPDATE rayfold_stack SET until = until + interval '1 hour'")
    holding = asyncio.create_task(heir.hold(lambda: None))
    with pytest.raises(StartError, match="the stack 'shop' is run by here"):
        await Lease(postgres, "other", "elsewhere").take("domain")
    holding.cancel()
    await heir.release()
    await connection.close()


async def test_an_owner_that_crashed_gets_its_lease_again_at_once_from_the_same_data_folder(
    postgres: str,
) -> None:
    await identified(postgres)
    crashed = Lease(postgres, "first", "there", length=3600)
    await crashed.take("domain")
    again = Lease(postgres, "first", "there")
    async with asyncio.timeout(60):
        await again.take("domain")
    assert again.epoch == crashed.epoch + 1


async def test_an_owner_continues_after_a_failover_to_a_postgres_that_lacks_its_lease(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEWAL", 0.05)
    await identified(postgres)
    lease = Lease(postgres, "first", "there")
    await lease.take("domain")
    await lease.take("domain")
    connection = await asyncpg.connect(postgres)
    await connection.execute("UPDATE rayfold_stack SET epoch = 1, owner = 'before'")
    holding = asyncio.create_task(lease.hold(lambda: None))
    with pytest.raises(StartError, match="run by there"):
        await Lease(postgres, "second", "here").take("domain")
    assert not holding.done()
    assert await epoch_of(postgres) == 2
    holding.cancel()
    await connection.close()


async def test_a_start_that_is_refused_the_stack_has_changed_nothing(
    databases: list[str], store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a `rayfold up` started by mistake: the wanted release is not changed."""
    monkeypatch.setattr(leases, "RENEWAL", 0.1)
    postgres = databases[0]
    one, other = Registry.load("tests.releases.one"), Registry.load("examples.shop")

    async def owned(registry: Registry, name: str, parts: AsyncExitStack, **how: bool) -> Owned:
        foundation = Foundation(registry, store, postgres, "", [], LocalRay(None, lambda: None))
        settings, owner = Settings(stack="shop"), Owner(name, "here")
        return await own(settings, foundation, owner, parts, lambda: None, **how)

    connection = await connect(postgres)
    async with AsyncExitStack() as controller:
        await owned(one, "controller", controller, stand_by=True)
        wanted_then = await release.want(connection, "one", domain_hash(one), {})
        async with AsyncExitStack() as parts:
            with pytest.raises(StartError, match="run by here"):
                await owned(other, "up", parts)
        assert await wanted_release(connection) == wanted_then
        await check_event_types(connection, one)  # those of the other never were on the log
    async with AsyncExitStack() as parts:
        await owned(other, "up", parts)
        assert await wanted_release(connection) is None
        with pytest.raises(StartError, match="which may be on the log"):
            await check_event_types(connection, one)
    await connection.close()


async def test_down_renews_the_lease_while_it_ends_a_stack_without_an_owner(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joining Ray may take longer than a lease: a controller would make the parts again."""
    monkeypatch.setattr(leases, "RENEWAL", 0.1)
    await identified(postgres)
    connection = await asyncpg.connect(postgres)

    async def until() -> datetime:
        return cast(datetime, await connection.fetchval("SELECT until FROM rayfold_stack"))

    async def end(*_: Any) -> list[str]:
        first = await until()
        async with asyncio.timeout(leases.LENGTH / 2):
            while await until() == first:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return ["write#0"]

    monkeypatch.setattr(down, "_end", end)
    assert await down.down(Settings(stack="shop", postgres=postgres)) == ["write#0"]
    assert await until() < datetime.now(UTC)  # and nobody waits for it now
    await connection.close()


async def test_down_waits_for_the_lease_of_another_down_that_was_killed(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It told the operator to stop the one that was killed, which nobody can do."""
    monkeypatch.setattr(leases, "RENEWAL", 0.1)

    async def end(*_: Any) -> list[str]:
        return ["write#0"]

    monkeypatch.setattr(down, "_end", end)
    await identified(postgres)
    connection = await connect(postgres)
    await Lease(postgres, "killed", "there", length=2.0).take("domain")
    settings = Settings(stack="shop", postgres=postgres)
    assert await down.down(settings) == ["write#0"]
    alive = Lease(postgres, "an up", "there")
    await alive.take("domain")
    await routing.publish(connection, alive.epoch, {})
    holding = asyncio.create_task(alive.hold(lambda: None))
    with pytest.raises(StartError, match="the stack 'shop' is run by there: stop that one"):
        await down.down(settings)
    holding.cancel()
    await alive.release()
    await connection.close()


@pytest.mark.parametrize("after", ["it has published", "a look", "it has gone"])
async def test_down_asks_a_successor_that_took_the_lease_just_before(
    postgres: str, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    """The lease had expired, and a controller took it just after `down` had seen that."""
    monkeypatch.setattr(leases, "RENEWAL", 0.1)
    await identified(postgres)
    successor, owned_now = Lease(postgres, "second", "there"), identities.owned_now
    tasks: list[asyncio.Task[None]] = []
    looks = 0

    async def publish(connection: Connection) -> None:
        at = {"controller": {"host": "there", "port": 1, "key": "00"}}
        await routing.publish(connection, successor.epoch, at)

    async def just_before(connection: Connection, length: float) -> bool:
        nonlocal looks
        looks += 1
        if looks == 1:
            await successor.take("domain")
            tasks.append(asyncio.create_task(successor.hold(lambda: None)))
            if after == "it has published":
                await publish(connection)
            return False
        if looks == 4 and after == "a look":
            await publish(connection)
        if looks == 2 and after == "it has gone":
            tasks[0].cancel()
            await asyncio.wait(tasks)
            await successor.release()
        return await owned_now(connection, length)

    async def ask(at: dict[str, Any]) -> list[str]:
        return [f"write#0@{at['host']}"]

    async def end(*_: Any) -> list[str]:
        return ["write#0"]

    monkeypatch.setattr(identities, "owned_now", just_before)
    monkeypatch.setattr(down, "_ask", ask)
    monkeypatch.setattr(down, "_end", end)
    ended = "write#0" if after == "it has gone" else "write#0@there"
    assert await down.down(Settings(stack="shop", postgres=postgres)) == [ended]
    tasks[0].cancel()
    await successor.release()


async def test_what_operators_scaled_stays_scaled_after_a_restart(postgres: str) -> None:
    await identified(postgres)
    for target, number in (("memory", 2), ("memory:orders", 3), ("postgres", 4), ("write", 2)):
        await wanted.note(postgres, target, number)
    connection = await asyncpg.connect(postgres)
    noted = await wanted.load(connection)
    settings = ReadSettings("domain", "", "", wanted=noted)
    assert [settings.number("memory", view) for view in ("orders", "sales")] == [3, 2]
    assert settings.number("postgres", "orders") == 4
    await wanted.note(postgres, "memory", 1)
    assert await wanted.load(connection) == {"memory": 1, "postgres": 4, "write": 2}
    await connection.close()


async def test_a_connection_that_ended_is_made_again(postgres: str) -> None:
    greeted: list[Connection] = []

    async def greet(connection: Connection) -> None:
        greeted.append(connection)
        if len(greeted) == 3:
            raise TimeoutError

    lasting = LastingConnection(postgres, greet, timeout=60)
    first = await lasting.get()
    assert await lasting.get() is first
    lasting.close()
    second = await lasting.get()
    second.terminate()
    with pytest.raises(TimeoutError):
        await lasting.get()
    assert greeted[2].is_closed()
    assert await (await lasting.get()).fetchval("SELECT 1") == 1
    assert len(set(map(id, greeted))) == 4
    lasting.close()
