"""Whatever a domain declares and holds, Redis agrees with the log: also after a restart and a
rebuild, and with poison in it.

`RAYFOLD_MADE_UP=500` tries so many domains.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from eventstore.deletions import with_deletions
from eventstore.memory import MemoryLog
from projections.operations.query_verification import compare_store, sample
from projections.operations.verification import fold_afresh
from projections.redis.store import RedisStore
from projections.stores import runner
from projections.stores.port import Place
from tests.contract.stores.subjects import TIMEOUT, Durable, running
from tests.generated.domains import MadeUp, domains
from tests.integration.projections.test_made_up_domains import append, asks_of, same, traffic
from tests.redis_server import RedisServer

DOMAINS = int(os.environ.get("RAYFOLD_MADE_UP", "15"))

pytestmark = pytest.mark.filterwarnings("ignore:Field name .* shadows")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks is tried again at once."""
    monkeypatch.setattr(runner, "RETRY", 0.01)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


async def follow(
    made: MadeUp, log: MemoryLog, place: Place, partitions: int, rebuild: bool
) -> None:
    """From a start to a stop: come to the log's end, rebuild if asked to, and verify."""
    registry = made.registry
    stops = any(view.on_poison == "stop" for view in registry.views.values())
    store = Durable(log, registry, lambda: RedisStore(registry, place))
    async with running(store, 1 if stops else partitions):
        end = await log.end_position(with_deletions(registry.prefixes))
        await store.reached(end)
        await verify(store, end)
        if rebuild and not any("stopped" in each.status() for each in store.projectors):
            for view in registry.views:
                await store.rebuild(view)
            await store.reached(end)
            await verify(store, end)


async def verify(store: Durable, end: int) -> None:
    assert [each for each in store.parked() if each.by_store] == []
    afresh = await fold_afresh(store.registry, store.log, end)
    for view in store.views:
        table = afresh[view.name]
        asked = sample(table)
        found = await store.snapshot(view.name, asked)
        assert compare_store("redis", table, asked, found, end) == []
        for ask in asks_of(view, table.rows):
            stored = await store.reader.ask(ask, time.monotonic() + TIMEOUT)
            row = table.rows.get(ask.key or "")
            assert same(view, row.json() if row else None, stored.body), ask


@settings(
    max_examples=DOMAINS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    report_multiple_bugs=False,
)
@given(data=st.data())
async def test_redis_agrees_with_the_log(server: RedisServer, data: st.DataObject) -> None:
    made = data.draw(domains())
    commands, old = st.lists(made.commands, max_size=8), st.lists(made.old, max_size=3)
    log, place = MemoryLog(), Place(server.url, uuid4().hex)
    await append(log, data.draw(old))
    await traffic(made, log, data.draw(commands))
    await follow(made, log, place, 1, False)
    await append(log, data.draw(old))
    await traffic(made, log, data.draw(commands))
    await follow(made, log, place, data.draw(st.integers(1, 2)), True)
