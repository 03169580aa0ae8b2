"""The table of shards: it is even, and moves no more shards than necessary."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.host.shard import SHARDS, shard_of
from actors.placement.shards import ShardTable


@settings(deadline=None)
@given(st.integers(1, 64), st.lists(st.integers(1, 64), max_size=6))
def test_every_host_gets_its_share_and_few_move(first: int, changes: list[int]) -> None:
    table = ShardTable(first)
    names: dict[int, str] = {}
    for number in range(10_000):
        names.setdefault(shard_of(f"order-{number}"), f"order-{number}")
    assert len(names) == SHARDS
    hosts = first
    for number in changes:
        moved = sum(len(shards) for shards in table.spread(number).values())
        shares = Counter(table.host_of(name) for name in names.values())
        assert set(shares) == set(range(number))
        assert max(shares.values()) - min(shares.values()) <= 1
        fair = SHARDS - SHARDS * min(hosts, number) // max(hosts, number)
        assert moved <= fair + max(hosts, number)
        hosts = number


@settings(deadline=None)
@given(st.integers(2, 8), st.data())
def test_shards_of_lost_hosts_move_to_others_and_return(hosts: int, data: st.DataObject) -> None:
    table, untouched = ShardTable(hosts), ShardTable(hosts)
    names = [f"order-{number}" for number in range(1000)]
    away = data.draw(st.lists(st.integers(0, hosts - 1), unique=True, max_size=hosts - 1))
    for host in away:
        had = {shard_of(name) for name in names if table.host_of(name) == host}
        moves = table.lose(host)
        assert host not in moves
        assert had <= set().union(*moves.values())
    assert not {table.host_of(name) for name in names} & set(away)
    there = [table.count(host) for host in range(hosts) if host not in away]
    assert sum(there) == SHARDS
    assert max(there) - min(there) <= 1 + hosts
    for host in away:
        assert set(table.rejoin(host)) <= {host}
    assert [table.host_of(name) for name in names] == [untouched.host_of(name) for name in names]


def test_the_last_host_keeps_all_shards_even_if_it_is_lost() -> None:
    table = ShardTable(2)
    table.lose(0)
    assert table.lose(1) == {}
    assert (table.count(0), table.count(1)) == (0, SHARDS)
    table.rejoin(0)
    assert (table.count(0), table.count(1)) == (SHARDS, 0)


@settings(deadline=None)
@given(st.integers(1, 6), st.lists(st.tuples(st.sampled_from("ars"), st.integers(0, 5))))
def test_shards_are_always_at_available_hosts_if_there_is_one(
    hosts: int, happens: list[tuple[str, int]]
) -> None:
    table, away = ShardTable(hosts), set[int]()
    names = {shard_of(f"order-{number}"): f"order-{number}" for number in range(10_000)}
    for what, host in happens:
        before = {shard: table.host_of(name) for shard, name in names.items()}
        if what == "s":
            hosts = host + 1
            away = {each for each in away if each < hosts}
            moves = table.spread(hosts)
        elif host >= hosts:
            continue
        elif what == "a":
            away.add(host)
            moves = table.lose(host)
        else:
            away.discard(host)
            moves = table.rejoin(host)
        after = {shard: table.host_of(name) for shard, name in names.items()}
        assert set(after.values()) <= (set(range(hosts)) - away or set(range(hosts)))
        moved = {shard for shard in names if before[shard] != after[shard]}
        assert moved == {shard for shards in moves.values() for shard in shards}
        assert all(after[shard] == to for to, shards in moves.items() for shard in shards)
