"""Which stores a stack has, of those that its views name."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

import pytest

from eventstore import folded_log
from eventstore.memory import MemoryLog
from projections.errors import NoSuchStore, ReadStoreUnavailable
from projections.operations.rebuild import Rebuild
from projections.settings import ReadSettings
from projections.stores import configured, known, supervisor
from projections.stores.port import Place
from projections.stores.supervisor import StoreSupervisor
from projections.supervision.placements import Placements
from rayfold import Registry, View, ViewDefinition, on, stores
from tests.contract.stores.shelf import Put, registry_for, write

URL = "redis://127.0.0.1:1"


def settings(**more: Any) -> ReadSettings:
    return ReadSettings("small", "kdb://x", "postgresql://x", **more)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, ("memory", "postgres")),
        ({"redis": URL}, ("memory", "postgres", "redis")),
        ({"stores": {"redis": URL}}, ("memory", "postgres", "redis")),
        ({"stores": {"other": URL}}, ("memory", "postgres")),
    ],
)
def test_a_view_is_kept_only_in_stores_that_the_stack_has(
    given: dict[str, Any], kept: tuple[str, ...]
) -> None:
    view = Registry.load("domain").views["customer-profiles"]
    assert view.stores == ("memory", "postgres", "redis")
    assert settings(**given).stores_of(view) == kept


def test_a_view_that_is_kept_nowhere_is_refused_by_its_name() -> None:
    registry = registry_for("redis")
    with pytest.raises(NoSuchStore, match="the view 'shelf' is kept in redis alone"):
        configured.readers_beside_postgres(registry, settings(), Placements())
    found = configured.readers_beside_postgres(registry, settings(redis=URL), Placements())
    assert [*found] == ["redis"]


def test_actors_made_for_another_redis_are_not_reused() -> None:
    assert settings(redis=URL).made_with != settings().made_with
    assert settings(stores={"a": URL}).made_with != settings(stores={"b": URL}).made_with


def test_a_store_that_a_package_brings_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("oracle", "tests.unit.projections.test_stores:Oracle", stores.GROUP)

    def points(*, group: str, name: str = "oracle") -> list[EntryPoint]:
        return [point] if (group, name) == (stores.GROUP, "oracle") else []

    monkeypatch.setattr(stores, "entry_points", points)
    monkeypatch.setattr(known, "entry_points", points)
    stores.known_stores.cache_clear()
    try:

        class Kept(View, name="kept", key="id", stores=("oracle",)):
            id: str

            @staticmethod
            @on(Put)
            def put(row: Kept, event: Put) -> Kept:
                return row

        assert not [each for each in Kept.__rayfold__.mistakes() if "stores are" in each]
        made = known.make("oracle", registry_for("oracle"), Place("oracle://x", "stack"))
        assert isinstance(made, Oracle)
        assert made.place == Place("oracle://x", "stack")
    finally:
        stores.known_stores.cache_clear()


class Oracle:
    """A store that does not answer."""

    name = "oracle"
    required = False

    def __init__(self, registry: Registry, place: Place) -> None:
        self.place = place
        self.prepared = asyncio.Event()
        self.away = True
        self.checkpoint = 0
        self.closed = False
        self.generations: Any = self

    async def prepare(
        self, views: Sequence[ViewDefinition], partitions: Mapping[str, int]
    ) -> list[ViewDefinition]:
        if self.away:
            raise ReadStoreUnavailable("it does not answer")
        self.prepared.set()
        return []

    async def furthest(self, view: ViewDefinition) -> int:
        return self.checkpoint

    async def close(self) -> None:
        self.closed = True


def test_an_unknown_store_is_refused() -> None:
    with pytest.raises(NoSuchStore, match="no store is named 'nope'"):
        known.make("nope", registry_for("nope"), Place("", ""))


async def test_a_store_that_is_down_does_not_delay_the_start_and_is_prepared_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "RETRY", 0.001)
    store: Any = Oracle(registry_for("oracle"), Place("", ""))
    subject = StoreSupervisor(store, registry_for("oracle"), settings(), Placements(), MemoryLog())

    async def made(views: Sequence[str], adopted: bool = False) -> dict[str, list[Any]]:
        return {view: [SimpleNamespace(name="one", ray_name="one")] for view in views}

    monkeypatch.setattr(subject, "_start_projectors", made)
    await subject.start()
    assert not store.prepared.is_set()
    store.away = False
    await asyncio.wait_for(store.prepared.wait(), 60)
    await subject.stop()
    assert store.closed


async def test_a_required_store_that_is_down_prevents_the_start() -> None:
    store: Any = Oracle(registry_for("oracle"), Place("", ""))
    store.required = True
    subject = StoreSupervisor(store, registry_for("oracle"), settings(), Placements(), MemoryLog())
    with pytest.raises(ReadStoreUnavailable):
        await subject.start()


@pytest.mark.parametrize(("checkpoint", "is_lost"), [(2, False), (3, True)])
async def test_views_ahead_of_a_restored_log_are_rebuilt_before_the_start(
    monkeypatch: pytest.MonkeyPatch, checkpoint: int, is_lost: bool
) -> None:
    monkeypatch.setattr(folded_log, "LAG", 0)
    monkeypatch.setattr(folded_log, "LOOK", 0)
    log = MemoryLog()
    for _ in range(2):
        await write(log, Put(id="a", name="tea"))
    store: Any = Oracle(registry_for("oracle"), Place("", ""))
    store.required, store.away, store.checkpoint = True, False, checkpoint
    registry = registry_for("oracle")
    subject = StoreSupervisor(store, registry, settings(), Placements(), log)
    done: list[str] = []

    async def rebuild(what: Rebuild) -> None:
        done.append(what.view)

    async def made(views: Sequence[str], adopted: bool = False) -> dict[str, list[Any]]:
        done.append("started")
        return {view: [SimpleNamespace(name="one", ray_name="one")] for view in views}

    monkeypatch.setattr(subject, "rebuild", rebuild)
    monkeypatch.setattr(subject, "_start_projectors", made)
    await subject.start()
    assert done == [*(registry.views if is_lost else ()), "started"]


async def test_a_store_of_very_many_views_is_not_asked_for_all_of_them_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each query may use its own connection, and Postgres allows a hundred."""
    store: Any = Oracle(registry_for("oracle"), Place("", ""))
    store.away, asking, most = False, 0, 0

    async def furthest(view: ViewDefinition) -> int:
        nonlocal asking, most
        asking += 1
        most = max(most, asking)
        await asyncio.sleep(0)
        asking -= 1
        return 3 if view.name == "199" else 0

    monkeypatch.setattr(store, "furthest", furthest)
    subject = StoreSupervisor(store, registry_for("oracle"), settings(), Placements(), MemoryLog())
    views: Any = {str(number): SimpleNamespace(name=str(number)) for number in range(200)}
    subject._views = views
    monkeypatch.setattr(folded_log, "LAG", 0)
    assert await subject._prepare() == {"199": supervisor.RESTORED}
    assert 1 < most <= supervisor.ASKED


class Projector:
    """An actor that answers, and can be ended."""

    def __init__(self, name: str, views: list[str]) -> None:
        self.name = self.ray_name = name
        self.views = views
        self.ended = False

    async def look(self) -> None:
        """See nothing."""

    async def end(self) -> None:
        self.ended = True


@pytest.mark.parametrize("error", [ReadStoreUnavailable("away"), asyncio.CancelledError()])
async def test_a_scaling_that_fails_at_the_store_can_be_repeated(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Otherwise the keys would be divided again, and nobody would fold the new partitions."""
    cut: list[int] = []
    broken = [error]

    async def partition(views: Sequence[ViewDefinition], number: int) -> None:
        if broken:
            raise broken.pop()
        cut.append(number)

    async def all_answer(handles: Sequence[Any], *, adopted: bool = False) -> None:
        """They do."""

    store: Any = Oracle(registry_for("oracle"), Place("", ""))
    store.partition = partition
    registry, placements = registry_for("oracle"), Placements()
    subject = StoreSupervisor(store, registry, settings(), placements, MemoryLog())
    made: list[Projector] = []

    def projector(views: list[str], partition: int, partitions: int) -> Any:
        made.append(Projector(f"#{partition}of{partitions}", views))
        return made[-1]

    monkeypatch.setattr(supervisor, "answering", all_answer)
    monkeypatch.setattr(subject, "_projector", projector)
    views = [*registry.views]
    placements.keep("oracle", await subject._start_projectors(views))
    before = subject.wanted
    [old] = made
    with pytest.raises(type(error)):
        await subject.scale(views, 2)
    assert subject.wanted == before
    assert [each.name for each in placements.projectors_of("oracle")] == ["#0of1"]
    assert [each.name for each in made if each.ended] == ["#0of2", "#1of2"]
    await subject.scale(views, 2)
    assert [each.name for each in placements.projectors_of("oracle")] == ["#0of2", "#1of2"]
    assert cut == [2]
    assert old.ended


def test_gateways_learn_which_actors_fill_each_store() -> None:
    placements = Placements()
    for store in ("postgres", "redis"):
        handle: Any = SimpleNamespace(name=store, ray_name=f"r:{store}", kind=store, views=["v"])
        placements.keep(store, {"v": [handle]})
    told = placements.routes()
    assert told["projectors"] == {"v": ["r:postgres"]}
    assert told["stores"] == {"redis": {"v": ["r:redis"]}}
    assert [each.name for each in placements.filling("v", "key", "redis")] == ["redis"]
    assert placements.filling("v", None, "oracle") == []
