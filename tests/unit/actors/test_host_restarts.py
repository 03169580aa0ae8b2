"""How often a host was restarted, as its owner counts it; without Ray."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ray.exceptions import RayActorError

from actors.placement import host_link
from actors.placement.host_client import HostClient
from actors.placement.host_watch import HostWatch
from actors.write_owner import WriteOwner
from actors.write_settings import WriteSettings
from rayfold import Registry
from rayfold.runtime.rpc import Address, RpcDisconnected, RpcServer


class Host:
    """A host's actor, whose process may die."""

    def __init__(self) -> None:
        self._actor_id = b"1"
        self.address = self
        self.process: RpcServer | None = None
        self.wakes = asyncio.Event()
        self.wakes.set()

    async def remote(self) -> Address:
        """Return where it listens."""
        if self.process is None:
            raise RpcDisconnected("it is started again")
        return await self.process.address("127.0.0.1")

    def start(self) -> None:
        """Begin a process."""
        self.process = RpcServer(self._commands)

    async def die(self) -> None:
        """End the process."""
        assert self.process is not None
        await self.process.close()
        self.process = None

    async def find(self) -> Host:
        """As Ray does."""
        return self

    async def _commands(self, _: Any) -> list[Any]:
        await self.wakes.wait()
        return []


@pytest.fixture
def host() -> Host:
    made = Host()
    made.start()
    return made


async def test_each_process_after_the_first_is_a_restart(host: Host) -> None:
    client = HostClient(host.find)
    assert client.restarts == 0
    for restarts in range(3):
        await client.ping()
        assert (client.error, client.restarts) == ("", restarts)
        await host.die()
        await client.ping()
        assert (client.error, client.restarts) == ("RpcDisconnected", restarts)
        host.start()
    await client.close()


async def test_a_host_that_wakes_later_than_its_owner_is_not_replaced(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine was suspended: for long nobody had asked."""
    replaced: list[HostClient] = []
    client = HostClient(host.find)
    watch = HostWatch(list, lambda client: None, replaced.append)
    await client.ping()
    assert client.unanswered == 0
    host.wakes.clear()
    client.heard_at -= 3600.0
    monkeypatch.setattr(host_link, "STATUS_TIMEOUT", 0.01)
    await watch.look(client)
    assert replaced == []
    await watch.look(client)
    assert replaced == [client]
    host.wakes.set()
    await client.close()
    await host.die()


async def test_an_error_that_prevents_a_host_from_starting_is_reported_and_logged_once(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    other = "node vm has another domain (two, not one): install the same there"
    client, found = HostClient(host.find), host.remote

    async def broken() -> Address:
        raise RayActorError(error_msg=f"in its creation task\nDomainError: {other}")

    host.remote = broken  # type: ignore[method-assign]
    await client.ping()
    host.remote = found  # type: ignore[method-assign]
    await host.die()
    await client.ping()  # no connection either, between two attempts
    assert (client.error, len(caplog.records)) == (other, 1)
    host.start()
    await client.ping()
    assert client.error == ""
    await client.close()


async def test_another_connection_to_the_same_process_is_not_a_restart(host: Host) -> None:
    client = HostClient(host.find)
    await client.ping()
    client.renew()
    await client.ping()
    assert (client.error, client.restarts) == ("", 0)
    await client.close()
    await host.die()


async def test_the_owner_reports_the_restarts_of_each_host(host: Host) -> None:
    owner = WriteOwner(Registry.load("domain"), WriteSettings("domain", "kdb://127.0.0.1:1"))
    owner._hosts = [HostClient(host.find), HostClient(host.find)]
    await owner._hosts[1].ping()
    await host.die()
    await owner._hosts[1].ping()
    host.start()
    await owner._hosts[1].ping()
    assert owner.counts() == {
        "write#0": {"restarts": 0},
        "write#1": {"restarts": 1},
        "write:dedicated": {"restarts": 0, "actors": 0, "most": owner.settings.dedicated},
    }
    await owner.stop()
    await host.die()
