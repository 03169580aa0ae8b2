"""Batches on their way to another process."""

from __future__ import annotations

import asyncio

import pytest

from rayfold.runtime import batching
from rayfold.runtime.batching import Batcher, BatchFull
from tests.unit.stops import a_while, cancelled_twice

FOR_EVER = 1e9
"""Patience: times the duration of a call."""


async def test_calls_are_sent_together_while_one_is_under_way() -> None:
    batches: list[list[int]] = []
    release = asyncio.Event()

    async def send(items: list[int]) -> list[int]:
        batches.append(items)
        await release.wait()
        return [item * 10 for item in items]

    batcher: Batcher[int, int] = Batcher(send, max_batch=3)
    calls = [asyncio.create_task(batcher.call(number)) for number in range(6)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    release.set()
    assert await asyncio.gather(*calls) == [0, 10, 20, 30, 40, 50]
    assert batches[0][0] == 0
    assert [item for batch in batches for item in batch] == list(range(6))
    assert max(map(len, batches)) <= 3


async def test_a_failed_batch_fails_only_its_own_calls() -> None:
    async def send(items: list[int]) -> list[int]:
        if 1 in items:
            raise ValueError("one")
        return items

    batcher: Batcher[int, int] = Batcher(send, max_batch=1)
    first, second = await asyncio.gather(batcher.call(1), batcher.call(2), return_exceptions=True)
    assert isinstance(first, ValueError)
    assert second == 2


async def test_a_full_queue_refuses_at_once() -> None:
    travelling, never = asyncio.Event(), asyncio.Event()

    async def send(items: list[int]) -> list[int]:
        travelling.set()
        await never.wait()
        return items

    batcher: Batcher[int, int] = Batcher(send, max_batch=1, max_queue=1)
    first = asyncio.create_task(batcher.call(1))
    await travelling.wait()
    second = asyncio.create_task(batcher.call(2))
    await asyncio.sleep(0)
    with pytest.raises(BatchFull):
        await batcher.call(3)
    await batcher.close()
    ended = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(end) for end in ended] == [asyncio.CancelledError] * 2


async def test_a_caller_that_calls_again_at_once_is_served() -> None:
    async def send(items: list[int]) -> list[int]:
        return items

    batcher: Batcher[int, int] = Batcher(send, in_flight=1)
    async with asyncio.timeout(10):
        assert [await batcher.call(number) for number in range(5)] == list(range(5))


@pytest.fixture(autouse=True)
def without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only patience bounds a wait here."""
    monkeypatch.setattr(batching, "LONGEST", FOR_EVER)


async def batches_of(patience: float, *, back: int) -> list[list[int]]:
    """The batches when three travel together and so many of them call again."""
    batches: list[list[int]] = []
    travelling, release = asyncio.Event(), asyncio.Event()

    async def send(items: list[int]) -> list[int]:
        batches.append(items)
        travelling.set()
        await release.wait()
        return items

    batcher: Batcher[int, int] = Batcher(send, patience=patience)
    async with asyncio.timeout(10):
        first = asyncio.create_task(batcher.call(0))
        await travelling.wait()
        three = [asyncio.create_task(batcher.call(number)) for number in (1, 2, 3)]
        await asyncio.sleep(0)
        release.set()
        await asyncio.gather(first, *three)
        again = []
        for number in range(4, 4 + back):  # one after the other, as they come over a network
            again.append(asyncio.create_task(batcher.call(number)))
            for _ in range(5):
                await asyncio.sleep(0)
        if back < 3 and patience == FOR_EVER:
            await batcher.close()
        await asyncio.gather(*again, return_exceptions=True)
    return batches


async def test_a_patient_batcher_waits_for_the_callers_that_it_answered() -> None:
    assert await batches_of(FOR_EVER, back=3) == [[0], [1, 2, 3], [4, 5, 6]]


async def test_a_patient_batcher_sends_nothing_before_they_call_again() -> None:
    assert await batches_of(FOR_EVER, back=2) == [[0], [1, 2, 3]]


async def test_a_patient_batcher_stops_waiting_after_a_while() -> None:
    assert await batches_of(1e-9, back=2) == [[0], [1, 2, 3], [4], [5]]


async def test_a_patient_batcher_does_not_wait_for_a_single_caller() -> None:
    async def send(items: list[int]) -> list[int]:
        return items

    batcher: Batcher[int, int] = Batcher(send, patience=FOR_EVER)
    async with asyncio.timeout(10):
        assert [await batcher.call(number) for number in range(5)] == list(range(5))


async def test_callers_that_went_away_are_not_waited_for() -> None:
    travelling, release = asyncio.Event(), asyncio.Event()

    async def send(items: list[int]) -> list[int]:
        travelling.set()
        await release.wait()
        return items

    batcher: Batcher[int, int] = Batcher(send, patience=FOR_EVER)
    async with asyncio.timeout(10):
        first = asyncio.create_task(batcher.call(0))
        await travelling.wait()
        travelling.clear()
        gone = [asyncio.create_task(batcher.call(number)) for number in (1, 2, 3)]
        await asyncio.sleep(0)
        release.set()
        release.clear()
        await first
        await travelling.wait()
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        release.set()
        assert await batcher.call(4) == 4


async def test_a_late_answer_delays_no_other_call() -> None:
    late: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def send(items: list[int]) -> list[int | asyncio.Future[int]]:
        return [late if item == 1 else item * 10 for item in items]

    batcher: Batcher[int, int] = Batcher(send)
    calls = [asyncio.create_task(batcher.call(number)) for number in range(3)]
    async with asyncio.timeout(30):
        assert await calls[0] == 0
        assert await calls[2] == 20
        assert await batcher.call(3) == 30
        assert not calls[1].done()
        late.set_result(11)
        assert await calls[1] == 11


async def test_a_batcher_whose_end_is_cancelled_leaves_nobody_waiting() -> None:
    done: list[int] = []

    async def send(items: list[int]) -> list[int]:
        try:
            await asyncio.Event().wait()
        finally:
            await a_while()
            done.append(len(items))
        return items

    batcher: Batcher[int, int] = Batcher(send, max_batch=1)
    calls = [asyncio.create_task(batcher.call(number)) for number in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await cancelled_twice(batcher.close)
    assert done == [1]
    async with asyncio.timeout(60):
        await asyncio.wait(calls)
    assert all(call.cancelled() for call in calls)
