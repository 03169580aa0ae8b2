"""The real stack, started once for all tests of this folder; it ends with the last of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import httpx
import psutil
import pytest

from tests.conftest import ROOT
from tests.ports import free_port
from tests.postgres_server import create_database, postgres_server
from tests.stack import Stack

RAY = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_prestart_worker_first_driver": "0",
}
"""The environment of whoever joins the cluster of `ray`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the files that share the stack follow each other, as the last ones of this folder.

    At rest it uses 7 % of a core: it is to run for as long as they do, and no longer.
    """
    places = [at for at, each in enumerate(items) if each.path.parent == Path(__file__).parent]
    ours = [items[at] for at in places]
    sharing = {item.path for item in ours if _shares_the_stack(item)}
    ours.sort(key=lambda item: item.path in sharing)
    for at, item in zip(places, ours, strict=True):
        items[at] = item


def _shares_the_stack(item: pytest.Item) -> bool:
    """Whether it is one for the stack of this file, and not for one of its own file's."""
    of_its_own = hasattr(getattr(item, "module", None), "stack")
    return "stack" in getattr(item, "fixturenames", ()) and not of_its_own


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running `rayfold up`."""
    folder: Path = tmp_path_factory.mktemp("stack")
    of_a_head = {"RAY_REDIS_ADDRESS": "127.0.0.1:1", "RAY_gcs_storage": "rocksdb"}
    running = Stack(folder / "data", **of_a_head)  # Ray of our own has nothing to do with those
    running.start()
    yield running
    assert running.hang_up() == 0


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Return the DSN of a Postgres alone; tests drop the tables that they use."""
    with postgres_server() as dsn:
        yield dsn


@pytest.fixture(scope="package")
def http(stack: Stack) -> Iterator[httpx.Client]:
    """A client of its gateway."""
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        yield client


@pytest.fixture
def ray(tmp_path: Path) -> Iterator[str]:
    """Return the address of a cluster of one node."""
    said, tries = tmp_path / "ray.log", 3
    for _ in range(tries):  # somebody else may take the port before Ray does
        address = f"127.0.0.1:{free_port()}"
        process = _ray_head(address, said)
        assert process.stdout is not None
        if any(b"Ray runtime started" in line for line in process.stdout):
            break
        process.wait(60)
    else:
        pytest.fail(f"Ray did not start: {said.read_text(errors='replace')[-3000:]}")
    yield address
    # In order it would take half a minute to drain what nobody needs any more.
    whole = psutil.Process(process.pid)
    running = [whole, *whole.children(recursive=True)]
    for each in running:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait(60)
    psutil.wait_procs(running, timeout=60)


def _ray_head(address: str, log: Path) -> subprocess.Popen[bytes]:
    listening = ("--node-ip-address=127.0.0.1", f"--port={address.rpartition(':')[2]}")
    sizes = ("--num-cpus=4", "--object-store-memory=100000000", "--include-dashboard=false")
    command = (str(Path(sys.executable).with_name("ray")), "start", "--head", "--block")
    with log.open("ab") as said:
        return subprocess.Popen(
            [*command, *listening, *sizes],
            env={**os.environ, **RAY},
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,
        )


@pytest.fixture
def databases(server: str) -> list[str]:
    """Return the DSNs of three new databases of one server."""
    return [create_database(server, f"new_{uuid4().hex}") for _ in range(3)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[str]:
    """Return the URI of an embedded store."""
    command = [sys.executable, "-m", "eventstore.embedded", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--data", str(tmp_path / "store")], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    yield process.stdout.readline().decode().strip()
    process.terminate()
    process.wait(30)
