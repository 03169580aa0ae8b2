"""Operators at a gateway, with a controller and without one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from actors.errors import NoSuchProcess
from deploy.stack.operations import StackOperations
from deploy.stack.remote_operations import RemoteOperations, RemoteProcesses
from projections.errors import UnknownTarget
from rayfold.runtime.controller_rpc import ControllerClient, ControllerServer, ControllerUnavailable
from rayfold.runtime.rpc import Address
from tests.unit.api.fakes import FakeOperations


class Side:
    """What the gateway reaches itself."""

    def __init__(self, *parts: str) -> None:
        self._parts = [{"part": part, "ready": True} for part in parts]

    def status(self) -> list[dict[str, Any]]:
        return self._parts


class Writes(Side):
    async def status(self) -> list[dict[str, Any]]:  # type: ignore[override]
        return self._parts


class Stack:
    """A gateway's operations, and a controller that may be away."""

    def __init__(self) -> None:
        self.controllers = FakeOperations()
        self.controllers.known = [{"part": "write#0", "ready": False}, {"part": "process:a#0"}]
        self.address: Address | None = None
        self.client = ControllerClient(lambda: self.address)
        self.operations = RemoteOperations(Writes("write#0"), Side("memory#0"), self.client)
        self.processes = RemoteProcesses(self.client)
        methods = {
            f"operations.{name}": getattr(self.controllers, name)
            for name in dir(self.controllers)
            if callable(getattr(self.controllers, name)) and not name.startswith("_")
        }
        self.server = ControllerServer(methods | {"processes.show": self.show})

    async def show(self, name: str, key: str) -> dict[str, Any]:
        if key == "none":
            raise NoSuchProcess(name, key)
        return {"process": name, "key": key}


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    stack = Stack()
    yield stack
    stack.client.close()
    await stack.server.close()


async def test_the_controller_executes_what_operators_ask_a_gateway_for(stack: Stack) -> None:
    stack.address = await stack.server.address("127.0.0.1")
    operations, controllers = stack.operations, stack.controllers
    await operations.scale("memory", 2)
    assert controllers.scaled == [("memory", 2)]
    assert await operations.moves() == await controllers.moves()
    begun = await operations.rebuild("orders", accept_parked=True)
    assert begun == {"view": "orders", "state": "waiting"}
    assert await operations.delete("order-1", tombstone=True) == ["sales-by-day"]
    assert await operations.discard("v", "k") == await controllers.discard("v", "k")
    assert (await operations.verify(), await operations.parked()) == ([], [])
    assert await operations.parked_event("order-1", 0) is None
    assert await operations.replay("v", "k") == await operations.rebuilds() == []
    assert await stack.processes.show("p", "k") == {"process": "p", "key": "k"}
    controllers.causes = {"commands": []}
    assert await operations.causality(["key", "id"], 5) == {"commands": []}
    assert controllers.traced == (["key", "id"], 5)


async def test_what_the_controller_refuses_the_gateway_refuses(stack: Stack) -> None:
    stack.address = await stack.server.address("127.0.0.1")
    stack.controllers.error = UnknownTarget("nothing to scale is named 'x'")
    with pytest.raises(UnknownTarget, match="nothing to scale"):
        await stack.operations.scale("x", 2)
    with pytest.raises(NoSuchProcess):
        await stack.processes.show("p", "none")


async def test_the_status_has_what_the_gateway_sees_and_what_only_the_controller_knows(
    stack: Stack,
) -> None:
    stack.address = await stack.server.address("127.0.0.1")
    assert await stack.operations.parts() == [
        {"part": "write#0", "ready": True},
        {"part": "memory#0", "ready": True},
        {"part": "process:a#0", "serves": False},
        {"part": "controller", "kind": "controller", "serves": False, "ready": True},
    ]


async def test_the_restarts_of_a_part_are_what_the_gateway_saw_or_else_the_controllers(
    stack: Stack,
) -> None:
    stack.address = await stack.server.address("127.0.0.1")
    memory = {"part": "memory#0", "restarts": 1}
    stack.operations._monitor._parts = [memory]  # type: ignore[attr-defined]
    stack.controllers.known = [{"part": "write#0", "restarts": 2}, {**memory, "restarts": 3}]
    parts = {each["part"]: each.get("restarts") for each in await stack.operations.parts()}
    assert parts == {"write#0": 2, "memory#0": 1, "controller": None}


async def test_without_a_controller_the_status_is_what_the_gateway_sees(stack: Stack) -> None:
    *seen, controller = await stack.operations.parts()
    assert [each["part"] for each in seen] == ["write#0", "memory#0"]
    assert (controller["part"], controller["ready"]) == ("controller", False)
    for call in (
        stack.operations.scale("memory", 2),
        stack.operations.verify(),
        stack.operations.rebuilds(),
        stack.processes.list(None, parked=False, limit=1),
        stack.processes.retry("p", "k"),
    ):
        with pytest.raises(ControllerUnavailable):
            await call


@pytest.mark.parametrize("there", [True, False])
async def test_only_an_existing_stream_is_reported_as_deleted(there: bool) -> None:
    unused: Any = None

    async def delete_stream(stream: str, *, tombstone: bool) -> bool:
        return there

    writes: Any = SimpleNamespace(delete_stream=delete_stream)
    reads: Any = SimpleNamespace(views_that_keep=lambda stream: ["sales"])
    operations = StackOperations(writes, reads, unused, unused, [], unused, unused, unused)
    if there:
        assert await operations.delete("order-1", tombstone=False) == ["sales"]
    else:
        with pytest.raises(UnknownTarget, match="no order-1 on the log"):
            await operations.delete("order-1", tombstone=False)
