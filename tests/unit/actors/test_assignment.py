"""What a host accepts from callers whose tables are of different ages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.host.assignment import Assignment
from actors.host.shard import SHARDS, shard_of
from actors.placement.shards import ShardTable

STREAM = "order-1"
SHARD = shard_of(STREAM)


def test_a_host_must_be_shown_a_newer_table_before_it_takes_anything() -> None:
    host = Assignment(sharded=True)
    assert host.unknown((1, 1))
    assert host.learn((1, 1), {SHARD: 1}) == {SHARD}
    assert not host.unknown((1, 1))
    assert host.unknown((2, 1))
    assert not host.refuses((1, 1), STREAM)


def test_a_shard_that_was_on_another_host_is_folded_again_and_no_other() -> None:
    host = Assignment(sharded=True)
    host.learn((1, 1), {SHARD: 1, SHARD + 1: 1})
    assert host.learn((1, 2), {SHARD + 1: 1}) == set()
    assert host.refuses((1, 1), STREAM)  # others have it: who does not know yet must look
    assert host.learn((1, 3), {SHARD: 3, SHARD + 1: 1}) == {SHARD}
    assert not host.refuses((1, 1), STREAM)
    assert host.learn((1, 2), {}) == set()  # old news
    assert not host.refuses((1, 3), STREAM)


def test_a_caller_that_knows_only_an_older_owner_is_refused() -> None:
    for sharded in (True, False):
        host = Assignment(sharded=sharded)
        host.learn((2, 1), {SHARD: 1})
        assert host.refuses((1, 9), STREAM)
        assert not host.refuses((2, 1), STREAM)
        assert not host.refuses((3, 0), STREAM)


@given(st.lists(st.tuples(st.sampled_from("ars"), st.integers(0, 3)), max_size=12), st.data())
def test_no_host_keeps_its_memory_of_a_shard_that_was_on_another_host(
    happens: list[tuple[str, int]], data: st.DataObject
) -> None:
    """However few of the tables it is shown, and from whichever caller."""
    table = ShardTable(4)
    hosts = [Assignment(sharded=True) for _ in range(4)]
    known: list[set[int]] = [set() for _ in hosts]
    hosts_now = 4
    elsewhere: list[set[int]] = [set() for _ in hosts]
    for what, number in [("r", 0), *happens]:
        if what == "s":
            hosts_now = number + 1
            table.spread(hosts_now)
        elif number < hosts_now:
            (table.lose if what == "a" else table.rejoin)(number)
        for at, host in enumerate(hosts):
            has = table.shards_of(at)
            elsewhere[at] |= known[at] - has.keys()
            if data.draw(st.booleans()):
                gained = host.learn((1, table.version), has)
                assert elsewhere[at] & has.keys() <= gained
                known[at] = known[at] | has.keys()
                elsewhere[at] -= has.keys()
    assert sum(len(table.shards_of(at)) for at in range(4)) == SHARDS


def test_the_next_owner_continues_with_the_same_shard_table() -> None:
    table = ShardTable(3)
    table.spread(4)
    table.lose(1)
    plain = {"hosts": [{}] * 4, **table.plain()}
    after = ShardTable.read(plain)
    assert after.version > table.version
    assert [after.shards_of(n) for n in range(4)] == [table.shards_of(n) for n in range(4)]
    after.rejoin(1)
    table.rejoin(1)
    assert [after.count(n) for n in range(4)] == [table.count(n) for n in range(4)]
