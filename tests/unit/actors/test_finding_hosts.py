"""A host's actor is searched for, or made, once at a time, whichever callers come and go."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
import ray

from actors.placement import host_link
from actors.placement.host_client import HostClient
from rayfold.runtime.rpc import RpcDisconnected


class Actor:
    """As Ray's handle of it."""

    _actor_id = b"1"


class Finding:
    """Gives the next of some actors, or raises it, once it is let go."""

    def __init__(self, *found: Any) -> None:
        self._found = list(found)
        self.let_go = asyncio.Event()
        self.begun = 0

    async def __call__(self) -> Any:
        self.begun += 1
        found = self._found.pop(0)
        await self.let_go.wait()
        if isinstance(found, Exception):
            raise found
        return found


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def asked(client: HostClient) -> asyncio.Task[Any]:
    """Ask, and go away."""
    asking = asyncio.create_task(client.actor())
    await turns()
    asking.cancel()
    await asyncio.wait([asking])
    return asking


async def test_a_caller_that_cancels_does_not_cancel_the_search_for_the_next_caller() -> None:
    actor = Actor()
    finding = Finding(actor)
    client = HostClient(finding)
    assert (await asked(client)).cancelled()
    both = [asyncio.create_task(client.actor()) for _ in range(2)]
    await turns()
    finding.let_go.set()
    assert await asyncio.gather(*both) == [actor, actor]
    assert await client.actor() is actor
    assert (finding.begun, client.actor_id) == (1, b"1".hex())


async def test_an_actor_that_was_not_found_is_looked_for_again() -> None:
    actor = Actor()
    finding = Finding(RpcDisconnected("no"), actor)
    finding.let_go.set()
    client = HostClient(finding)
    with pytest.raises(RpcDisconnected):
        await client.actor()
    assert await client.actor() is actor


async def test_a_failed_search_that_nobody_waits_for_is_not_logged_as_an_error() -> None:
    """The event loop would print its traceback: with a GCS that hangs, each search ends so."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    finding = Finding(RpcDisconnected("no"))
    client = HostClient(finding)
    await asked(client)
    finding.let_go.set()
    await turns()
    del client, finding
    gc.collect()  # also what tests before have left in the loop, which is told in other words
    assert not [each for each in told if "never retrieved" in each["message"]]


async def test_an_actor_made_after_the_previous_one_was_found_dead_is_kept() -> None:
    """Ray ends an actor whose handle nobody keeps."""
    actor = Actor()
    finding = Finding(actor)
    client = HostClient(finding)
    asking = asyncio.create_task(client.actor())
    await turns()
    client.renew()
    finding.let_go.set()
    assert await asking is actor
    assert await client.actor() is actor


async def test_an_actor_found_in_a_ray_cluster_that_is_gone_is_not_kept() -> None:
    before, after = Actor(), Actor()
    finding = Finding(before, after)
    client = HostClient(finding)
    await asked(client)
    client.lose()
    client.renew()
    finding.let_go.set()
    await turns()
    assert await client.actor() is after


async def test_the_handle_of_an_actor_that_is_given_up_is_released_and_no_new_one_made() -> None:
    """Ray keeps the records of an ended actor as long as somebody holds its handle."""
    finding = Finding(Actor(), Actor())
    finding.let_go.set()
    client = HostClient(finding)
    held = weakref.ref(await client.actor())
    await client.close()
    assert held() is None
    with pytest.raises(RpcDisconnected):
        await client.actor()


@pytest.mark.parametrize("late", [False, True])
async def test_an_actor_that_is_being_made_is_ended_if_it_is_there_in_time(
    monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    killed: list[Any] = []
    monkeypatch.setattr(ray, "kill", killed.append)
    monkeypatch.setattr(host_link, "MAKING", 0.01 if late else 60.0)
    actor = Actor()
    finding = Finding(actor)
    client = HostClient(finding)
    await asked(client)
    ending = asyncio.create_task(client.end())
    if late:
        await ending
    finding.let_go.set()
    await ending
    assert killed == ([] if late else [actor])
