"""A publication: order, repeats, what is parked, what continues, what is never sent."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from actors.local import LocalRuntime
from actors.processes.checkpoints import lay_out
from actors.processes.runner import ProcessRunner
from eventstore.memory import MemoryLog
from eventstore.port import ANY, AppendResult, JointAppend, StreamAppend
from eventstore.records import NewRecord
from projections.errors import NoSuchPublication
from projections.publications import publisher as publisher_module
from projections.publications.lanes import MOST_IN_LANE
from projections.publications.publisher import MOST_WAITING
from projections.publications.settings import Patience
from tests.unit.projections.publications.papers import (
    BROKEN,
    HASTY,
    REGISTRY,
    AllNews,
    Recording,
    Slow,
    Watch,
    publishing,
    sign,
    until,
)


@pytest.fixture(autouse=True)
def mended() -> Iterator[None]:
    """Let no test leave the handler broken."""
    yield
    BROKEN.clear()


async def test_events_go_out_as_cloud_events_with_an_id_of_their_own() -> None:
    log, receiver = MemoryLog(), Recording()
    async with publishing(log, receiver):
        await sign(log, "a", "one", "two")
        await until(lambda: len(receiver.taken) == 2)
    first, second = receiver.taken
    assert first["id"] != second["id"]
    assert first["data"] == {"name": "a", "text": "one"}
    wanted = {"specversion": "1.0", "source": "/test", "type": "papers.signature", "subject": "a"}
    assert {name: first[name] for name in wanted} == wanted
    assert first["datacontenttype"] == "application/json"
    assert first["dataversion"] == "1"
    assert first["traceparent"] == "00-1-2-01"
    assert first["correlationid"] == "c"
    assert first["time"].endswith("Z")
    assert first["sequence"] < second["sequence"]


async def test_a_new_publication_begins_with_what_happens_from_then_on() -> None:
    log, receiver = MemoryLog(), Recording()
    await sign(log, "a", "before")
    async with publishing(log, receiver):
        await sign(log, "a", "after")
        await until(lambda: receiver.taken)
    assert receiver.texts("a") == ["after"]


async def test_a_publication_with_that_option_begins_at_the_start_of_the_log() -> None:
    log, receiver = MemoryLog(), Recording()
    await sign(log, "a", "before")
    async with publishing(log, receiver, AllNews.__rayfold__):
        await sign(log, "a", "after")
        await until(lambda: len(receiver.taken) == 2)
    assert receiver.texts("a") == ["before", "after"]


async def test_a_restarted_publication_publishes_nothing_again() -> None:
    log, receiver = MemoryLog(), Recording()
    async with publishing(log, receiver):
        await sign(log, "a", "one")
        await until(lambda: receiver.taken)
    async with publishing(log, receiver):
        await sign(log, "a", "two")
        await until(lambda: len(receiver.taken) > 1)
    assert receiver.texts("a") == ["one", "two"]


async def test_the_order_of_a_key_is_kept_whatever_fails() -> None:
    log, receiver, chance = MemoryLog(), Recording(), random.Random(1)
    receiver.refuse = lambda told: "no" if chance.random() < 0.3 else ""
    numbers = [str(number) for number in range(20)]
    async with publishing(log, receiver, patience=Patience(0.001, 0.01, 60.0, 3600.0)):
        for number in numbers:
            for key in "abcdefgh":
                await sign(log, key, number)
        await until(lambda: len(receiver.taken) == 8 * 20)
    for key in "abcdefgh":
        assert receiver.texts(key) == numbers


async def test_a_key_that_is_not_accepted_is_parked_and_all_others_go_on() -> None:
    log, receiver = MemoryLog(), Recording()
    receiver.refuse = lambda told: "not this one" if told["subject"] == "bad" else ""
    async with publishing(log, receiver) as publisher:
        await sign(log, "bad", "1", "2")
        await sign(log, "good", "1")
        await until(lambda: publisher.parked and receiver.texts("good"))
        await sign(log, "bad", "3")
        await sign(log, "good", "2")
        await until(lambda: len(receiver.texts("good")) == 2)
        [parked] = publisher.parked.values()
        assert (parked.key, parked.stream, parked.revision) == ("bad", "paper-bad", 0)
        assert parked.error == "not this one"
        assert publisher.status()["parked"] == 1
        # Nothing holds up the checkpoint, and what is parked is known to the next one.
        await until(lambda: publisher.position >= 5)
    async with publishing(log, receiver) as publisher:
        assert [each.key for each in publisher.parked.values()] == ["bad"]
        assert await publisher.retry("bad") == {"released": 0, "parked": 1}
        receiver.refuse = lambda told: ""
        assert await publisher.retry() == {"released": 1, "parked": 0}
        await sign(log, "bad", "4")
        await until(lambda: len(receiver.texts("bad")) == 4)
    assert receiver.texts("bad") == ["1", "2", "3", "4"]
    assert receiver.texts("good") == ["1", "2"]
    async with publishing(log, receiver) as publisher:
        assert publisher.parked == {}


async def test_a_parked_key_that_fails_later_is_parked_there() -> None:
    log, receiver = MemoryLog(), Recording()
    receiver.refuse = lambda told: "no"
    async with publishing(log, receiver) as publisher:
        await sign(log, "a", "1", "2", "3")
        await until(lambda: publisher.parked)
        receiver.refuse = lambda told: "no" if told["data"]["text"] == "3" else ""
        assert await publisher.retry("a") == {"released": 0, "parked": 1}
        assert [each.revision for each in publisher.parked.values()] == [2]
    assert receiver.texts("a") == ["1", "2"]


async def test_a_parked_key_continues_by_itself_once_it_is_accepted_again() -> None:
    log, receiver = MemoryLog(), Recording()
    receiver.refuse = lambda told: "down"
    async with publishing(log, receiver, patience=Patience(0.001, 0.01, 0.02, 0.05)) as publisher:
        for key in "abcdef":
            await sign(log, key, "1", "2")
        await until(lambda: len(publisher.parked) == 6)
        receiver.refuse = lambda told: ""
        await until(lambda: not publisher.parked)
    for key in "abcdef":
        assert receiver.texts(key) == ["1", "2"]


async def test_released_keys_and_keys_that_fail_again_are_recorded_together() -> None:
    """With a hundred thousand keys, one append each took minutes and blocked everything."""

    class Counting(MemoryLog):
        parks = 0

        async def append(self, appends: Sequence[StreamAppend | JointAppend]) -> list[AppendResult]:
            if any(
                isinstance(each, StreamAppend) and each.stream == "rayfold-unpublished-news"
                for each in appends
            ):
                self.parks += 1
            return await super().append(appends)

    log, receiver = Counting(), Recording()
    receiver.refuse = lambda told: "not now"
    keys = [f"key-{number}" for number in range(40)]
    async with publishing(log, receiver) as publisher:
        for key in keys:
            await sign(log, key, "one")
        await until(lambda: len(publisher.parked) == len(keys))
        await until(lambda: log.parks == len(keys))
        assert await publisher.retry() == {"released": 0, "parked": len(keys)}
        again = log.parks - len(keys)
        receiver.refuse = lambda told: ""
        assert await publisher.retry() == {"released": len(keys), "parked": 0}
        assert log.parks == len(keys) + again + 1
        assert again <= 2  # the log was read in so many pieces
    async with publishing(log, receiver) as publisher:
        assert publisher.parked == {}
    assert {told["subject"] for told in receiver.taken} == {*keys}


async def test_events_that_come_while_a_key_is_released_stay_in_order() -> None:
    log, receiver = MemoryLog(), Recording()
    receiver.refuse = lambda told: "down"
    async with publishing(log, receiver) as publisher:
        await sign(log, "a", *map(str, range(50)))
        await until(lambda: publisher.parked)
        receiver.refuse = lambda told: ""
        releasing = asyncio.create_task(publisher.retry("a"))
        for number in range(50, 100):
            await sign(log, "a", str(number))
            await asyncio.sleep(0)
        assert await releasing == {"released": 1, "parked": 0}
        await until(lambda: len(receiver.taken) == 100)
    assert receiver.texts("a") == [str(number) for number in range(100)]


async def test_a_receiver_that_is_down_stops_the_reading_of_the_log() -> None:
    log, receiver = MemoryLog(), Recording()
    receiver.refuse = lambda told: "down"
    patient = Patience(0.01, 0.05, 3600.0, 3600.0)
    keys = [f"{number}" for number in range(MOST_WAITING + 500)]
    async with publishing(log, receiver, patience=patient) as publisher:
        for key in keys:
            await sign(log, key, "1")
        await until(lambda: publisher.status()["waiting"] >= MOST_WAITING)
        assert publisher.status()["waiting"] == MOST_WAITING
        assert publisher.position == 1  # its own first checkpoint, and no paper
        assert "down" in publisher.status()["error"]
        receiver.refuse = lambda told: ""
        await until(lambda: len(receiver.taken) == len(keys))
    assert sorted(receiver.texts(key)[0] for key in keys) == ["1"] * len(keys)


async def test_a_key_with_very_many_waiting_events_is_parked_sooner() -> None:
    log, receiver = MemoryLog(), Recording()
    receiver.refuse = lambda told: "no" if told["subject"] == "hot" else ""
    patient = Patience(60.0, 60.0, 3600.0, 3600.0)
    async with publishing(log, receiver, patience=patient) as publisher:
        await sign(log, "hot", *map(str, range(MOST_IN_LANE + 2)))
        await until(lambda: publisher.parked)
        await sign(log, "cold", "1")
        await until(lambda: receiver.texts("cold"))


async def test_a_key_parked_for_its_many_events_is_tried_again_as_any_other() -> None:
    log, receiver = MemoryLog(), Slow()
    texts = [*map(str, range(MOST_IN_LANE + 2))]
    async with publishing(
        log, receiver, patience=Patience(0.001, 0.01, 3600.0, 3600.0)
    ) as publisher:
        await sign(log, "hot", *texts)
        await until(lambda: publisher.status()["waiting"] == len(texts))
        receiver.refuse = lambda told: (
            "not now" if told["data"]["text"] == "9" and receiver.attempts["hot"] == 10 else ""
        )
        receiver.may.set()
        await until(lambda: publisher.parked or len(receiver.taken) == len(texts))
    assert receiver.texts("hot") == texts


async def test_a_handler_that_raises_parks_the_later_events_of_that_stream() -> None:
    log, receiver = MemoryLog(), Recording()
    BROKEN.add("bad")
    async with publishing(log, receiver) as publisher:
        await sign(log, "a", "1", "bad", "3")
        await sign(log, "b", "1")
        await until(lambda: receiver.texts("b") and receiver.texts("a"))
        [parked] = publisher.parked.values()
        assert (parked.key, parked.stream, parked.revision) == ("", "paper-a", 1)
        assert "breaks on bad" in parked.error
        assert await publisher.retry("paper-a") == {"released": 0, "parked": 1}
        BROKEN.clear()
        assert await publisher.retry("paper-a") == {"released": 1, "parked": 0}
        await sign(log, "a", "4")
        await until(lambda: len(receiver.texts("a")) == 4)
    assert receiver.texts("a") == ["1", "bad", "3", "4"]


async def test_a_range_is_published_again_with_the_same_ids() -> None:
    log, receiver = MemoryLog(), Recording()
    async with publishing(log, receiver) as publisher:
        await sign(log, "a", "1", "2")
        await sign(log, "b", "1", "2")
        await until(lambda: len(receiver.taken) == 4)
        before = receiver.taken[:]
        assert await publisher.replay(0, 10**9) == {"published": 4, "failed_keys": 0}
        assert sorted(each["id"] for each in receiver.taken[4:]) == sorted(e["id"] for e in before)
        assert [each for each in receiver.taken[4:] if each["subject"] == "a"] == [
            each for each in before if each["subject"] == "a"
        ]
        assert await publisher.replay(1, 3) == {"published": 2, "failed_keys": 0}
        assert await publisher.replay(10**9, 2**63 - 1) == {"published": 0, "failed_keys": 0}
        assert await publisher.replay(3, 2) == {"published": 0, "failed_keys": 0}
        assert await publisher.replay(0, 10**9, "b") == {"published": 2, "failed_keys": 0}
        receiver.refuse = lambda told: "no" if told["subject"] == "b" else ""
        assert await publisher.replay(0, 10**9) == {"published": 2, "failed_keys": 1}
        assert publisher.parked == {}


async def test_releasing_a_key_that_is_not_parked_is_an_error() -> None:
    log, receiver = MemoryLog(), Recording()
    async with publishing(log, receiver) as publisher:
        assert await publisher.retry() == {"released": 0, "parked": 0}
        with pytest.raises(NoSuchPublication, match="under 'a'"):
            await publisher.retry("a")


async def test_a_log_that_is_down_for_a_while_loses_nothing() -> None:
    log, receiver = MemoryLog(), Recording()
    async with publishing(log, receiver) as publisher:
        await sign(log, "a", "1")
        await until(lambda: receiver.taken)
        receiver.refuse = lambda told: "no"
        await sign(log, "a", "2")
        log.down = True
        await until(lambda: "down" in publisher.status().get("error", ""))
        log.down = False
        receiver.refuse = lambda told: ""
        await until(lambda: publisher.ready)
        await until(lambda: not publisher.parked or publisher.status()["waiting"] == 0)
        await publisher.retry()
        await until(lambda: len(set(receiver.texts("a"))) == 2)


async def test_what_a_process_publishes_goes_out_once_it_is_on_the_log() -> None:
    log, receiver = MemoryLog(), Recording()
    writes = LocalRuntime(REGISTRY, log)
    layout = await lay_out(log, "watch", 1, REGISTRY.prefixes)
    process = ProcessRunner(REGISTRY, Watch.__rayfold__, log, writes.bus, layout=layout)
    await process.start()
    async with publishing(log, receiver):
        await sign(log, "a", "one")
        await until(lambda: len(receiver.taken) == 2)
    await process.stop()
    kinds = {told["type"]: told["data"] for told in receiver.taken}
    assert kinds == {
        "papers.signature": {"name": "a", "text": "one"},
        "papers.seen": {"name": "a"},
    }


async def test_a_crash_at_any_moment_repeats_but_keeps_ids_and_order() -> None:
    log, receiver, chance = MemoryLog(), Recording(), random.Random(2)
    receiver.refuse = lambda told: "no" if chance.random() < 0.4 else ""
    keys, written = "abcd", dict.fromkeys("abcd", 0)
    hasty = Patience(0.001, 0.005, 0.01, 0.02)
    async with publishing(log, receiver):
        pass
    for _ in range(15):
        async with publishing(log, receiver, patience=hasty) as publisher:
            publisher._records.save = _not_saved  # type: ignore[method-assign, assignment]
            for key in keys:
                await sign(log, key, str(written[key]))
                written[key] += 1
            for _ in range(chance.randrange(30)):
                await asyncio.sleep(0)
    receiver.refuse = lambda told: ""
    async with publishing(log, receiver, patience=HASTY) as publisher:
        await publisher.retry()
        for key in keys:
            wanted = [str(number) for number in range(written[key])]
            await until(partial(_has, receiver, key, wanted))
            assert list(dict.fromkeys(receiver.texts(key))) == wanted
    ids: dict[str, Any] = {}
    for told in receiver.taken:
        assert ids.setdefault(told["id"], told) == told


def _has(receiver: Recording, key: str, texts: list[str]) -> bool:
    return {*receiver.texts(key)} == {*texts}


async def _not_saved(position: int) -> None:
    """Save no checkpoint in the end, as a killed process would."""


@pytest.mark.parametrize("ahead", [0.0, 3600.0])
async def test_its_lag_is_what_its_receiver_has_not_accepted_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    """Also where the event store's clock is ahead of ours."""
    clock = SimpleNamespace(monotonic=time.monotonic, time=lambda: time.time() - ahead)
    monkeypatch.setattr(publisher_module, "time", clock)
    log, receiver = MemoryLog(), Recording()
    receiver.refuse = lambda told: "not now"
    async with publishing(log, receiver, patience=Patience(0.001, 0.01, 60.0, 3600.0)) as publisher:
        await until(lambda: publisher.ready)
        # Of a type that it does not carry: the log grows, and it has nothing to do.
        other = NewRecord("Unseen", b"{}", {}, str(uuid4()))
        await log.append([StreamAppend("paper-other", ANY, [other])])
        status = publisher.status()
        assert (status["behind"], status["behind_seconds"]) == (0, 0.0)
        await sign(log, "a", "1", "2")
        await until(lambda: publisher.status()["waiting"] == 2)
        await until(lambda: publisher.status()["behind_seconds"] > 0)
        assert publisher.status()["behind"] > 0
        receiver.refuse = lambda told: ""
        await until(lambda: receiver.texts("a") == ["1", "2"])
        await until(lambda: not publisher.status()["behind"])


async def test_parked_keys_are_reported_with_since_when() -> None:
    log, receiver = MemoryLog(), Recording()
    receiver.refuse = lambda told: "no"
    async with publishing(log, receiver) as publisher:
        assert "parked_since" not in publisher.status()
        await sign(log, "a", "1")
        await until(lambda: publisher.parked)
        [parked] = publisher.parked.values()
        assert publisher.status()["parked_since"] == parked.at


class GoneAway(MemoryLog):
    """A store that died, for one that is cancelled: see `eventstore.kurrentdb.connection`."""

    async def append(self, appends: Sequence[StreamAppend | JointAppend]) -> list[AppendResult]:
        task = asyncio.current_task()
        if self.down and task is not None and task.cancelling():
            raise asyncio.CancelledError
        return await super().append(appends)


async def test_the_receiver_is_closed_even_if_the_store_is_down() -> None:
    log, receiver = GoneAway(), Recording()
    async with publishing(log, receiver):
        await sign(log, "a", "1")
        await until(lambda: receiver.taken)
        log.down = True
    assert receiver.closed


async def test_an_unexpected_error_of_a_receiver_parks_only_its_key() -> None:
    log, receiver = MemoryLog(), Recording()

    def breaks(told: dict[str, Any]) -> str:
        if told["subject"] == "bad":
            raise OverflowError("a number too large")
        return ""

    receiver.refuse = breaks
    async with publishing(log, receiver) as publisher:
        await sign(log, "bad", "1")
        await sign(log, "good", "1")
        await until(lambda: publisher.parked and receiver.texts("good"))
        [parked] = publisher.parked.values()
        assert (parked.key, parked.error) == ("bad", "OverflowError: a number too large")
        await until(lambda: publisher.position >= 2)
        receiver.refuse = lambda told: ""
        await publisher.retry()
        assert receiver.texts("bad") == ["1"]
