"""The writes per second of each part, and how many of each part are useful."""

from __future__ import annotations

import math
from typing import NamedTuple

from loadtests.paper.measured import Bounds, Measured, Scenario


class Flow(NamedTuple):
    """A part that a write passes, with a core of its own."""

    name: str
    one: float
    """The writes per second of one."""
    most: float
    """The limit of writes per second, however many there are."""
    divided_by: str


def partitions_for(rate: float, measured: Measured, bounds: Bounds) -> int | None:
    """Return how many partitions of a view follow this many events per second; None if none do.

    Each partition reads and decodes the whole log, so only the rest of the work is divided.
    """
    reading = measured.projector_event * measured.projector_reading
    folding = measured.projector_event - reading
    left = 1 / rate - reading
    if left <= 0:
        return None
    count = max(1, math.ceil(folding / left))
    return count if count <= bounds.partitions else None


def store_rate(readers: int, measured: Measured) -> float:
    """Return the writes per second of the embedded store with this number of readers of `$all`."""
    return 1 / (measured.store_write + measured.store_reader * max(0, readers - 2))


def flows(measured: Measured, bounds: Bounds, balance: float, readers: int) -> list[Flow]:
    """Return the parts, the first bottleneck first.

    `balance` is the mean load of hosts divided by that of the busiest; see `simulation`.
    """
    host = 1 / measured.host_write
    reading = measured.projector_event * measured.projector_reading
    folding = measured.projector_event - reading
    store = store_rate(readers, measured)
    found = [
        Flow("gateway", 1 / measured.gateway_write, math.inf, "request"),
        Flow("host", host * balance, host * balance * bounds.hosts, "shard of the stream, 256"),
        Flow(
            "memory replica",
            1 / measured.replica_event,
            1 / measured.replica_event,
            "view, not key: each folds every event of its views",
        ),
        Flow(
            "projector partition",
            1 / measured.projector_event,
            1 / (reading + folding / bounds.partitions),
            "key; each reads the whole log",
        ),
        Flow("Postgres", 1 / measured.postgres_write, 1 / measured.postgres_write, "database"),
        Flow(f"store, embedded, {readers} readers", store, store, "stack: a store for each"),
    ]
    return sorted(found, key=lambda flow: flow.most)


class Plan(NamedTuple):
    """The needs of a rate of writes and reads."""

    writes: float
    reads: float
    stores: int
    gateways: int
    hosts: int
    partitions: int
    replicas: int
    cores: float
    """The total for all parts, stores and databases."""
    nodes: int


def plan(
    writes: float,
    reads: float,
    scenario: Scenario,
    measured: Measured,
    bounds: Bounds,
    balance: float,
    busy: float = 0.6,
) -> Plan:
    """Return the parts that a rate needs if no core is to be busier than `busy`.

    A store with its database, hosts and views is a stack; if one is full, there is another. Each
    has two replicas, so that one may be lost.
    """
    stores = 0
    while True:
        stores += 1
        rate = writes / stores / busy
        partitions = partitions_for(rate, measured, bounds)
        if partitions is None or rate > 1 / measured.replica_event:
            continue
        hosts = max(1, math.ceil(rate * measured.host_write / balance))
        if hosts <= bounds.hosts and rate <= store_rate(2 + partitions, measured):
            break
    gateways = max(
        2, math.ceil((writes * measured.gateway_write + reads * measured.gateway_read) / busy)
    )
    each = hosts + partitions + 2 + 1 + math.ceil(rate * measured.postgres_write)
    cores = stores * each + gateways
    replicas = 2 * stores
    # Stores divide the rows among them; the memory of other parts is small in comparison.
    memory = 2 * scenario.aggregates * measured.row_bytes
    nodes = max(math.ceil(cores / scenario.cores), math.ceil(memory / scenario.memory))
    return Plan(
        writes,
        reads,
        stores,
        gateways,
        hosts * stores,
        partitions * stores,
        replicas,
        cores,
        nodes,
    )
