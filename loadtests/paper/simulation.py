"""Simulates how evenly hashes divide uneven load, and what losing a host costs.

It uses the product's own functions: the shard table, and the hash of a key.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import NamedTuple

from actors.host.shard import SHARDS, shard_of
from actors.placement.shards import ShardTable
from loadtests.paper.measured import Measured
from projections.partitions import hash_of


def rank(draw: float, aggregates: float, skew: float) -> int:
    """Return the aggregate of a draw from [0, 1): 0 is the most popular.

    By Zipf's law, the nth is requested n to the power of -`skew` as often as the first.
    """
    if skew == 1:
        return int(aggregates**draw) - 1
    power = 1 - skew
    return int((1 + draw * (aggregates**power - 1)) ** (1 / power)) - 1


def stream(number: int) -> str:
    """Return the name of an aggregate's stream."""
    return f"order-{number}"


def hosts_of_shards(table: ShardTable) -> list[int]:
    """Return the host of each shard, looked up by a stream in it."""
    streams = dict[int, str]()
    number = 0
    while len(streams) < SHARDS:
        streams[shard_of(stream(number))] = stream(number)
        number += 1
    return [table.host_of(streams[shard]) for shard in range(SHARDS)]


class Spread(NamedTuple):
    """How load is divided."""

    busiest: float
    """The load of the busiest divided by the mean."""
    hottest: float
    """The largest share of the total load that one aggregate has."""

    @property
    def balance(self) -> float:
        """Return the usable share of each one's rate if the busiest must not be overloaded."""
        return 1 / self.busiest


class Load:
    """Writes to aggregates, drawn once and then divided in several ways."""

    def __init__(self, aggregates: float, skew: float, writes: int = 50_000, seed: int = 1) -> None:
        draws = random.Random(seed)
        numbers = (rank(draws.random(), aggregates, skew) for _ in range(writes))
        self.writes = Counter(numbers)
        self._names = {number: stream(number) for number in self.writes}
        self._total = writes

    def over_hosts(self, hosts: int) -> Spread:
        """Return how hosts divide the load, by the shard table."""
        table = ShardTable(hosts)
        return self._spread({n: table.host_of(name) for n, name in self._names.items()}, hosts)

    def over_partitions(self, partitions: int) -> Spread:
        """Return how partitions of a view, or stores, divide the load by the hash of a key."""
        places = {number: hash_of(name) % partitions for number, name in self._names.items()}
        return self._spread(places, partitions)

    def _spread(self, place_of: dict[int, int], places: int) -> Spread:
        loads = Counter[int]()
        for number, count in self.writes.items():
            loads[place_of[number]] += count
        [(_, hottest)] = self.writes.most_common(1)
        return Spread(max(loads.values()) * places / self._total, hottest / self._total)


MOST = 60.0
"""Seconds after which the simulation of a loss ends."""


class Loss(NamedTuple):
    """The cost of losing a host, for the host that takes most of its shards."""

    inherited: int
    """The shards that it takes."""
    folded: int
    """Their aggregates that it folds until it has caught up."""
    seconds: float
    """Seconds from the loss until nothing waits any more."""


def lost_host(
    hosts: int,
    busy: float,
    aggregates: float,
    skew: float,
    measured: Measured,
    unnoticed: float = 3.0,
) -> Loss:
    """Simulate the end of one host, where each is `busy` for this share of its time.

    For `unnoticed` seconds its commands wait: three heartbeats. Then they go to the hosts that have
    its shards now, all at once, and each aggregate is folded again at its first command. The result
    is for the host that takes most; after `MOST` seconds the simulation ends.
    """
    table = ShardTable(hosts)
    before = hosts_of_shards(table)
    table.spread(hosts - 1)
    after = hosts_of_shards(table)
    lost = {shard for shard in range(SHARDS) if before[shard] == hosts - 1}
    [(heir, inherited)] = Counter(after[shard] for shard in lost).most_common(1)
    own = {shard for shard in range(SHARDS) if before[shard] == after[shard] == heir}
    taken = {shard for shard in lost if after[shard] == heir}
    rate = busy / measured.host_write * hosts
    draws = random.Random(1)
    warm = set[int]()
    step = 0.05
    work, clock = 0.0, unnoticed
    arriving = int(rate * unnoticed)
    waited = True
    while clock < MOST:
        for _ in range(arriving):
            number = rank(draws.random(), aggregates, skew)
            shard = shard_of(stream(number))
            if shard in own and not waited:
                work += measured.host_write
            elif shard in taken:
                work += measured.host_write + measured.cold_load * (number not in warm)
                warm.add(number)
        work = max(0.0, work - step)
        clock += step
        if not work:
            break
        arriving, waited = int(rate * step), False
    return Loss(inherited, len(warm), clock)
