"""What was measured, each with its place in docs/explanation/what-was-tried-for-speed.md.

Seconds are of one core of the machine that page tells of; bytes and seconds are for one write (one
event) of the reference domain's orders, five events an order. Another domain on another machine
has constants of its own: `make bench`, `make bench-growth` and `make profile` find them.
"""

from __future__ import annotations

from dataclasses import dataclass

US = 1e-6


@dataclass(frozen=True)
class Measured:
    """Constants; any can be given by `--measured NAME=VALUE`."""

    gateway_write: float = 213 * US
    """Profile of a write, 128 clients."""
    host_write: float = 120 * US
    """Profile of a write, as above."""
    replica_event: float = 98 * US
    """Profile of a write: reading, decoding and folding every event, in each replica."""
    projector_event: float = 124 * US
    """Profile of a write, for the only partition."""
    projector_reading: float = 0.4
    """The share of that which each partition does for all events; the rest is divided. One, two and
    three partitions took 0.29, 0.43 and 0.47 ms per write together: 0.48 by two, 0.31 by three.
    """
    postgres_write: float = 43 * US
    """Postgres and Ray's own processes, beside the profile."""
    store_write: float = 95 * US
    """Profile of a write; the embedded store, with two readers of `$all`."""
    store_reader: float = 5 * US
    """On N nodes: the cost per event of each further reader for the store."""
    gateway_read: float = 58 * US
    """What safety costs: CPU of all parts for a read, 128 clients."""
    cold_load: float = 700 * US
    """What was done: an aggregate that is not in memory is folded from a short stream."""

    log_bytes: float = 467
    """Growth: disk of the embedded store, for an event."""
    table_bytes: float = 2_100
    """Growth: disk of Postgres, for an order in all its views."""
    row_bytes: float = 2_900
    """Growth: memory of a replica for an order, at 200,000 of them."""
    aggregate_bytes: float = 3_000
    """The budgets: 2,030 for an idle aggregate beside its state, and a guess of 1,000 for that."""

    replay_event: float = 100 * US
    """Growth: a replica's CPU for an event of the log, at a million; it is one core's."""
    start_row: float = 127 * US
    """Starting again, every view in both stores: 25.5 s for the rows of 200,000 orders."""
    copy_row: float = 100 / 24.9 / 200_000
    """The budgets: a copy of a peer is 24.9 times sooner there than replay, at a million."""
    rebuild_event: float = 1 / 14_589
    """The budgets: rebuild of a Postgres view, 1.49 times the bare client's 9,808 events/s."""


@dataclass(frozen=True)
class Bounds:
    """The limits in the code and in the files of `deploy/`."""

    hosts: int = 64
    replicas: int = 64
    partitions: int = 64
    host_aggregates: int = 200_000
    host_bytes: float = 2 * 1024**3
    gateway_connections: int = 8
    """The most connections to Postgres."""
    postgres_connections: int = 200
    """`max_connections` of `deploy/compose.yaml`."""


@dataclass(frozen=True)
class Scenario:
    """The sizes after growth, and the machines."""

    events: float = 1e9
    aggregates: float = 1e7
    nodes: int = 100
    cores: int = 8
    memory: float = 32 * 1024**3
    """The memory of a node in bytes."""
    disk: float = 1e12
    """The disk of the store's node, and of Postgres', in bytes."""
    patience: float = 3_600.0
    """Seconds that a start, a rebuild or a verification may take."""
