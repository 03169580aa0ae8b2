"""Operations on the embedded store's consumer groups can be repeated after a failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from kurrentdbclient.protos.v1 import persistent_pb2

from eventstore.embedded.persistent.consumer import Consumer
from eventstore.embedded.persistent.message import Message
from eventstore.embedded.persistent.settings import GroupSettings, settings_of
from eventstore.embedded.persistent.subsystem import Groups
from eventstore.embedded.persistent.writes import save_checkpoint
from eventstore.embedded.protocol.errors import RpcError
from eventstore.embedded.storage.event import Proposed
from eventstore.embedded.storage.operations import Append
from eventstore.embedded.storage.store import Store

ORIGIN = 3


@dataclass
class Broken:
    """Fails a commit, as a full disk does."""

    def apply(self, transaction: Any) -> None:
        raise OSError("no space left on device")


class FullStore(Store):
    """Commits nothing while its disk is full."""

    full = False

    def submit(self, operation: Any, size: int = 0) -> asyncio.Future[object]:
        return super().submit(Broken() if self.full else operation, size)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FullStore]:
    store = FullStore(tmp_path)
    await store.start()
    yield store
    await store.stop()


@pytest.fixture
async def groups(store: FullStore) -> AsyncIterator[Groups]:
    groups = Groups(store)
    groups.start()
    yield groups
    store.full = False
    await groups.stop()


def settings() -> GroupSettings:
    wire = persistent_pb2.CreateReq.Settings(read_batch_size=1, history_buffer_size=2)
    return settings_of(wire, "$all", "readers", ORIGIN, ORIGIN, "Pinned")


async def test_a_group_whose_deletion_failed_exists_and_can_be_deleted(
    store: FullStore, groups: Groups
) -> None:
    await groups.create(settings())
    await store.submit(save_checkpoint(settings(), 40))
    store.full = True
    with pytest.raises(RpcError):
        await groups.delete("$all", "readers")
    store.full = False
    await groups.delete("$all", "readers")
    await groups.create(settings())  # it begins where it is told to, not where the other was
    assert groups.get("$all", "readers").progress() == ORIGIN - 1


async def test_groups_continue_if_the_restart_of_all_of_them_fails(
    store: FullStore, groups: Groups
) -> None:
    await groups.create(settings())
    store.full = True
    with pytest.raises(RpcError):
        await groups.restart()
    assert not groups.get("$all", "readers")._closed


@pytest.mark.parametrize("after", [0, 1000])
async def test_without_an_interval_checkpoints_depend_only_on_the_number_of_events(
    groups: Groups, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    await groups.create(replace(settings(), checkpoint_after=after, min_checkpoint_count=1))
    group, saved = groups.get("$all", "readers"), []
    monkeypatch.setattr(group, "_save_checkpoint", lambda: saved.append("by time"))
    group._handled = 1
    group.tick(group._checkpointed_at + 3600)
    assert saved == (["by time"] if after else [])


async def test_a_group_that_raises_does_not_prevent_the_answer_to_a_write(
    store: FullStore, groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, looked_again = count(1), asyncio.Event()

    def read(limit: int) -> list[Message]:
        if next(reads) == 2:  # after the write, at a tick
            looked_again.set()
        raise OSError("the disk cannot be read")

    await groups.create(settings())
    group, consumer = groups.get("$all", "readers"), Consumer(10, False, "", "")
    group.join(consumer)
    fine = group.source.read
    monkeypatch.setattr(group.source, "read", read)
    event = Proposed(uuid4().bytes, "Placed", True, b"{}", b"")
    async with asyncio.timeout(30):
        await store.submit(Append("order-1", -1, [event]))
        await looked_again.wait()
        monkeypatch.setattr(group.source, "read", fine)
        [sent] = await consumer.take()
    assert b"order-1" in sent


async def test_a_consumer_is_not_added_if_its_group_raises_as_it_joins(
    groups: Groups, store: FullStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(limit: int) -> list[Message]:
        raise OSError("the disk cannot be read")

    await groups.create(settings())
    event = Proposed(uuid4().bytes, "Placed", True, b"{}", b"")
    await store.submit(Append("order-1", -1, [event]))
    group = groups.get("$all", "readers")
    monkeypatch.setattr(group.source, "read", read)
    with pytest.raises(OSError, match="cannot be read"):
        group.join(Consumer(10, False, "", ""))
    assert group.consumers == []


async def test_an_acknowledgement_examines_no_more_waiting_messages_than_there_is_room_for(
    groups: Groups, store: FullStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = persistent_pb2.CreateReq.Settings(read_batch_size=100, history_buffer_size=500)
    await groups.create(settings_of(wire, "$all", "readers", ORIGIN, ORIGIN, "Pinned"))
    ids = [uuid4().bytes for _ in range(500)]
    events = [Proposed(each, "Placed", True, b"{}", b"") for each in ids]
    await store.submit(Append("order-1", -1, events))
    group = groups.get("$all", "readers")
    gone = Consumer(500, False, "", "")
    group.join(gone)
    group.leave(gone)
    assert len(group.retries) == 500
    group.join(Consumer(1, False, "", ""))
    picked, pick = count(), group._strategy.pick

    def counted(consumers: list[Consumer], message: Message) -> Consumer | None:
        next(picked)
        return pick(consumers, message)

    monkeypatch.setattr(group._strategy, "pick", counted)
    for each in ids[:10]:
        group.ack([each])
    assert next(picked) == 10
    assert [group._find(each) is not None for each in ids[9:12]] == [False, True, False]
    [waiting] = group.outstanding[ids[10]]
    assert group.progress() == waiting.order - 1
