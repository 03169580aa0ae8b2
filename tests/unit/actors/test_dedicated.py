"""Aggregates that have an actor each: how many there are, and who is ended for a new one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors import write_owner
from actors.errors import Overloaded
from actors.placement import dedicated_actors
from actors.placement.dedicated_actors import DedicatedActors
from actors.placement.dedicated_clients import DedicatedClients
from actors.placement.host_actors import HostActors
from actors.placement.host_client import HostClient
from actors.write_owner import WriteOwner
from actors.write_settings import WriteSettings
from rayfold import Registry


class Actor:
    """Says how long it was idle; a negative number stands for one that is busy."""

    def __init__(self, idle: float, steadily: float = 0.0) -> None:
        self.idle = idle
        self.steadily = steadily


class Client(HostClient):
    """The client of such an actor, without Ray."""

    def __init__(self, actor: Actor) -> None:
        super().__init__(self._never)
        self.it = actor
        self.restarted = 0
        self.silent = 0
        """How often it gives no answer from now on, as it has crashed and comes up."""

    async def actor(self) -> Any:
        return self.it

    @property
    def restarts(self) -> int:
        return self.restarted

    async def status(self) -> dict[str, Any]:
        if self.silent:
            self.silent -= 1
            return {"ready": False, "error": "ActorUnavailableError"}
        return {"ready": True, "idle": max(self.it.idle, 0.0), "steadily": self.it.steadily}

    async def _never(self) -> Any:
        raise AssertionError


def dedicated(idle: dict[str, float], capacity: int) -> DedicatedActors:
    async def retire(client: HostClient, seconds: float) -> bool:
        assert isinstance(client, Client)
        return client.it.idle >= seconds

    return DedicatedActors(
        lambda stream: Client(Actor(idle[stream])), retire, capacity=capacity, idle_timeout=60
    )


async def test_the_actor_idle_for_longest_is_ended_first_and_no_busy_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dedicated_actors, "BUSY", 0.3)
    actors = dedicated({"a": 5.0, "b": 9.0, "c": -1.0, "d": -1.0, "e": 0.0}, capacity=3)
    made = {stream: await actors.client_of(stream) for stream in "abc"}
    assert await actors.client_of("a") is made["a"]
    made["d"] = await actors.client_of("d")
    assert set(actors.clients) == {made["a"], made["c"], made["d"]}
    made["e"] = await actors.client_of("e")
    assert set(actors.clients) == {made["c"], made["d"], made["e"]}
    made["e"].it.idle = -1.0  # type: ignore[attr-defined]
    with pytest.raises(Overloaded):
        await actors.client_of("a")


async def test_a_new_actor_waits_for_answers_of_actors_that_crashed() -> None:
    actors = dedicated({"a": 5.0, "b": -1.0, "c": 0.0}, capacity=2)
    made = {stream: await actors.client_of(stream) for stream in "ab"}
    for client in made.values():
        client.silent = 5  # type: ignore[attr-defined]
    made["c"] = await actors.client_of("c")
    assert actors.clients == [made["b"], made["c"]]


async def test_a_new_actor_waits_for_one_that_is_busy_for_a_moment() -> None:
    actors = dedicated({"a": -1.0, "b": 0.0}, capacity=1)
    client = await actors.client_of("a")
    asyncio.get_running_loop().call_later(0.1, setattr, client.it, "idle", 1.0)  # type: ignore[attr-defined]
    new = await actors.client_of("b")
    assert actors.clients == [new] != [client]


async def test_existing_actors_are_found_while_one_is_being_ended_for_another() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def retire(client: HostClient, seconds: float) -> bool:
        asked.set()
        await go_on.wait()
        return True

    idle = {"a": 0.0, "b": 5.0, "c": 0.0}
    actors = DedicatedActors(
        lambda stream: Client(Actor(idle[stream])), retire, capacity=2, idle_timeout=60
    )
    there, _ = [await actors.client_of(stream) for stream in "ab"]
    making = asyncio.create_task(actors.client_of("c"))
    await asked.wait()
    async with asyncio.timeout(30):
        assert await actors.client_of("a") is there
    go_on.set()
    made = await making
    assert actors.clients == [there, made]


async def test_a_new_actor_is_refused_if_the_others_never_answer_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dedicated_actors, "SILENCE", 1.0)
    actors = dedicated({"a": 5.0, "b": -1.0, "c": 0.0}, capacity=2)
    made = [await actors.client_of(stream) for stream in "ab"]
    made[0].silent = 1000  # type: ignore[attr-defined]
    with pytest.raises(Overloaded):
        await actors.client_of("c")
    assert actors.clients == made
    [record] = caplog.records
    assert record.__dict__["actors"] == {"ActorUnavailableError": 1, "busy": 1}


async def test_a_steadily_used_aggregate_keeps_its_actor_however_many_ids_are_made_up() -> None:
    actors = dedicated({"tea": 0.5, **{f"made-up-{n}": 0.01 for n in range(20)}}, capacity=3)
    tea = await actors.client_of("tea")
    tea.it.steadily = 60.0  # type: ignore[attr-defined]
    for number in range(20):
        await actors.client_of(f"made-up-{number}")
    assert tea in actors.clients
    assert len(actors.clients) == 3


def of_tenants(*, capacity: int, **kept: Actor) -> DedicatedActors:
    """Return actors by stream, of which `acme_tea` is one of acme's; newcomers are idle at once."""

    async def retire(client: HostClient, seconds: float) -> bool:
        assert isinstance(client, Client)
        return client.it.idle >= seconds

    return DedicatedActors(
        lambda stream: Client(kept.get(stream) or Actor(0.01)),
        retire,
        capacity=capacity,
        idle_timeout=60,
        tenant_of=lambda stream: stream.partition("_")[0],
    )


async def test_made_up_ids_of_a_tenant_take_the_places_of_that_tenant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dedicated_actors, "SILENCE", 600.0)
    actors = of_tenants(capacity=4, acme_tea=Actor(9.0), acme_milk=Actor(55.0))
    for stream in ("acme_tea", "acme_milk"):
        await actors.client_of(stream)
    async with asyncio.timeout(60):
        await asyncio.gather(*(actors.client_of(f"evil_{number}") for number in range(30)))
    assert {"acme_tea", "acme_milk"} < set(actors.streams)
    assert len(actors.streams) == 4


async def test_a_tenant_without_an_actor_gets_a_place_from_one_that_keeps_all_busy() -> None:
    kept = {f"evil_{number}": Actor(-1.0, steadily=100.0 - number) for number in range(3)}
    actors = of_tenants(capacity=3, **kept)
    for stream in kept:
        await actors.client_of(stream)
    async with asyncio.timeout(60):
        await actors.client_of("acme_tea")
    assert set(actors.streams) == {"evil_0", "evil_1", "acme_tea"}


async def test_a_tenant_does_not_wait_behind_all_that_another_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dedicated_actors, "BUSY", 600.0)
    monkeypatch.setattr(dedicated_actors, "SILENCE", 600.0)
    actors = of_tenants(capacity=2, evil_0=Actor(-1.0), evil_1=Actor(-1.0))
    for number in range(2):
        await actors.client_of(f"evil_{number}")
    flood = [asyncio.create_task(actors.client_of(f"evil_{number}")) for number in range(2, 32)]
    await asyncio.sleep(0)  # all of them wait by now
    async with asyncio.timeout(60):
        await actors.client_of("acme_tea")
    assert "acme_tea" in actors.streams
    assert not any(each.done() for each in flood)
    for each in flood:
        each.cancel()
    await asyncio.gather(*flood, return_exceptions=True)


async def test_new_actors_of_a_tenant_start_a_few_at_a_time() -> None:
    some, comes_up = asyncio.Event(), asyncio.Event()
    made: list[str] = []

    class Rising(Client):
        async def status(self) -> dict[str, Any]:
            some.set()
            await comes_up.wait()
            return await super().status()

    def client(stream: str) -> HostClient:
        made.append(stream)
        return Rising(Actor(0.01))

    async def never(*_: Any) -> bool:
        raise AssertionError

    actors = DedicatedActors(client, never, capacity=9, idle_timeout=60)
    asked = [asyncio.create_task(actors.client_of(f"item-{number}")) for number in range(9)]
    async with asyncio.timeout(60):
        await some.wait()
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(made) == dedicated_actors.FEW
    comes_up.set()
    await asyncio.gather(*asked)
    assert len(made) == 9


async def test_while_there_is_room_no_actor_is_refused_because_of_others_that_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dedicated_actors, "SILENCE", 0.05)

    class Hanging(Client):
        async def status(self) -> dict[str, Any]:
            return {"ready": False, "error": "ActorUnavailableError"}

        async def actor(self) -> Any:
            if self.it.idle < 0:
                await asyncio.Event().wait()
            return self.it

    async def never(*_: Any) -> bool:
        raise AssertionError

    idle = iter([-1.0, 0.0] * 9)
    actors = DedicatedActors(
        lambda _: Hanging(Actor(next(idle))), never, capacity=9, idle_timeout=60
    )
    asked = [asyncio.create_task(actors.client_of(f"item-{number}")) for number in range(9)]
    try:
        async with asyncio.timeout(60):
            while len(actors.clients) < 9:
                assert not [each for each in asked if each.done() and each.exception()]
                await asyncio.sleep(0.01)
    finally:
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def test_a_command_that_waits_for_others_new_actors_is_refused_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_on = asyncio.Event()

    async def retire(*_: Any) -> bool:
        await go_on.wait()  # as one does that hangs
        return False

    actors = DedicatedActors(lambda _: Client(Actor(5.0)), retire, capacity=1, idle_timeout=60)
    await actors.client_of("item-0")
    monkeypatch.setattr(dedicated_actors, "SILENCE", 0.1)
    async with asyncio.timeout(60):
        refused = await asyncio.gather(
            *(actors.client_of(f"item-{number}") for number in range(1, 9)), return_exceptions=True
        )
    assert {type(each) for each in refused} == {Overloaded}
    go_on.set()


async def test_restarts_of_ended_actors_still_count() -> None:
    actors = dedicated({"a": 60.0, "b": 1.0, "c": 0.0}, capacity=3)
    for stream, restarts in {"a": 2, "b": 1, "c": 0}.items():
        client = await actors.client_of(stream)
        assert isinstance(client, Client)
        client.restarted = restarts
    await actors.sweep()
    assert (len(actors.clients), actors.restarts) == (2, 3)
    await actors.clear()
    assert (len(actors.clients), actors.restarts) == (0, 3)


async def test_a_sweep_ends_actors_that_were_idle_for_long() -> None:
    actors = dedicated({"a": 61.0, "b": 59.0, "c": -1.0}, capacity=3)
    kept = [await actors.client_of(stream) for stream in "abc"][1:]
    await actors.sweep()
    assert actors.clients == kept
    await actors.close()
    assert actors.clients == []


async def test_a_silent_actor_is_reported_while_somebody_waits_for_it() -> None:
    clients = DedicatedClients(lambda _: Client(Actor(0.0)))
    client = clients.client_of("item-tea")
    client.error = "TimeoutError"
    client.outstanding = 1
    assert clients.errors == ["TimeoutError"]
    client.outstanding = 0
    assert clients.errors == []


async def test_the_client_of_an_ended_actor_is_closed_unless_somebody_waits() -> None:
    class CutOff(Client):
        has_been_cut_off = True

    clients = DedicatedClients(lambda _: CutOff(Actor(0.0)))
    waited_for, ended = clients.client_of("item-tea"), clients.client_of("item-milk")
    waited_for.outstanding = 1
    clients.sweep()
    assert clients.clients == [waited_for] != [ended]


async def test_all_actors_are_replaced_by_others_that_run_already() -> None:
    actors = dedicated({"a": -1.0, "b": 5.0, "c": 0.0}, capacity=3)
    before = [await actors.client_of(stream) for stream in "ab"]
    fresh = {stream: Client(Actor(0.0)) for stream in actors.streams}
    retired: list[HostClient] = []

    async def retire(client: HostClient) -> None:
        retired.append(client)

    await actors.replace(fresh, retire)
    assert retired == before
    assert [await actors.client_of(stream) for stream in "ab"] == list(fresh.values())


@pytest.mark.parametrize("replaced", [False, True])
async def test_an_actor_that_was_replaced_while_it_was_asked_to_end_lives_on(
    monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    """A sweep asks a crashed actor to end; the watch kills it as silent, and makes another."""
    ended: list[str] = []

    class Crashed(HostClient):
        async def actor(self) -> Any:
            return self

        async def status(self) -> dict[str, Any]:
            return {"ready": True}

        async def replace(self) -> None:
            self.error = ""  # the next one answers

        async def ping(self) -> None: ...

        async def end(self) -> None:
            ended.append("the next one")

    async def find() -> Any:
        raise AssertionError

    async def drain_idle(client: HostClient, idle: float) -> bool:
        if replaced:
            client.error = "TimeoutError"
            owner._replace(client)
        return True  # as the one that was asked has died

    monkeypatch.setattr(write_owner, "drain_idle", drain_idle)
    monkeypatch.setattr(HostActors, "dedicated", lambda *_: Crashed(find))
    owner = WriteOwner(
        Registry.load("domain"), WriteSettings("domain", "kdb://127.0.0.1:1?Tls=false")
    )
    client = await owner._dedicated.client_of("stock-tea")
    await owner._dedicated.sweep()
    assert owner._dedicated.clients == ([client] if replaced else [])
    assert ended == ([] if replaced else ["the next one"])
    await owner.stop()
