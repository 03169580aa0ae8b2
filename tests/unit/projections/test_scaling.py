"""What may be scaled, and how far."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from eventstore.memory import MemoryLog
from projections.errors import UnknownTarget
from projections.memory.supervisor import MemorySupervisor
from projections.operations.scaling import Scaling
from projections.postgres.store import PostgresStore
from projections.settings import ReadSettings
from projections.stores.supervisor import StoreSupervisor
from projections.supervision.placements import Placements
from rayfold import Registry
from tests.integration.projections import small

SETTINGS = ReadSettings(
    domain="small", eventstore="", postgres="", namespace="", postgres_partitions=4
)


@pytest.fixture
def postgres(monkeypatch: pytest.MonkeyPatch) -> StoreSupervisor:
    """A supervisor that makes no actors."""
    registry = Registry([small])
    store = PostgresStore(registry, "")
    supervisor = StoreSupervisor(store, registry, SETTINGS, Placements(), MemoryLog())

    async def scale(views: Sequence[str], number: int) -> None:
        supervisor.wanted |= dict.fromkeys(views, number)

    monkeypatch.setattr(supervisor, "scale", scale)
    return supervisor


@pytest.fixture
def scaling(postgres: StoreSupervisor) -> Scaling:
    async def scale(views: Sequence[str], number: int) -> None:
        assert not views

    none: Any = SimpleNamespace(wanted={}, scale=scale)
    return Scaling(none, {"postgres": postgres}, none, Placements(), none, {})


async def test_a_view_that_stops_as_a_whole_has_one_partition(
    scaling: Scaling, postgres: StoreSupervisor
) -> None:
    assert postgres.wanted == {"totals": 4, "balances": 4, "strict": 1}
    await scaling.scale("postgres", 2)
    assert postgres.wanted == {"totals": 2, "balances": 2, "strict": 1}
    with pytest.raises(UnknownTarget, match="'strict' stops as a whole"):
        await scaling.scale("postgres:strict", 2)
    await scaling.scale("postgres:strict", 1)
    await scaling.scale("postgres:totals", 3)
    assert postgres.wanted == {"totals": 3, "balances": 2, "strict": 1}


@pytest.mark.parametrize("target", ["nothing", "memory:strict", "postgres:nothing"])
async def test_an_unknown_target_is_not_scaled(scaling: Scaling, target: str) -> None:
    with pytest.raises(UnknownTarget, match="nothing to scale"):
        await scaling.scale(target, 2)


async def test_the_load_is_the_queries_of_all_gateways(postgres: StoreSupervisor) -> None:
    memory: Any = SimpleNamespace(wanted={"totals": 2, "balances": 2})
    none: Any = SimpleNamespace(wanted={})
    placements = Placements()
    scaling = Scaling(memory, {"postgres": postgres}, none, placements, none, {})
    # What replicas have heard of all gateways; one of them has not heard of the last yet.
    said = [{"totals": 60, "balances": 4}, {"totals": 90}, {}]
    replicas: list[Any] = [SimpleNamespace(seen={"in_flight": each}) for each in said]
    placements.replicas = [*replicas, SimpleNamespace(seen={"error": "away"})]  # type: ignore[list-item]
    assert scaling._load("memory", 2, 0.0) == 47.0
    assert scaling._load("memory:balances", 2, 0.0) == 2.0


async def test_a_memory_replica_that_is_no_longer_wanted_is_removed_with_its_snapshots() -> None:
    placements, done = Placements(), []
    supervisor = MemorySupervisor(Registry([small]), SETTINGS, placements)

    def replica(name: str) -> Any:
        async def retire() -> None:
            done.append(name)

        return SimpleNamespace(name=name, views=[*supervisor.wanted], retire=retire)

    placements.replicas = [replica("first"), replica("second")]
    await supervisor.scale([*supervisor.wanted], 1)
    assert [each.name for each in placements.replicas] == ["first"]
    assert done == ["second"]


async def test_a_cancelled_scaling_leaves_the_replicas_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    placements, ended, waits = Placements(), [], asyncio.Event()
    supervisor = MemorySupervisor(Registry([small]), SETTINGS, placements)

    def replica(views: Sequence[str], others: Sequence[Any]) -> Any:
        name = str(len(others))

        async def answers(*_: Any) -> None: ...

        async def until_ready() -> None:
            waits.set()
            await asyncio.Event().wait()

        async def end() -> None:
            ended.append(name)

        return SimpleNamespace(
            name=name,
            views=[*views],
            seen={},
            ready=True,
            _call=answers,
            _told=tuple,
            look=answers,
            until_ready=until_ready,
            end=end,
        )

    monkeypatch.setattr(supervisor, "_replica", replica)
    wanted = supervisor.wanted
    first, second = replica([*wanted], []), replica([*wanted], ["0"])
    placements.replicas = [first, second]
    scaling = asyncio.create_task(supervisor.scale([*wanted], 4))
    await waits.wait()
    scaling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await scaling
    assert (supervisor.wanted, placements.replicas) == (wanted, [first, second])
    assert sorted(ended) == ["2", "3"]


async def test_each_unwanted_replica_is_removed_even_if_another_raises() -> None:
    placements, done = Placements(), []
    supervisor = MemorySupervisor(Registry([small]), SETTINGS, placements)

    def replica(name: str) -> Any:
        async def retire() -> None:
            done.append(name)
            raise RuntimeError(name)

        return SimpleNamespace(name=name, views=[*supervisor.wanted], retire=retire)

    placements.replicas = [replica(name) for name in ("first", "second", "third")]
    with pytest.raises(RuntimeError):
        await supervisor.scale([*supervisor.wanted], 1)
    assert done == ["second", "third"]
