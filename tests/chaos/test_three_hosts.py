"""A stack on three hosts with addresses of their own, under load from outside."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.hosts.audit import audit
from tests.hosts.cluster import Cluster, cluster
from tests.hosts.load import Account, load
from tests.hosts.servers import restart_gcs

ANSWERS = 300
"""Of the load, after a fault, before it is taken as overcome."""


def test_clients_notice_nothing_of_a_gcs_that_starts_again(tmp_path: Path) -> None:
    with cluster(tmp_path) as hosts:
        up = hosts.up(hosts.head)
        with hosts.outside.inside(), load([hosts.url(hosts.head)], hosts.token) as account:
            account.wait_for(ANSWERS)
            restart_gcs(hosts.head)
            account.wait_for(ANSWERS)
        print(account)
        check(hosts, account)
        assert up.stop() == 0


def check(hosts: Cluster, account: Account) -> None:
    """Compare what clients were promised with the log, and all views with the log."""
    with hosts.outside.inside():
        lost, doubled = asyncio.run(audit(hosts.eventstore, account.receipts))
    with hosts.client(hosts.head) as http:
        differences = http.get("/operators/verify").json()
    assert (account.unexpected, account.stale, lost, doubled) == ([], [], [], [])
    assert differences == {"differences": []}
