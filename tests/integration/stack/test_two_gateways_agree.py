"""A client that asks two gateways in turn gets the answers of one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.integration.stack.conftest import RAY
from tests.integration.stack.orders import add, create, read
from tests.integration.stack.roles import Role
from tests.integration.stack.test_command_line import run
from tests.integration.stack.test_live import states
from tests.ports import free_port

PATIENCE = 60.0


@pytest.fixture
def roles(ray: str, databases: list[str], store: str, tmp_path: Path) -> Iterator[dict[str, Role]]:
    """A controller and two gateways, ready."""
    where = ("--ray-address", ray, "--eventstore", store, "--postgres", databases[0])
    started: dict[str, Role] = {}
    try:
        started["controller"] = Role(tmp_path, "controller", "controller", *where, **RAY).start()
        started["controller"].ready()
        for name in ("one", "two"):
            port = ("--port", str(free_port()))
            started[name] = Role(tmp_path, name, "gateway", *port, *where, **RAY).start()
        for name in ("one", "two"):
            started[name].ready()
        yield started
    finally:
        for each in started.values():
            each.kill()


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.1)


def state(http: httpx.Client, key: str) -> dict[str, Any]:
    """Return what became of a command, once its views show it or it was refused."""
    until = time.monotonic() + PATIENCE
    while True:
        answer = http.get(f"/commands/{key}")
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        if body["status"] != "processing":
            return body
        assert time.monotonic() < until, body
        time.sleep(0.05)


async def both_at_once(one: str, two: str, order: str, keys: list[str]) -> None:
    """Each key through both gateways at the same moment: one effect, one receipt."""
    line = {"sku": "tea", "quantity": 1, "unit_price_cents": 5}
    async with (
        httpx.AsyncClient(base_url=one, timeout=PATIENCE) as here,
        httpx.AsyncClient(base_url=two, timeout=PATIENCE) as there,
    ):
        answers = await asyncio.gather(
            *(
                http.post(f"/orders/{order}/lines", json=line, headers={"Idempotency-Key": key})
                for key in keys
                for http in (here, there)
            )
        )
    assert {each.status_code for each in answers} == {202}
    for first, second in zip(answers[::2], answers[1::2], strict=True):
        assert first.json() == second.json()
    assert len({each.json()["revision"] for each in answers}) == len(keys)


async def first_state(url: str, order: str, after: str | None = None) -> tuple[str, dict[str, Any]]:
    """Return the first that a live stream tells."""
    async with (
        asyncio.timeout(PATIENCE),
        httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client,
    ):
        async for position, row in states(client, order, after):
            return position, row
    raise AssertionError("the stream ended")


def test_whichever_gateway_is_asked_the_answer_is_the_same(roles: dict[str, Role]) -> None:
    one, two = roles["one"], roles["two"]
    with (
        httpx.Client(base_url=one.url, timeout=PATIENCE) as here,
        httpx.Client(base_url=two.url, timeout=PATIENCE) as there,
    ):
        # A command through one; its token, its state and its wait are good at the other.
        order = create(here)
        key = str(uuid4())
        taken = here.post(
            f"/orders/{order}/lines",
            json={"sku": "tea", "quantity": 2, "unit_price_cents": 450},
            headers={"Idempotency-Key": key},
        )
        token = taken.headers["Consistency-Token"]
        for kept in ("memory", "postgres"):
            assert read(there, order, token, kept)["total_cents"] == 900
        told = state(there, key)
        assert (told["status"], told["stream"]) == ("projected", f"order-{order}")
        assert told == state(here, key)
        assert told["revision"] == taken.json()["revision"]
        waited = there.post(f"/orders/{order}/place", headers={"Prefer": "wait=30"})
        assert waited.headers["Preference-Applied"] == "wait=30"
        assert here.get(f"/orders/{order}").json()["status"] == "placed"

        # What was refused at one is told at the other, with the rule.
        empty = create(there)
        refused = there.post(f"/orders/{empty}/place", headers={"Idempotency-Key": "an empty one"})
        stale = there.post(
            f"/orders/{empty}/cancel", headers={"Idempotency-Key": "a stale one", "If-Match": '"7"'}
        )
        assert (refused.status_code, stale.status_code) == (409, 412)
        assert state(here, "an empty one")["code"] == refused.json()["code"]
        assert state(here, "a stale one")["code"] == "revision-mismatch"
        assert here.get("/commands/nobody has sent this").status_code == 404

        # A cursor of one is good at the other.
        for http in (here, there, here):
            token = add(http, create(http, "bob")).headers["Consistency-Token"]
        listed, path = [], "/orders?customer_id=bob&limit=2"
        for http in (here, there):
            page = http.get(path, headers={"Consistency-Token": token}).json()
            listed += [each["order_id"] for each in page["items"]]
            path = f"/orders?customer_id=bob&limit=2&cursor={page['next_cursor']}"
        assert len(set(listed)) == 3

        keys = [str(uuid4()) for _ in range(20)]
        hot = create(here)
        asyncio.run(both_at_once(one.url, two.url, hot, keys))
        history = there.get(f"/orders/{hot}/history").json()
        assert len(history["events"] if isinstance(history, dict) else history) == 1 + len(keys)

        # A live stream of a gateway that dies goes on at the other, and so do its commands' states.
        seen, row = asyncio.run(first_state(one.url, hot))
        assert row["revision"] == len(keys)
        last = str(uuid4())
        line = {"sku": "tea", "quantity": 1, "unit_price_cents": 5}
        here.post(f"/orders/{hot}/lines", json=line, headers={"Idempotency-Key": last})
        one.kill()
        position, row = asyncio.run(first_state(two.url, hot, seen))
        assert (int(position) > int(seen), row["revision"]) == (True, len(keys) + 1)
        assert state(there, last)["revision"] == len(keys) + 1

        # What operators ask a gateway for, the controller does.
        scaled = run("scale", "memory", "2", "--url", two.url, cwd=Path.cwd())
        assert scaled.returncode == 0, scaled.stderr

        def parts() -> dict[str, dict[str, Any]]:
            said = run("status", "--json", "--url", two.url, cwd=Path.cwd())
            return {each["part"]: each for each in json.loads(said.stdout)["parts"]}

        eventually(lambda: sum(name.startswith("memory") for name in parts()) == 2)
        assert parts()["controller"]["ready"]
        verified = run("verify", "--url", two.url, cwd=Path.cwd())
        assert verified.returncode == 0, verified.stdout

        # Without it, that is a 503 that says so; all else goes on.
        roles["controller"].kill()
        answer = there.post("/operators/scale", json={"target": "memory", "n": 1})
        assert (answer.status_code, answer.json()["type"]) == (
            503,
            "/problems/controller-unavailable",
        )
        assert not parts()["controller"]["ready"]
        assert there.get("/health/ready").status_code == 200
        token = add(there, create(there)).headers["Consistency-Token"]
        for kept in ("memory", "postgres"):
            assert read(there, hot, token, kept)["revision"] == len(keys) + 1
