"""Calls to a controller: methods by name, its errors, and whoever is the controller now."""

from __future__ import annotations

from typing import Any

import pytest

from rayfold import Rejected
from rayfold.runtime.controller_rpc import (
    ControllerClient,
    ControllerServer,
    ControllerUnavailable,
)
from rayfold.runtime.rpc import Address


async def double(number: int) -> int:
    return 2 * number


async def refuse() -> None:
    raise Rejected("full", "no room")


async def broken() -> None:
    raise ZeroDivisionError


def controller(**more: Any) -> ControllerServer:
    return ControllerServer({"double": double, "refuse": refuse, "broken": broken, **more})


async def test_it_answers_by_name_and_raises_what_the_controller_raised() -> None:
    server = controller()
    at = await server.address("127.0.0.1")
    client = ControllerClient(lambda: at)
    assert await client.call("double", number=2**70) == 2**71
    with pytest.raises(Rejected, match="no room"):
        await client.call("refuse")
    for method, says in (("broken", "ZeroDivisionError"), ("other", "does not know 'other'")):
        with pytest.raises(ControllerUnavailable, match=says):
            await client.call(method)
    client.close()
    await server.close()


async def test_calls_go_to_the_present_controller() -> None:
    known: list[Address | None] = [None]
    client = ControllerClient(lambda: known[0])
    with pytest.raises(ControllerUnavailable, match="none is known"):
        await client.call("double", number=1)
    first, second = controller(), controller()
    known[0] = await first.address("127.0.0.1")
    assert await client.call("double", number=1) == 2
    await first.close()
    with pytest.raises(ControllerUnavailable):
        await client.call("double", number=1)
    known[0] = await second.address("127.0.0.1")
    assert await client.call("double", number=2) == 4
    client.close()
    await second.close()
