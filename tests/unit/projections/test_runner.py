"""What fills Postgres runs for ever, in batches, and reports its errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from itertools import pairwise
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.errors import NoSuchPosition
from eventstore.folded_log import FoldedLog
from eventstore.memory import MemoryLog
from eventstore.records import Batch, RawRecord
from projections.errors import Fenced
from projections.postgres.connections import pooled
from projections.stores import runner
from projections.stores.projector_actor import named
from projections.stores.runner import ProjectionRunner
from rayfold import Registry
from tests.integration.projections.small import add


class Over(BaseException):
    """Ends what would go on for ever."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Postgres; what breaks is tried again at once."""

    @asynccontextmanager
    async def pool(*_: Any, **__: Any) -> AsyncIterator[None]:
        yield None

    monkeypatch.setattr(asyncpg, "create_pool", pool)
    monkeypatch.setattr(runner, "RETRY", 0)


def records(first: int, many: int) -> list[RawRecord]:
    return [RawRecord("E", b"{}", b"{}", "s-1", at, at, 0) for at in range(first, first + many)]


async def subscription(*batches: Batch) -> AsyncGenerator[Batch, None]:
    for batch in batches:
        yield batch


async def run(
    subject: ProjectionRunner[Any], *errors: Exception, events: int = 0
) -> list[str | None]:
    """What error it says it has at each attempt, of which each ends in an error."""
    seen: list[str | None] = []
    left = list(errors)

    async def work(_: Any) -> None:
        seen.append(subject.error)
        if not left:
            raise Over
        subject.events += events
        raise left.pop(0)

    with suppress(Over):
        await subject.run(work)
    return seen


@given(sizes=st.lists(st.integers(0, 9), max_size=4), most=st.integers(1, 4))
def test_every_event_comes_once_in_order_and_no_batch_is_too_large(
    sizes: list[int], most: int
) -> None:
    batches, end = [], 0
    for size in sizes:
        batches.append(Batch(records(end + 1, size), end + size + 5, False))
        end += size + 5

    async def pieces() -> list[Batch]:
        return [each async for each in pooled("").batches(subscription(*batches), most)]

    found = asyncio.run(pieces())
    assert [raw for piece in found for raw in piece.records] == [
        raw for batch in batches for raw in batch.records
    ]
    assert all(len(piece.records) <= most for piece in found)
    # Nothing that a piece says is delivered comes after it, and nothing of a batch is forgotten.
    for piece, after in pairwise(found):
        assert all(raw.position <= piece.position for raw in piece.records)
        assert all(raw.position > piece.position for raw in after.records)
    assert {batch.position for batch in batches} <= {piece.position for piece in found}


async def test_it_is_ready_when_the_last_batch_is_finished() -> None:
    subject = pooled("")
    ready = []
    async for _ in subject.batches(subscription(Batch(records(1, 3), 3, True)), 2):
        ready.append(subject.ready.is_set())
    assert ready == [False, False]
    assert subject.status(["a"])["ready"]


async def test_stopping_in_the_middle_closes_the_subscription() -> None:
    subject = pooled("")
    source = subscription(Batch(records(1, 3), 3, True))
    async with aclosing(subject.batches(source, 1)) as batches:
        async for _ in batches:
            break
    assert [each async for each in source] == []
    assert not subject.ready.is_set()


async def test_an_error_is_shown_until_a_batch_is_finished() -> None:
    subject = pooled("")
    assert await run(subject, ValueError("broke")) == [None, "ValueError: broke"]
    assert subject.status(["a"], parked=1) == {
        "views": ["a"],
        "position": 0,
        "ready": False,
        "events": 0,
        "parked": 1,
        "error": "ValueError: broke",
    }
    said = []
    async for _ in subject.batches(subscription(Batch(records(1, 2), 7, True)), 1):
        said.append(subject.error)
    assert said == ["ValueError: broke", None]
    assert subject.status(["a"])["ready"]


async def test_being_fenced_after_some_work_is_not_an_error() -> None:
    assert await run(pooled(""), Fenced("moved"), events=1) == [None, None]


async def test_being_fenced_before_any_work_is_an_error() -> None:
    assert await run(pooled(""), Fenced("moved")) == [None, "Fenced: moved"]


def test_a_projectors_process_is_named_after_what_it_fills_and_never_shows_the_address() -> None:
    registry, dsn = Registry.load("domain"), "postgresql://me:secret@host/shop"
    assert named(registry, ("postgres", dsn, ["order-details"], 0, 1, {})) == (
        "postgres:order-details"
    )
    assert named(registry, ("redis", (dsn,), ["order-details", dsn], 0)) == "redis:order-details"
    assert named(registry, ("order-details", None)) == "order-details"
    assert named(registry, (dsn, [dsn])) == "projector"


async def test_a_checkpoint_that_the_log_lost_stays_lost_until_there_is_a_new_one() -> None:
    """A log that has grown as far again has other events there."""
    log = MemoryLog()
    await add(log, "a", 1)
    folded = FoldedLog(log, ["counter-"])
    subject = pooled("")

    async def first(position: int) -> int:
        async with aclosing(subject.follow(folded, {"totals": position}, 10)) as batches:
            async for batch in batches:
                return batch.position
        raise AssertionError

    with pytest.raises(NoSuchPosition):
        await first(2)
    for _ in range(3):
        await add(log, "a", 1)
    for _ in range(2):
        with pytest.raises(NoSuchPosition):
            await first(2)
    assert await first(1) == 4  # a generation that was built from the log as it is
    assert await first(2) == 4


async def test_a_lost_checkpoint_stops_all_views_that_are_followed_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The log is read from the lowest position, so it would not be asked for the others."""
    monkeypatch.setattr(runner, "RENEW", 0.01)  # nothing runs that would say so
    log = MemoryLog()
    await add(log, "a", 1)
    folded, subject = FoldedLog(log, ["counter-"]), pooled("")
    for _ in range(3):
        with pytest.raises(NoSuchPosition):
            await anext(subject.follow(folded, {"totals": 1, "others": 2, "third": 3}, 10))
        assert subject.status([])["lost"] == ["others", "third"]
        await add(log, "a", 1)
    await subject.renew("others")
    with pytest.raises(NoSuchPosition):
        await anext(subject.follow(folded, {"totals": 1, "others": 2, "third": 3}, 10))
    assert subject.status([])["lost"] == ["third"]
    following = subject.follow(folded, {"totals": 1, "others": 2, "third": 1}, 10)
    assert (await anext(following)).position == 4
    assert "lost" not in subject.status([])


async def test_an_operators_rebuild_makes_a_runner_ask_the_log_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "RENEW", 0.01)
    log = MemoryLog()
    subject = pooled("")
    with pytest.raises(NoSuchPosition):
        await anext(subject.follow(FoldedLog(log, ["counter-"]), {"totals": 1}, 10))
    await add(log, "a", 1)
    await subject.renew("totals")
    assert (await anext(subject.follow(FoldedLog(log, ["counter-"]), {"totals": 1}, 10))).caught_up


async def test_a_node_that_lags_is_asked_again() -> None:
    log = MemoryLog()
    await add(log, "a", 1)

    class Lagging(MemoryLog):
        async def end_position(self, prefixes: Sequence[str] | None) -> int:
            return await log.end_position(prefixes)

    lagging, subject = Lagging(), pooled("")
    with pytest.raises(NoSuchPosition):
        await anext(subject.follow(FoldedLog(lagging, ["counter-"]), {"totals": 1}, 10))
    await add(lagging, "a", 1)
    following = subject.follow(FoldedLog(lagging, ["counter-"]), {"totals": 1}, 10)
    assert (await anext(following)).caught_up
