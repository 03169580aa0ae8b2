"""Two stacks on one Ray cluster, each with a store and a database: nothing crosses."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from tests.integration.stack.conftest import RAY
from tests.integration.stack.orders import add, create, read
from tests.integration.stack.test_command_line import assert_one_line, run
from tests.ports import free_port
from tests.stack import Stack


def parts(stack: Stack, kind: str) -> int:
    said = run("status", "--json", "--url", stack.url, cwd=Path.cwd())
    return [each["kind"] for each in json.loads(said.stdout)["parts"]].count(kind)


def test_nothing_crosses_and_a_wrong_match_is_refused(
    ray: str, databases: list[str], tmp_path: Path
) -> None:
    def stack(name: str, dsn: str) -> Stack:
        flags = ("--stack", name, "--ray-address", ray, "--postgres", dsn)
        return Stack(tmp_path / name, *flags, **RAY)

    def refused(says: str, name: str, dsn: str, *flags: str) -> None:
        port = ("--port", str(free_port()), "--data", str(tmp_path / "refused"))
        where = ("--stack", name, "--ray-address", ray, "--postgres", dsn)
        assert_one_line(run("up", *port, *where, *flags, cwd=Path.cwd(), **RAY), says)

    one, two = stack("one", databases[0]), stack("two", databases[1])
    one.start()
    try:
        two.start()
        try:
            with (
                httpx.Client(base_url=one.url, timeout=30) as first,
                httpx.Client(base_url=two.url, timeout=30) as second,
            ):
                orders = {}
                for http in (first, second):
                    order = create(http)
                    token = add(http, order).headers["Consistency-Token"]
                    for store in ("memory", "postgres"):
                        assert read(http, order, token, store)["total_cents"] == 450
                    orders[http] = order
                assert first.get(f"/orders/{orders[second]}").status_code == 404
                assert second.get(f"/orders/{orders[first]}").status_code == 404
            for each in (one, two):
                verified = run("verify", "--url", each.url, cwd=Path.cwd())
                assert verified.returncode == 0, verified.stdout
            uri = (one.data / "eventstore.uri").read_text()
            refused("belongs to another event store", "one", databases[0])
            refused("is named 'one' on this Ray cluster", "one", databases[2])
            refused("is run by", "one", databases[0], "--eventstore", uri)
            scaled = run("scale", "memory", "2", cwd=Path.cwd(), RAYFOLD_URL=two.url)
            assert scaled.returncode == 0, scaled.stderr
            assert (parts(one, "memory"), parts(two, "memory")) == (1, 2)
        finally:
            two.kill()
        with httpx.Client(base_url=one.url, timeout=30) as first:
            add(first, create(first)).raise_for_status()
        two.start()
        assert parts(two, "memory") == 2
        assert two.stop() == 0
        assert parts(one, "memory") == 1
    finally:
        one.stop()
