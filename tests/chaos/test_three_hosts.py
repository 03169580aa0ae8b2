"""A stack on three hosts with addresses of their own, under load from outside.

Stores, Ray's head and a controller are on the first, a second controller stands by on another one,
and two have a gateway each. Clients ask both, again with the same key until they have an answer.

`make test` lets each fault happen once. `RAYFOLD_CHAOS_HOSTS=1` lets it go on for five minutes at
least, with 20 nodes killed and 10 links cut; the table that it prints is the one in the
documentation.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from tests.hosts.audit import audit
from tests.hosts.cluster import Cluster, cluster
from tests.hosts.faults import (
    Fault,
    Suffered,
    link_cut,
    node_killed,
    node_without_power,
    process_killed,
    suffer,
    table,
    whole,
)
from tests.hosts.host import PATIENCE
from tests.hosts.load import Account, load

LONG = bool(os.environ.get("RAYFOLD_CHAOS_HOSTS"))
SECONDS = 300.0
SETTLE = 8.0 if LONG else 2.0
SILENCE = 15.0


def test_a_cluster_loses_nothing_with_a_node_a_link_or_a_process(tmp_path: Path) -> None:
    with cluster(tmp_path) as hosts:
        head, *others = hosts.hosts
        hosts.run(controllers=[head, others[0]], gateways=others)
        suffered: list[Suffered] = []
        urls = [hosts.url(host) for host in hosts.gateways]
        with hosts.outside.inside(), load(urls, hosts.token) as account:
            whole(hosts)
            assert apart(nodes_by_kind(hosts))
            account.wait_for(100)
            until = time.monotonic() + SECONDS
            for fault in faults(hosts):
                suffered.append(suffer(hosts, account, fault, SETTLE))
                _, victim, actors, spell = suffered[-1]
                print(fault.name, victim.name, actors, spell, flush=True)
            while LONG and time.monotonic() < until:
                account.wait_for(100)
            until_apart(hosts)
        print(table(suffered), account, sep="\n")
        check(hosts, account)
        if LONG:
            assert max(each.spell.silence for each in suffered) < SILENCE


def nodes_by_kind(hosts: Cluster) -> dict[str, list[str]]:
    """Return the nodes of write hosts, of memory replicas and of Postgres projectors."""
    with hosts.client(hosts.gateways[0]) as http:
        parts = http.get("/operators/status").json()["parts"]
    nodes: dict[str, list[str]] = {}
    for part in parts:
        if "node" in part:
            nodes.setdefault(part["kind"], []).append(part["node"])
    print(nodes, flush=True)
    return nodes


def apart(nodes: dict[str, list[str]]) -> bool:
    """Return whether nothing of one kind is twice on a node."""
    return all(len(set(each)) == len(each) for each in nodes.values())


def until_apart(hosts: Cluster) -> None:
    """Wait until what came together on some node while others were away is apart again."""
    deadline = time.monotonic() + PATIENCE
    while not apart(nodes := nodes_by_kind(hosts)):
        assert time.monotonic() < deadline, str(nodes)
        time.sleep(1.0)
    whole(hosts)


def faults(hosts: Cluster) -> list[Fault]:
    """What happens, in this order."""
    head, *others = hosts.hosts
    gcs = process_killed("the GCS, and all of Ray's head with it,", head, "gcs/gcs_server")
    controller = process_killed("the controller", head, "main() controller")
    gateways = [process_killed("a gateway", host, "main() gateway") for host in others]
    if not LONG:
        power, cut = node_without_power(others), link_cut(others, 12)
        return [gateways[0], gcs, power, controller, cut]
    nodes = [node_killed(others), node_without_power(others)] * 10
    links = [link_cut(others, 10), link_cut(others, 30)] * 5
    happen = [*nodes, *links, *[gcs, controller, *gateways] * 2]
    random.Random(7).shuffle(happen)
    return happen


def check(hosts: Cluster, account: Account) -> None:
    """Compare what clients were promised with the log, and all views with the log."""
    lost, doubled = audit(hosts.outside, hosts.eventstore, account.receipts)
    with hosts.client(hosts.gateways[0]) as http:
        differences = http.get("/operators/verify").json()
    assert (account.unexpected, account.stale, lost, doubled) == ([], [], [], [])
    assert differences == {"differences": []}
