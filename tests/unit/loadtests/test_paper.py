"""Growth on paper: the arithmetic, the simulation, and the tables of the documentation."""

from __future__ import annotations

import math

import pytest

from actors.host.shard import SHARDS
from actors.placement.shards import ShardTable
from loadtests.paper.__main__ import (
    changed,
    flows_table,
    loss_table,
    plans_table,
    spread_table,
    stocks_table,
)
from loadtests.paper.flows import flows, partitions_for, plan, store_rate
from loadtests.paper.measured import Bounds, Measured, Scenario
from loadtests.paper.simulation import Load, hosts_of_shards, lost_host, rank
from loadtests.paper.stocks import stocks
from tests.documents import ROOT

SCENARIO, MEASURED, BOUNDS = Scenario(), Measured(), Bounds()


@pytest.fixture(scope="module")
def balance() -> float:
    """Return how even 64 hosts are, as the program takes it."""
    return Load(SCENARIO.aggregates, 0.8).over_hosts(BOUNDS.hosts).balance


def test_stocks_are_what_a_pocket_calculator_says() -> None:
    found = {stock.name: stock for stock in stocks(SCENARIO, MEASURED, BOUNDS)}
    assert found["disk of the log"].needed == 467e9
    assert found["disk of the log"].filled == pytest.approx(0.467)
    assert found["memory of a replica with all views"].needed == 29e9
    assert found["replay of a view that is in memory alone"].needed == pytest.approx(100_000)
    assert found["aggregates in memory of a host"].needed == 156_250
    assert found["connections to Postgres, a gateway on each node"].needed == 864


def test_the_fullest_quantity_is_listed_first_and_depends_on_the_machine() -> None:
    fullest = stocks(SCENARIO, MEASURED, BOUNDS)[0]
    assert fullest.name == "replay of a view that is in memory alone"
    small = Scenario(memory=1e6)
    assert stocks(small, MEASURED, BOUNDS)[0].name == "memory of a replica with all views"


def test_each_further_reader_slows_the_store_down() -> None:
    assert store_rate(1, MEASURED) == store_rate(2, MEASURED) == pytest.approx(1 / 95e-6)
    assert store_rate(10, MEASURED) == pytest.approx(1 / 135e-6)


def test_partitions_divide_folding_and_not_reading() -> None:
    one = 1 / MEASURED.projector_event
    assert partitions_for(one * 0.99, MEASURED, BOUNDS) == 1
    assert partitions_for(one * 1.01, MEASURED, BOUNDS) == 2
    # Reading alone takes 0.4 of 124 µs: no number of partitions follows 20,161 events a second.
    assert partitions_for(20_000, MEASURED, Bounds(partitions=1_000)) is not None
    assert partitions_for(20_200, MEASURED, Bounds(partitions=1_000)) is None
    assert partitions_for(20_000, MEASURED, BOUNDS) is None


def test_the_store_is_the_first_part_of_which_more_would_not_help() -> None:
    found = flows(MEASURED, BOUNDS, balance=1.0, readers=10)
    assert [each.name for each in found[:2]] == ["store, embedded, 10 readers", "memory replica"]
    assert found[-1].most == math.inf
    host = next(each for each in found if each.name == "host")
    assert 8_000 <= host.one < 16_000 <= host.most
    assert found[1].most < 11_000


def test_a_plan_has_as_many_stores_as_the_undivided_parts_need() -> None:
    few = plan(1_000, 10_000, SCENARIO, MEASURED, BOUNDS, balance=1.0)
    assert (few.stores, few.hosts, few.partitions, few.replicas) == (1, 1, 1, 2)
    # 1,000 x 213 µs and 10,000 x 58 µs, on cores that may be 0.6 busy: 1.3 of them.
    assert few.gateways == 2
    many = plan(100_000, 0, SCENARIO, MEASURED, BOUNDS, balance=1.0)
    each = 100_000 / many.stores / 0.6
    assert each <= store_rate(2 + many.partitions // many.stores, MEASURED)
    one_less = 100_000 / (many.stores - 1) / 0.6
    assert one_less > store_rate(4, MEASURED)  # two replicas, and the two partitions it would need
    assert many.gateways == math.ceil(100_000 * 213e-6 / 0.6)


def test_popularity_follows_zipfs_law() -> None:
    for skew in (0.0, 0.8, 1.0):
        assert rank(0.0, 1e7, skew) == 0
        assert 0.99e7 < rank(0.999999, 1e7, skew) < 1e7
    assert rank(0.5, 1e7, 0.0) == pytest.approx(5e6, rel=1e-3)
    assert rank(0.5, 1e6, 1.0) == 999


def test_hashes_divide_even_load_as_evenly_as_the_table_of_shards_is() -> None:
    load = Load(1e7, 0.0)
    assert load.over_hosts(4).busiest == pytest.approx(1, abs=0.03)
    # 256 shards for 48 hosts: five or six each, 5.33 in the mean.
    assert load.over_hosts(48).busiest == pytest.approx(6 / (256 / 48), abs=0.1)
    assert load.over_partitions(8).busiest == pytest.approx(1, abs=0.05)


def test_the_busiest_host_is_computed_with_the_products_own_shard_table() -> None:
    assert [hosts_of_shards(ShardTable(3))[shard] for shard in (0, 1, 2, 3)] == [0, 1, 2, 0]
    assert len(hosts_of_shards(ShardTable(64))) == SHARDS


def test_the_loss_of_a_host_costs_more_time_than_it_takes_to_notice() -> None:
    calm = lost_host(16, 0.2, 1e7, 0.8, MEASURED)
    assert calm.inherited == 2  # 16 shards for 15 heirs
    assert 3.0 < calm.seconds < 10.0
    free = lost_host(16, 0.2, 1e7, 0.8, changed(MEASURED, ["cold_load=0"]))
    assert free.seconds <= calm.seconds


def test_a_given_constant_is_used_and_an_unknown_name_is_refused() -> None:
    assert changed(MEASURED, ["log_bytes=1000"]).log_bytes == 1_000
    assert changed(BOUNDS, ["hosts=128"]).hosts == 128
    with pytest.raises(SystemExit, match="no constant log_byte: choose one of gateway_write"):
        changed(MEASURED, ["log_byte=1"])


def test_the_page_has_the_tables_that_the_program_prints(balance: float) -> None:
    page = (ROOT / "docs" / "explanation" / "growth.md").read_text()
    assert stocks_table(SCENARIO, MEASURED, BOUNDS) in page
    assert flows_table(MEASURED, BOUNDS, balance, readers=10) in page
    assert plans_table(SCENARIO, MEASURED, BOUNDS, balance) in page
    assert spread_table(SCENARIO) in page
    # The others take seconds.
    assert all(line in page for line in loss_table(SCENARIO, MEASURED, [16]).splitlines())


def test_the_page_on_sizes_has_these_constants() -> None:
    page = (ROOT / "docs" / "how-to" / "size-a-cluster.md").read_text()
    writes, reads = 3_000, 30_000
    gateways = (writes * MEASURED.gateway_write + reads * MEASURED.gateway_read) / 0.6
    counts = {
        "gateways": math.ceil(gateways),
        "write hosts": math.ceil(writes * MEASURED.host_write / 0.3),
        "Postgres partitions": math.ceil(writes * MEASURED.projector_event / 0.6),
        "Postgres": math.ceil(writes * MEASURED.postgres_write / 0.6),
    }
    for part, count in counts.items():
        cores = page.partition("## Memory")[0].splitlines()
        [row] = [line for line in cores if line.startswith(f"| {part} |")]
        assert row.endswith(f"| {count} |"), part
    for constant in ("gateway_write", "gateway_read", "host_write", "projector_event"):
        assert f"{getattr(MEASURED, constant) * 1e6:.0f} µs" in page
