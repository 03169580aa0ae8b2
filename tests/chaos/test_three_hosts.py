"""A stack on three hosts with addresses of their own, under load from outside."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.hosts import Host
from tests.hosts.audit import audit
from tests.hosts.cluster import Cluster, cluster
from tests.hosts.load import Account, load

ANSWERS = 300
"""Of the load, after a fault, before it is taken as overcome."""


def test_clients_notice_nothing_of_a_gcs_that_starts_again(tmp_path: Path) -> None:
    with cluster(tmp_path) as hosts:
        up = hosts.up(hosts.hosts[1])
        with hosts.outside.inside(), load([hosts.url(hosts.hosts[1])], hosts.token) as account:
            account.wait_for(ANSWERS)
            kill(hosts.head, "gcs/gcs_server")
            account.wait_for(ANSWERS)
        print(account.spell(), account)
        check(hosts, account)
        assert up.stop() == 0


def kill(host: Host, command: str) -> None:
    """SIGKILL to one process of a host, by its command line."""
    [process] = host.processes(command)
    process.kill()
    process.wait(60)


def check(hosts: Cluster, account: Account) -> None:
    """Compare what clients were promised with the log, and all views with the log."""
    with hosts.outside.inside():
        lost, doubled = asyncio.run(audit(hosts.eventstore, account.receipts))
    with hosts.client(hosts.hosts[1]) as http:
        differences = http.get("/operators/verify").json()
    assert (account.unexpected, account.stale, lost, doubled) == ([], [], [], [])
    assert differences == {"differences": []}
