"""Which rows and streams a store parks, for how long, and how they are replayed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from eventstore.port import ANY, StreamAppend
from eventstore.records import NewRecord
from projections.errors import UnknownTarget
from projections.stores.port import ReadStore
from tests.contract.stores.checks import differences, told
from tests.contract.stores.faults import Refusing
from tests.contract.stores.questions import Under, one, painted
from tests.contract.stores.shelf import (
    Painted,
    Put,
    Shelf,
    write,
)
from tests.contract.stores.subjects import Durable, running

LARGE_NAME = "".join(hashlib.sha256(b"%d" % at).hexdigest() for at in range(150))
"""One that no store makes much smaller."""


async def test_a_row_that_fails_is_parked_with_its_later_events_and_no_other_row_is(
    subject: Under,
) -> None:
    log, store = subject
    Shelf.broken = {"black"}
    async with running(store):
        end = await write(
            log,
            Put(id="a", name="tea"),
            Painted(id="a", colour="black"),
            Painted(id="a", colour="red"),
            Put(id="b", name="tea"),
            Painted(id="b", colour="red"),
        )
        await store.reached(end)
        assert told(store.parked()) == {("shelf", "a", 1)}
        assert await painted(store, "a", end) == 0
        assert await painted(store, "b", end) == 1
        assert await differences(log, store) == []


async def test_what_is_parked_outlives_a_restart_and_is_replayed_in_order(
    durable: Durable,
) -> None:
    log = durable.log
    Shelf.broken = {"black"}
    await durable.start()
    await write(log, Put(id='a "\n', name="tea"), Painted(id='a "\n', colour="black"))
    end = await write(log, Painted(id='a "\n', colour="red"), Put(id="b", name="tea"))
    await durable.reached(end)
    await durable.end()
    [projector] = durable.begin()
    end = await write(log, Painted(id='a "\n', colour="blue"))
    await durable.reached(end)
    assert told(durable.parked()) == {("shelf", 'a "\n', 1)}
    assert not await projector.replay("shelf", 'a "\n')
    assert told(durable.parked()) == {("shelf", 'a "\n', 1)}
    Shelf.broken = set()
    assert await projector.replay("shelf", 'a "\n')
    assert durable.parked() == []
    row = json.loads((await durable.ask(one('a "\n', end))).body or b"")
    assert (row["painted"], row["colour"]) == (3, "blue")
    with pytest.raises(UnknownTarget):
        await projector.replay("shelf", 'a "\n')
    await durable.end()
    durable.begin()
    await durable.reached(await write(log, Painted(id='a "\n', colour="green")))
    assert durable.parked() == []
    assert await differences(log, durable) == []
    await durable.close()


STRANGE = [
    "thing-nul\0",
    "thing-\x1a0000 \x1a",
    "thing-\U0010ffff\uffff\x7f\r\n'\"\\",
    f"thing-{LARGE_NAME * 6}",
]
"""Streams that another client of the log may write to."""


@pytest.mark.parametrize("stream", STRANGE, ids=["nul", "escape", "controls", "long"])
async def test_what_is_parked_of_a_stream_of_any_name_outlives_a_restart_and_is_replayed(
    durable: Durable, stream: str
) -> None:
    log = durable.log
    Shelf.broken = {"black"}
    await durable.start()
    await write(log, Put(id="a", name="tea"))
    await write(log, Painted(id="a", colour="black"), Painted(id="a", colour="red"), stream=stream)
    await log.append([StreamAppend(stream, ANY, [NewRecord("Whatever", b"{}", {}, str(uuid4()))])])
    end = await write(log, Put(id="b", name="tea"))
    await durable.reached(end)
    expected = {("shelf", "a", 0, stream), ("shelf", "", 2, stream), ("colours", "", 2, stream)}
    for _ in range(2):
        found = {(each.view, each.key, each.revision, each.stream) for each in durable.parked()}
        assert found == expected
        assert (await durable.ask(one("b", end))).body is not None
        await durable.end()
        [projector] = durable.begin()
        await durable.reached(end)
    Shelf.broken = set()
    assert await projector.replay("shelf", "a")
    assert await painted(durable, "a", end) == 2
    await log.delete_stream(stream)
    await durable.reached(await write(log, Put(id="c", name="tea")))
    assert durable.parked() == []
    await durable.close()


@pytest.mark.parametrize("key", ["nul\0", "\x1a0000 \x1a", "\U0010ffff\uffff\x7f\r\n'\"\\"])
async def test_a_row_of_any_key_is_written_or_parked_and_the_others_go_on(
    durable: Durable, key: str
) -> None:
    log = durable.log
    await durable.start()
    end = await write(
        log,
        Put(id=key, name=key, colour=key),
        Painted(id=key, colour=key),
        Painted(id=key, colour="red"),
        Put(id="b", name="tea"),
    )
    await durable.reached(end)
    for _ in range(2):
        answer = await durable.ask(one(key, end))
        if durable.name == "postgres" and "\0" in key:
            assert told(durable.parked()) == {("shelf", key, 0), ("colours", key, 1)}
            assert answer.body is None
        else:
            assert durable.parked() == []
            assert json.loads(answer.body or b"")["painted"] == 2
            assert await differences(log, durable) == []
        assert (await durable.ask(one("b", end))).body is not None
        await durable.end()
        durable.begin()
        await durable.reached(end)
    await durable.close()


async def test_a_replay_that_fails_at_another_event_parks_the_row_there(durable: Durable) -> None:
    log = durable.log
    Shelf.broken = {"black", "grey"}
    async with running(durable):
        colours = ("black", "red", "grey", "blue")
        events = [Painted(id="a", colour=each) for each in colours]
        end = await write(log, Put(id="a", name="tea"), *events)
        await durable.reached(end)
        Shelf.broken = {"grey"}
        [projector] = durable.projectors
        assert not await projector.replay("shelf", "a")
        assert told(durable.parked()) == {("shelf", "a", 3)}
        assert await painted(durable, "a", end) == 2
        Shelf.broken = set()
        assert await projector.replay("shelf", "a")
        assert await painted(durable, "a", end) == 4


async def test_many_rows_are_replayed_together_and_each_as_if_it_were_alone(
    durable: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, keys = durable.log, ["a", "b", "c", 'd "\n']
    Shelf.broken = {"black", "grey"}
    async with running(durable):
        for key in keys:
            colours = ("black", "grey" if key == "b" else "red", "blue")
            events = [Painted(id=key, colour=each) for each in colours]
            end = await write(log, Put(id=key, name="tea"), *events)
        await durable.reached(end)
        [projector] = durable.projectors
        before = {("shelf", key, 1) for key in keys}
        assert told(durable.parked()) == before
        writer, begun = projector._writer, list[Any]()
        assert writer is not None
        begin = writer.transaction

        def noted(to: Any) -> Any:
            begun.append(to)
            return begin(to)

        monkeypatch.setattr(writer, "transaction", noted)
        Shelf.broken = {"grey"}
        await projector.replay_all("shelf", [*keys, "nobody"])
        assert begun == [{}]
        assert told(durable.parked()) == {("shelf", "b", 2)}
        for key in keys:
            assert await painted(durable, key, end) == (1 if key == "b" else 3)
        Shelf.broken = set()
        await projector.replay_all("shelf", keys)
        assert durable.parked() == []
        assert await painted(durable, "b", end) == 3
        assert await differences(log, durable) == []


async def test_a_row_that_the_store_refuses_is_parked_and_the_others_go_on(
    durable: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_large_names(durable, monkeypatch)
    log = durable.log
    async with running(durable):
        end = await write(
            log,
            Put(id="a", name="tea"),
            Put(id="b", name=LARGE_NAME),
            Painted(id="b", colour="red"),
            Painted(id="a", colour="red"),
        )
        await durable.reached(end)
        [parked] = durable.parked()
        assert (parked.key, parked.by_store) == ("b", True)
        assert await painted(durable, "a", end) == 1
        assert (await durable.ask(one("b", end))).body is None


def refuse_large_names(durable: Durable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Postgres' own indexes refuse such a value; of others it is arranged."""
    if durable.name == "redis":
        monkeypatch.setattr("projections.redis.rows.MAX_ROW", 4_000)
    elif durable.name == "dynamodb":
        monkeypatch.setattr("projections.dynamodb.rows.MAX_ROW", 4_000)
    elif durable.name != "postgres":
        wrap_refusing(durable)


def wrap_refusing(durable: Durable) -> None:
    """Let every transaction refuse names of thousands of letters."""
    before = durable._wrapped

    def wrapped(store: ReadStore) -> ReadStore:
        return Refusing(before(store))  # type: ignore[return-value]

    durable._wrapped = wrapped


async def test_rows_of_a_deleted_stream_go_with_what_is_parked_of_them(subject: Under) -> None:
    log, store = subject
    Shelf.broken = {"black"}
    async with running(store):
        await write(log, Put(id="a", name="tea"), Painted(id="a", colour="black"))
        await store.reached(await write(log, Painted(id="a", colour="red"), Put(id="b", name="n")))
        assert told(store.parked()) == {("shelf", "a", 1)}
        await log.delete_stream("thing-a")
        end = await write(log, Put(id="b", name="tea"))
        await store.reached(end)
        assert store.parked() == []
        assert (await store.ask(one("a", end))).body is None
        assert (await store.ask(one("b", end))).body is not None


@pytest.mark.parametrize("missing", ["name", "size", ""])
async def test_a_row_that_a_fold_built_without_validation_is_parked(
    durable: Durable, missing: str
) -> None:
    view = durable.registry.views["shelf"]
    begin = view.folds[Put]

    def put(event: Put) -> Shelf:
        fields: dict[str, Any] = {"name": "n", "colour": None, "size": 1, "painted": 0}
        if event.id == "bad":
            fields["painted"] = object()
            fields.pop(missing, None)
        return Shelf.model_construct(id=event.id, **fields)

    folds = {**view.folds, Put: replace(begin, apply=put)}
    vars(view)["folds"] = folds
    log = durable.log
    async with running(durable):
        end = await write(log, Put(id="bad", name="n"), Put(id="good", name="n"))
        await durable.reached(end)
        assert [(each.view, each.key) for each in durable.parked()] == [("shelf", "bad")]
        assert (await durable.ask(one("good", end))).body is not None
        assert (await durable.ask(one("bad", end))).body is None
