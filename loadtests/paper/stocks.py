"""The quantities that grow: bytes, seconds to process all of it, connections."""

from __future__ import annotations

from typing import NamedTuple

from loadtests.paper.measured import Bounds, Measured, Scenario


class Stock(NamedTuple):
    """Something that grows with the log or with the cluster, in one place."""

    name: str
    needed: float
    bound: float
    unit: str
    grows_with: str
    then: str
    """What divides it, or the alternative."""

    @property
    def filled(self) -> float:
        """Return how full it is; 1 is full."""
        return self.needed / self.bound


def stocks(scenario: Scenario, measured: Measured, bounds: Bounds) -> list[Stock]:
    """Return all quantities, the fullest first."""
    events, aggregates, patience = scenario.events, scenario.aggregates, scenario.patience
    hosts = min(scenario.nodes, bounds.hosts)
    connections = scenario.nodes * bounds.gateway_connections + bounds.partitions
    replay = events * measured.replay_event
    found = [
        Stock(
            "replay of a view that is in memory alone",
            replay,
            patience,
            "s",
            "events",
            "no such view at this size: in Postgres too, replicas begin with its rows",
        ),
        Stock(
            "rebuild of a view in Postgres",
            events * measured.rebuild_event,
            patience,
            "s",
            "events",
            "beside the live one, while it serves; several stores: each its share",
        ),
        Stock(
            "`verify`, which folds the log",
            replay,
            patience,
            "s",
            "events",
            "on a replica's machine, at night; several stores: each its share",
        ),
        Stock(
            "start of a replica from Postgres' rows",
            aggregates * measured.start_row,
            patience,
            "s",
            "aggregates",
            "the first of a view alone: the others copy it",
        ),
        Stock(
            "copy of a replica from a peer",
            aggregates * measured.copy_row,
            patience,
            "s",
            "aggregates",
            "it takes minutes yet; several stores: each its share",
        ),
        Stock(
            "memory of a replica with all views",
            aggregates * measured.row_bytes,
            scenario.memory,
            "B",
            "aggregates",
            "`memory:VIEW`: views on replicas of their own; large ones in Postgres alone",
        ),
        Stock(
            "connections to Postgres, a gateway on each node",
            connections,
            bounds.postgres_connections,
            "",
            "gateways",
            "gateways on some nodes; pgbouncer; streaming replicas for reads",
        ),
        Stock(
            "aggregates in memory of a host",
            aggregates / hosts,
            bounds.host_aggregates,
            "",
            "aggregates",
            "the least recently used leave, and cost a cold load",
        ),
        Stock(
            "memory of a host",
            aggregates / hosts * measured.aggregate_bytes,
            bounds.host_bytes,
            "B",
            "aggregates",
            "the same",
        ),
        Stock(
            "disk of the log",
            events * measured.log_bytes,
            scenario.disk,
            "B",
            "events",
            "several stores; archiving by the store",
        ),
        Stock(
            "disk of Postgres",
            aggregates * measured.table_bytes,
            scenario.disk,
            "B",
            "aggregates",
            "a database for each store",
        ),
    ]
    return sorted(found, key=lambda stock: -stock.filled)
