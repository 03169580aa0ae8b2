"""One stack of a controller, another that stands by, and two gateways."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import psutil

from tests.integration.stack.conftest import RAY
from tests.integration.stack.orders import add, create, read
from tests.integration.stack.roles import Role
from tests.integration.stack.test_command_line import assert_one_line, run
from tests.ports import free_port
from tests.postgres_server import execute

PATIENCE = 60.0


def actors() -> dict[int, str]:
    """Return the actors' processes below this one by their pid: others test beside us."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            name = " ".join(process.cmdline())
            if name.startswith("ray::") and "Actor" in name and not name.startswith("ray::IDLE"):
                found[process.pid] = name.split(".")[0].rstrip()  # a title keeps its length
    return found


def eventually(http: httpx.Client, path: str, **expected: Any) -> None:
    """Return when the answer has these fields."""
    until = time.monotonic() + PATIENCE
    while True:
        with suppress(httpx.TransportError):
            answer = http.get(path)
            body = answer.json()
            if expected.items() <= body.items():
                return
            assert time.monotonic() < until, answer.text
        time.sleep(0.1)


def test_gateways_keep_serving_whichever_controller_dies_and_down_ends_everything(
    ray: str, databases: list[str], store: str, tmp_path: Path
) -> None:
    before = set(actors())
    owner, acting = f"owner_{uuid4().hex}", f"acting_{uuid4().hex}"
    execute(databases[0], f"CREATE ROLE {owner} LOGIN")
    execute(databases[0], f"ALTER DATABASE {urlsplit(databases[0]).path[1:]} OWNER TO {owner}")
    postgres = databases[0].replace("postgres:@", f"{owner}@")
    where = ("--ray-address", ray, "--eventstore", store, "--postgres", postgres)
    started: list[Role] = []

    def role(name: str, *command: str) -> Role:
        each = Role(tmp_path, name, *command, *where, **RAY)
        started.append(each)
        return each.start()

    def gateway(name: str) -> Role:
        return role(name, "gateway", "--port", str(free_port()))

    def refused(says: str, *command: str) -> None:
        assert_one_line(run(*command, cwd=Path.cwd(), **RAY), says)

    def ours() -> dict[int, str]:
        return {pid: name for pid, name in actors().items() if pid not in before}

    refused("no controller has run", "gateway", "--port", str(free_port()), "--wait", "1", *where)
    refused("no controller has ever run", "down", "--postgres", databases[0])
    try:
        one = gateway("one")  # before the first controller: where all starts at once it may be so
        one.says("waiting for the first controller")
        first = role("first", "controller").ready()
        second = role("second", "controller")
        two = gateway("two")
        one.ready()
        two.ready()
        with (
            httpx.Client(base_url=one.url, timeout=30) as here,
            httpx.Client(base_url=two.url, timeout=30) as there,
        ):
            order = create(here)
            command = str(uuid4())
            answer = here.post(
                f"/orders/{order}/lines",
                json={"sku": "tea", "quantity": 1, "unit_price_cents": 450},
                headers={"Idempotency-Key": command},
            )
            assert answer.status_code == 202, answer.text
            token = answer.headers["Consistency-Token"]
            for kept in ("memory", "postgres"):
                assert read(there, order, token, kept)["total_cents"] == 450
            eventually(there, f"/commands/{command}", status="projected")
            for http in (here, there):  # an actor of its own: one asks for it, both find it
                answer = http.post("/stock/tea/receive", json={"quantity": 2})
                assert answer.status_code == 202, answer.text
            assert answer.json()["revision"] == 1
            fulfilled = create(here)
            line = {"sku": "tea", "quantity": 1, "unit_price_cents": 450}
            for path, body in (("lines", line), ("place", {"fulfil": True})):
                here.post(f"/orders/{fulfilled}/{path}", json=body).raise_for_status()
            eventually(there, f"/fulfilments/{fulfilled}", stage="awaiting-payment")
            parts = ours()
            two.kill()
            add(here, order).raise_for_status()
            assert ours() == parts

            second.says("standing by")
            first.kill()
            here.post(f"/orders/{fulfilled}/pay").raise_for_status()
            for _ in range(20):
                add(here, order).raise_for_status()
            # Nobody owns the stack yet, perhaps; process actors reach the hosts all the same.
            eventually(here, f"/fulfilments/{fulfilled}", stage="shipped")
            second.ready()
            assert ours() == parts
            add(here, order).raise_for_status()
            for target in ("write", "process:fulfilment"):
                scaled = run("scale", target, "2", "--url", one.url, cwd=Path.cwd())
                assert scaled.returncode == 0, scaled.stderr
            later = {"Rayfold-Not-Before": "2000-01-01T00:00:00Z", "Idempotency-Key": "later"}
            here.post("/stock/tea/receive", json={"quantity": 1}, headers=later).raise_for_status()
            eventually(here, "/commands/later", status="projected")
            eventually(here, f"/processes/fulfilment/{fulfilled}", status="ended")
            for _ in range(8):
                add(here, create(here)).raise_for_status()

            # Another way to the same store, and another role, as with other passwords: who knows
            # those before would be no use once they are gone.
            execute(
                databases[0],
                f"CREATE ROLE {acting} LOGIN IN ROLE {owner}",
                f"ALTER ROLE {acting} SET role = '{owner}'",
            )
            told_before = ours().keys()
            assert second.stop() == 0
            moved = store.replace("127.0.0.1", "localhost")
            where = (*where[:3], moved, "--postgres", postgres.replace(owner, acting))
            second = role("third", "controller").ready()
            assert not told_before & ours().keys()
            rebuilt = run("rebuild", "order-details", "--url", one.url, cwd=Path.cwd())
            assert rebuilt.returncode == 0, rebuilt.stderr
            answer = add(here, order)  # at a gateway that has the role before
            token = answer.headers["Consistency-Token"]
            for kept in ("memory", "postgres"):
                assert read(here, order, token, kept)["lines"]

        refused("runs another domain", "gateway", *where, "--domain", "examples.shop")
        refused("belongs to the stack 'rayfold'", "gateway", *where, "--stack", "other")
        assert one.stop() == 0
        assert len(ours()) == len(parts) + 2
        ended = run("down", "--postgres", databases[0], cwd=Path.cwd(), **RAY)
        assert ended.returncode == 0, ended.stderr
        assert "write#0" in ended.stdout
        assert second.process.wait(PATIENCE) == 0, second.log()
        assert ours() == {}
    finally:
        for each in started:
            each.kill()
