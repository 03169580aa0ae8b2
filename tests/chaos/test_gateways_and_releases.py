"""Gateways come and go, and releases follow each other, while clients ask.

`make test` lets two gateways go. `RAYFOLD_CHAOS_HOSTS=1` lets ten, and prints what clients saw.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

import pytest

from tests.hosts.accounts import Account, accounts
from tests.hosts.cluster import Cluster, cluster
from tests.hosts.faults import whole
from tests.hosts.host import PATIENCE, Host, HostProcess

LONG = bool(os.environ.get("RAYFOLD_CHAOS_HOSTS"))
TIMES = 10 if LONG else 2

CONNECTIONS = """
import asyncio, sys
import asyncpg

async def main():
    connection = await asyncpg.connect(sys.argv[1])
    print(await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname = $1",
                                    "postgres") - 1)

asyncio.run(main())
"""

LISTENING = """
import psutil

def is_a_worker(pid):
    try:
        said = " ".join(psutil.Process(pid).cmdline())
    except psutil.NoSuchProcess:
        return True
    return said.startswith("ray::") or "default_worker" in said

found = [each.pid for each in psutil.net_connections("tcp") if each.status == "LISTEN"]
print(sum(pid is None or not is_a_worker(pid) for pid in found))
"""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a host with a controller and a gateway of the first release, and clients outside."""
    with cluster(tmp_path_factory.mktemp("hosts"), "one") as hosts:
        hosts.head.environment["RAYFOLD_DOMAIN"] = "tests.releases.one"
        hosts.run([hosts.head], [hosts.head])
        whole(hosts)
        yield hosts


def test_gateways_come_and_go_and_clients_that_connect_again_see_no_error(hosts: Cluster) -> None:
    """Several gateways listen on one port, and stop cleanly or are killed; no process is left."""
    head = hosts.head
    with hosts.outside.inside(), accounts(urls(hosts), hosts.token, retries=True) as account:
        account.wait_for(50)
        before = left(hosts)
        for number in range(TIMES):
            gateway = another(hosts, f"gateway-{number}")
            account.wait_for(20)
            if number % 2:
                assert gateway.stop() == 0
            else:
                gateway.kill()
        account.wait_for(50)
        print(account.slowest, account.answers, account.retried, flush=True)
        assert account.failed == []
        deadline = time.monotonic() + PATIENCE
        while (now := left(hosts)) != before:
            assert time.monotonic() < deadline, f"{now}, before {before}"
            time.sleep(0.2)
    check(hosts, account)
    assert head.services["gateway"].runs


def test_a_release_follows_another_without_a_failed_request(hosts: Cluster) -> None:
    """Clients keep their connections and never retry: each request is answered."""
    head = hosts.head
    before = deposited(hosts)
    with (
        hosts.outside.inside(),
        accounts(urls(hosts), hosts.token, retries=False, before=before) as account,
    ):
        account.wait_for(50)
        since = time.monotonic()
        upgraded = head.run(
            "upgrade",
            *(sys.executable, "-c", "from deploy.cli import main; main()"),
            *("upgrade", "--domain", "tests.releases.two", *hosts.joining),
        )
        took = time.monotonic() - since
        account.wait_for(50)
    print(upgraded, f"{took:.1f} s", account.slowest, account.answers, flush=True)
    assert account.failed == []
    check(hosts, account)
    with hosts.client(head) as http:
        for client, cents in account.deposits.items():
            assert http.get(f"/accounts/{client}").json()["deposits"] == cents
        interest = http.post("/accounts/client-0/interest")
        assert interest.status_code == 202
        token = {"Consistency-Token": interest.headers["consistency-token"]}
        deposited_before = account.deposits["client-0"]
        row = http.get("/accounts/client-0", headers=token).json()
        assert row["cents"] == deposited_before + deposited_before // 100
        parts = [str(part) for part in http.get("/operators/status").json()["parts"]]
        assert http.get("/operators/verify").json() == {"differences": []}
    assert parts
    refused = hosts.rayfold(
        head, "back", "upgrade", "--domain", "tests.releases.one", *hosts.joining
    )
    assert refused.wait() == 2
    assert "'InterestPaid'" in refused.log().splitlines()[-1]


def urls(hosts: Cluster) -> list[str]:
    """Return where clients ask: one address, whoever listens there."""
    return [hosts.url(hosts.head)]


def another(hosts: Cluster, name: str) -> HostProcess:
    """Return another gateway on the port of the first one, which serves."""
    command = ("gateway", *hosts.listening(hosts.head), *hosts.joining)
    process = hosts.rayfold(hosts.head, name, *command)
    process.until_said("ready ")
    return process


def left(hosts: Cluster) -> dict[str, int]:
    """Return how much there is of what a gateway may leave behind."""
    head = hosts.head
    connections = head.run("connections", sys.executable, "-c", CONNECTIONS, hosts.postgres)
    return {
        "processes": len(head.processes(" gateway ")),
        "listening": listening(head),
        "connections": int(connections),
    }


def listening(host: Host) -> int:
    """Return how many sockets listen on a host, but for Ray's workers: these come and go."""
    return int(host.run("listening", sys.executable, "-c", LISTENING))


def deposited(hosts: Cluster) -> dict[str, int]:
    """Return what the accounts of all clients have."""
    with hosts.client(hosts.head) as http:
        rows = {f"client-{n}": http.get(f"/accounts/client-{n}") for n in range(4)}
    return {name: row.json()["cents"] for name, row in rows.items() if row.status_code == 200}


def check(hosts: Cluster, account: Account) -> None:
    """Compare what clients were promised with what is there: nothing lost, nothing twice."""
    assert deposited(hosts) == dict(account.deposits)
