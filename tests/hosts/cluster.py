"""Three hosts with a raylet each, the stores on the first, and clients outside."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.hosts.host import Host, HostProcess
from tests.hosts.network import Network
from tests.hosts.servers import RAY, start_eventstore, start_postgres, start_ray, start_redis

PORT = 8000
TOKEN = "operator-of-the-tests-0123456789"

PARTS = {
    "RAYFOLD_WRITE_HOSTS": "3",
    "RAYFOLD_MEMORY_REPLICAS": "2",
    "RAYFOLD_POSTGRES_PARTITIONS": "2",
}
"""Enough of them that no host is without."""


class Cluster:
    """What an operator has before Rayfold is started there."""

    token = TOKEN

    def __init__(self, network: Network, names: Sequence[str] = ("one", "two", "three")) -> None:
        """Start everything but Rayfold, on hosts of these names."""
        self.hosts = [network.host(name) for name in names]
        self.outside = network.host("outside")
        tokens = {"operator": {"token": TOKEN, "role": "operator"}}
        for host in self.hosts:
            host.environment |= {
                **RAY,
                "RAYFOLD_TOKENS": json.dumps(tokens),
                "RAYFOLD_TOKEN": TOKEN,
            }
        self.head = self.hosts[0]
        self.gateways: list[Host] = []
        with ThreadPoolExecutor() as pool:
            eventstore = pool.submit(start_eventstore, self.head)
            postgres = pool.submit(start_postgres, self.head)
            self.ray = start_ray(self.head, self.head, start_redis(self.head))
            list(pool.map(lambda host: start_ray(host, self.head), self.hosts[1:]))
            self.eventstore, _ = eventstore.result()
            self.postgres, _ = postgres.result()

    def rayfold(self, host: Host, name: str, *command: str) -> HostProcess:
        """Start a command of Rayfold on a host, in a folder of its own there."""
        cli = (sys.executable, "-c", "from deploy.cli import main; main()")
        return host.start(name, *cli, *command, "--data", str(host.folder / name))

    def up(self, host: Host) -> HostProcess:
        """Start `rayfold up` on a host, with parts for all of them; return once it is ready."""
        stores = ("--eventstore", self.eventstore, "--postgres", self.postgres)
        host.environment |= PARTS
        listening = ("--host", host.address, "--port", str(PORT))
        process = self.rayfold(host, "up", "up", *listening, "--ray-address", self.ray, *stores)
        process.until_said("ready ")
        self.gateways = [host]
        return process

    def run(self, controllers: Sequence[Host], gateways: Sequence[Host]) -> None:
        """Start controllers and gateways, each again whenever it ends or its host boots.

        Return once every gateway serves.
        """
        for host in controllers:
            self._enable(host, "controller", *self.joining)
        for host in gateways:
            data = ("--data", str(host.folder / "gateway"))
            self._enable(host, "gateway", *self.listening(host), *self.joining, *data)
        for host in gateways:
            host.services["gateway"].until_said("ready ")
        self.gateways = list(gateways)

    @property
    def joining(self) -> tuple[str, ...]:
        """Options of whatever joins the stack."""
        stores = ("--eventstore", self.eventstore, "--postgres", self.postgres)
        return "--ray-address", self.ray, *stores

    def listening(self, host: Host) -> tuple[str, ...]:
        """Options of a gateway on a host."""
        return "--host", host.address, "--port", str(PORT)

    def _enable(self, host: Host, command: str, *options: str) -> None:
        cli = (sys.executable, "-c", "from deploy.cli import main; main()")
        host.enable(command, *cli, command, *options, **PARTS)

    def url(self, host: Host) -> str:
        """Return the URL of the gateway on a host."""
        return f"http://{host.address}:{PORT}"

    @contextmanager
    def client(self, host: Host) -> Iterator[httpx.Client]:
        """Return a client outside, an operator's, of the gateway on a host."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with (
            self.outside.inside(),
            httpx.Client(base_url=self.url(host), headers=headers, timeout=60) as http,
        ):
            yield http


@contextmanager
def cluster(folder: Path, *names: str) -> Iterator[Cluster]:
    """Three hosts, or those named, a network, and clients outside; all gone in the end."""
    with Network(folder) as network:
        yield Cluster(network, names) if names else Cluster(network)
