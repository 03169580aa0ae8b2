"""The table of shards: even, and no more moves than must be."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from actors.placement.shards import SHARDS, ShardTable, shard_of


@given(st.integers(1, 64), st.lists(st.integers(1, 64), max_size=6))
def test_every_host_gets_its_share_and_few_move(first: int, changes: list[int]) -> None:
    table = ShardTable(first)
    names: dict[int, str] = {}
    for number in range(10_000):
        names.setdefault(shard_of(f"order-{number}"), f"order-{number}")
    assert len(names) == SHARDS
    hosts = first
    for number in changes:
        moved = table.spread(number)
        shares = Counter(table.host_of(name) for name in names.values())
        assert set(shares) == set(range(number))
        assert max(shares.values()) - min(shares.values()) <= 1
        fair = SHARDS - SHARDS * min(hosts, number) // max(hosts, number)
        assert moved <= fair + max(hosts, number)
        hosts = number
